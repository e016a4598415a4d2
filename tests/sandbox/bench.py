"""What tests of sandboxes share: a server to reach for, and a look at this process."""

import asyncio
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from antiphon.sandbox.base import Limits, Ran, Sandbox, Sandboxes, Text
from tests.sandbox.cases import PRELUDE

#: Small ones, since they are filled.
LIMITS = Limits(memory=256 << 20, disk=48 << 20, scratch=24 << 20, processes=64)
#: A word that is only in the environment and on the command line.
SECRET = "sk-of-the-server-" + "7d1f0c55"


@dataclass(frozen=True)
class Outside:
    """Where a server of this process listens, and the folder of its files."""

    port: int
    path: str
    name: str
    folder: str
    #: What it has heard.
    heard: list[bytes] = field(default_factory=list)

    def code(self, code: str) -> str:
        """That of a case, about this one."""
        words = {
            "port": str(self.port),
            "path": self.path,
            "name": self.name,
            "folder": self.folder,
            "secret": SECRET[::-1],
            "pid": str(os.getpid()),
            "project": str(Path(__file__).parents[2]),
        }
        code = dedent(code)
        for word, value in words.items():
            code = code.replace(f"{{{word}}}", value)
        return PRELUDE + code


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """Sockets that take connections, and a folder that everybody may read."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="antiphon-outside-"))
        Path(folder).chmod(0o755)
        for name in ("antiphon.db", "data"):
            (Path(folder) / name).write_text(SECRET)
        path, name = f"{folder}/socket", f"antiphon-{os.getpid()}"
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in (path, f"\0{name}"):
            unix = stack.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(address)
            unix.listen()
        Path(path).chmod(0o777)
        yield Outside(tcp.getsockname()[1], path, name, folder)


def printed(ran: Ran) -> str:
    """All the text that a run showed."""
    return "".join(shown.text for shown in ran.shown if isinstance(shown, Text))


@contextlib.asynccontextmanager
async def started(launcher: Sandboxes) -> AsyncGenerator[Sandbox, None]:
    """A new sandbox, closed afterwards."""
    sandbox = await launcher.start(LIMITS)
    try:
        yield sandbox
    finally:
        await sandbox.close()


async def works(sandbox: Sandbox) -> None:
    """It still can be used."""
    ran = await sandbox.run("print(6 * 7)", 20)
    assert ran.ending == "ok"
    assert printed(ran) == "42\n"


@dataclass(frozen=True)
class Traces:
    """What this process has: descendants, open files, tasks."""

    processes: int
    files: int
    tasks: int

    def __le__(self, before: "Traces") -> bool:
        """Nothing is there that was not; what others have ended meanwhile does not matter."""
        return (
            self.processes <= before.processes
            and self.files <= before.files
            and self.tasks <= before.tasks
        )

    @classmethod
    def here(cls) -> "Traces":
        """Now."""
        return cls(
            len(descendants(os.getpid())),
            len(os.listdir("/proc/self/fd")),
            len(asyncio.all_tasks()),
        )


def descendants(pid: int) -> list[int]:
    """Its children and theirs, zombies too."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += children
                waiting += children
    return found


@contextlib.asynccontextmanager
async def lateness() -> AsyncGenerator[list[float], None]:
    """Seconds that the event loop was late, each 5 ms."""
    found: list[float] = []

    async def look() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            found.append(max(0.0, time.perf_counter() - before - 0.005))

    task = asyncio.create_task(look())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def p99(values: list[float]) -> float:
    """The value that one in a hundred is above."""
    return sorted(values)[len(values) * 99 // 100] if values else 0.0
