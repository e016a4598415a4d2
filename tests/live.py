"""A real server process for tests: real HTTP, real files, real signals."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KEY = "sk-test-key-of-the-first-project"
OTHER_KEY = "sk-test-key-of-another-project"
_URL = re.compile(r"http://[^/ ]+/v1")


@dataclass
class LiveServer:
    """A running server: `base_url` ends with ``/v1``."""

    base_url: str
    root_url: str
    process: subprocess.Popen[str]
    folder: Path

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.root_url.rsplit(":", 1)[1])

    def log(self) -> str:
        """What the server wrote to stderr so far."""
        return (self.folder / "stderr.log").read_text(encoding="utf-8")


@contextlib.contextmanager
def serve(
    folder: Path, toml: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[LiveServer]:
    """Start ``antiphon serve`` in `folder` on a free port; stop it with SIGTERM."""
    config = folder / "antiphon.toml"
    if toml is not None:
        config.write_text(toml, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(folder),
        "ANTIPHON_PORT": "0",
        "ANTIPHON_API_KEYS": f"{KEY}:first,{OTHER_KEY}:other",
        "ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/antiphon.db",
        "ANTIPHON_CONFIG": str(config),
        "ANTIPHON_DISCOVER": "false",
        "ANTIPHON_SHUTDOWN_GRACE": "2",
        **(env or {}),
    }
    with (folder / "stderr.log").open("a") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "antiphon.cli", "serve"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        base_url = _base_url(process.stdout, folder)
        yield LiveServer(base_url, base_url.removesuffix("/v1"), process, folder)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _base_url(stdout: IO[str], folder: Path) -> str:
    for line in stdout:
        if found := _URL.search(line):
            return found.group()
    log = (folder / "stderr.log").read_text(encoding="utf-8")
    raise AssertionError(f"the server did not start:\n{log}")


CHAT_TOML = """
[[backends]]
name = "upstream"
kind = "chat_completions"
base_url = "{base_url}"
models = ["*"]

[[backends]]
name = "simulator"
kind = "simulator"
models = ["simulator"]
"""
