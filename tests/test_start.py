"""What the start of a server loads: a library that is not needed takes megabytes for nothing."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

#: What is loaded when it is needed first (``LAZY`` in tests/test_architecture.py). The resident
#: memory of `antiphon serve` would grow by as many MB as stand behind some of them.
LATE: Final = (
    *("aiohttp", "alembic", "cryptography", "jsonschema_rs", "yaml"),  # 8, 10, 7, 3, 1
    *("PIL", "any_llm", "bpe_openai", "ddgs", "httpx2", "llguidance", "lxml", "mako", "mcp"),
    *("numpy", "obstore", "sqlalchemy.dialects.postgresql", "trafilatura", "xllamacpp", "zmq"),
)

PROGRAM: Final = """
    import asyncio, sys
    import antiphon.cli
    from antiphon.app import Antiphon
    from antiphon.settings import Settings

    async def main():
        async with Antiphon(Settings()).working():
            pass

    asyncio.run(main())
    print(*sys.modules)
"""


def test_a_start_loads_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    """Neither the first one, which makes the database."""
    url = f"sqlite+aiosqlite:///{tmp_path}/antiphon.db"
    environment = {name: value for name, value in os.environ.items() if "ANTIPHON" not in name}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": ":".join(sys.path), "ANTIPHON_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "antiphon.cli.serve" in loaded
    assert [name for name in LATE if name in loaded] == []
