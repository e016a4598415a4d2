"""Real processes for tests: real HTTP, real files, real signals.

Rules
1. Processes of one folder share its configuration and its database; what they write to stderr is in
   ``stderr.log`` there.
2. `serve` and `work` stop what they started, with SIGTERM; a process that a test has ended itself
   (`LiveProgram.kill`) is left alone.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEY = "sk-test-key-of-the-first-project"
OTHER_KEY = "sk-test-key-of-another-project"
_URL = re.compile(r"http://[^/ ]+/v1")
_WORKS = re.compile(r"^Antiphon ")
#: The command line; a module with the same commands can stand in for it.
PROGRAM: Final = "antiphon.cli"


@dataclass
class LiveProgram:
    """A running process that works in `folder`."""

    process: subprocess.Popen[str]
    folder: Path

    def log(self) -> str:
        """What the processes of the folder wrote to stderr so far."""
        return (self.folder / "stderr.log").read_text(encoding="utf-8")

    def memory(self, name: str = "VmRSS") -> int:
        """Bytes that the process itself has now; ``VmHWM``: the most that it ever had (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def kill(self) -> None:
        """``kill -9``: it ends here and now."""
        self.process.kill()
        self._reap(10)

    def stop(self) -> None:
        """SIGTERM, and what it takes."""
        self.process.terminate()
        try:
            self._reap(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait_for_url(self) -> str:
        """Where it listens, once it does."""
        return self.wait_for(_URL)

    def wait_for(self, pattern: re.Pattern[str]) -> str:
        """What it prints that looks like this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := pattern.search(line):
                return found.group()
        raise AssertionError(f"it did not start:\n{self.log()}")

    def _reap(self, seconds: float) -> None:
        self.process.wait(timeout=seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass
class LiveServer(LiveProgram):
    """A running server: `base_url` ends with ``/v1``."""

    base_url: str
    root_url: str

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.root_url.rsplit(":", 1)[1])


def launch(
    folder: Path,
    command: Sequence[str],
    toml: str | None = None,
    env: Mapping[str, str] | None = None,
) -> LiveProgram:
    """Start ``python -m command`` in `folder`; who starts it ends it."""
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
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    return LiveProgram(process, folder)


@contextlib.contextmanager
def serve(
    folder: Path,
    toml: str | None = None,
    env: Mapping[str, str] | None = None,
    program: str = PROGRAM,
) -> Iterator[LiveServer]:
    """``antiphon serve`` in `folder` on a free port."""
    started = launch(folder, [program, "serve"], toml, env)
    try:
        base_url = started.wait_for_url()
        yield LiveServer(started.process, folder, base_url, base_url.removesuffix("/v1"))
    finally:
        started.stop()


@contextlib.contextmanager
def work(
    folder: Path,
    toml: str | None = None,
    env: Mapping[str, str] | None = None,
    program: str = PROGRAM,
) -> Iterator[LiveProgram]:
    """``antiphon worker`` in `folder`."""
    started = launch(folder, [program, "worker"], toml, env)
    try:
        started.wait_for(_WORKS)
        yield started
    finally:
        started.stop()


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
