"""What the start of a server loads: a library that is not needed takes megabytes for nothing."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.api.talk import client_of, error_of
from tests.live import serve

#: What is loaded when it is needed first (``LAZY`` in tests/test_architecture.py). The resident
#: memory of `antiphon serve` would grow by as many MB as stand behind some of them.
LATE: Final = (
    *("aiohttp", "alembic", "cryptography", "jsonschema_rs", "yaml"),  # 8, 10, 7, 3, 1
    *("PIL", "any_llm", "bpe_openai", "ddgs", "httpx2", "llguidance", "lxml", "mako", "mcp"),
    *(
        "numpy",
        "obstore",
        "sqlalchemy.dialects.postgresql",
        "trafilatura",
        "websockets",
        "xllamacpp",
        "zmq",
    ),
)

#: Adapters that the configuration has none of.
UNUSED: Final = (
    *("antiphon.backends.anthropic.backend", "antiphon.backends.any_llm"),
    "antiphon.backends.gemini.backend",
)
#: What a library of ours, or one that we left (decision 0016), would bring along.
NEVER: Final = ("fastapi", "opentelemetry", "pydantic.v1", "typer")

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
    assert [name for name in LATE + UNUSED + NEVER if name in loaded] == []


def test_a_server_is_small_at_start(tmp_path: Path) -> None:
    """Design §7: at most 90 MB, here with some for libraries of tests, and other Pythons."""
    with serve(tmp_path) as live:
        assert live.memory() < 100e6


def test_the_first_bodies_of_a_kind_may_come_together(tmp_path: Path) -> None:
    """What checks them is built when they come (`protocol.fields.WITH_ITEMS`), once or more."""
    body = {"items": [{"role": "user", "content": "Hello"}], "metadata": {"a": "b"}}
    with serve(tmp_path) as live, client_of(live) as client, ThreadPoolExecutor(12) as threads:
        made = [threads.submit(client.post, "/v1/conversations", json=body) for _ in range(12)]
        bad = threads.submit(client.post, "/v1/conversations", json={"items": [{"type": "x"}]})
        answers = [one.result() for one in made]
        ids = {answer.json()["id"] for answer in answers}
        items = client.get(f"/v1/conversations/{ids.pop()}/items").json()["data"]
    assert [answer.status_code for answer in answers] == [200] * 12
    assert len(ids) == 11
    assert [item["content"][0]["text"] for item in items] == ["Hello"]
    assert error_of(bad.result())["param"] == "items[0].type"
