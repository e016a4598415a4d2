"""Sandboxes that are played, and sessions of them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Collection
from typing import Any

from antiphon.engine.sessions import SessionOptions, Sessions
from antiphon.protocol.code_interpreter import Executed
from antiphon.sandbox.base import (
    MOST_LISTED,
    BoxFile,
    Limits,
    Picture,
    Ran,
    SandboxGone,
    SandboxRefused,
    Text,
)
from tests.engine.test_containers import Boxes
from tests.protocol.test_images import png


class FakeSandbox:
    """Its code is lines: ``write NAME TEXT``, ``delete NAME``, ``print TEXT``, ``die``, ``hang``,
    ``end ENDING``."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.files_: dict[str, tuple[bytes, int]] = {}
        self.is_alive = True
        self.running = asyncio.Event()
        self.free = asyncio.Event()
        self._clock = 0

    async def run(self, code: str, seconds: float) -> Ran:
        self._check()
        ending: Any = "ok"
        shown: list[Text | Picture] = []
        for line in code.splitlines():
            word, _, rest = line.partition(" ")
            match word:
                case "write":
                    name, _, text = rest.partition(" ")
                    self.write(name, text.encode())
                case "delete":
                    del self.files_[rest]
                case "print":
                    shown.append(Text(f"{rest}\n"))
                case "draw":
                    shown.append(Picture(png(2, 2) if rest == "png" else b"none", "image/png"))
                case "end":
                    ending = rest
                case "hang":
                    self.running.set()
                    await self.free.wait()
                    self._check()
                case "die":
                    self.is_alive = False
                    raise SandboxGone
        return Ran(ending, shown, renewed="renewed" in code, cut="cut" in code)

    def write(self, name: str, content: bytes) -> None:
        self._clock += 1
        self.files_[name] = content, self._clock

    async def put(self, path: str, size: int, pieces: AsyncIterable[bytes]) -> None:
        self._check()
        content = b"".join([piece async for piece in pieces])
        assert len(content) == size
        taken = sum(len(there) for there, _ in self.files_.values())  # the old one, too
        if taken + size > self.limits.disk:
            raise SandboxRefused("No space left on device")
        self.write(path, content)

    async def get(self, path: str, most: int) -> AsyncGenerator[bytes, None]:
        self._check()
        if path == "closed":
            raise SandboxRefused("Permission denied")
        content, _ = self.files_[path]
        if len(content) > most:
            raise SandboxRefused("File too large")
        yield content

    async def delete(self, path: str) -> None:
        self._check()
        self.files_.pop(path, None)

    async def files(self) -> list[BoxFile]:
        self._check()
        shown = [
            BoxFile(path, len(content), mark)
            for path, (content, mark) in self.files_.items()
            if not path.startswith(".")
        ]
        return shown[: MOST_LISTED + 1]

    async def lacking(self, paths: Collection[str]) -> set[str]:
        self._check()
        return {path for path in paths if path not in self.files_}

    async def close(self) -> None:
        self.is_alive = False
        self.free.set()

    def _check(self) -> None:
        if not self.is_alive:
            raise SandboxGone


class FakeSandboxes:
    """`made`: all that were started."""

    def __init__(self) -> None:
        self.made: list[FakeSandbox] = []
        self.broken = False

    async def unusable(self) -> str | None:
        return None

    async def start(self, limits: Limits) -> FakeSandbox:
        if self.broken:
            raise SandboxGone
        self.made.append(FakeSandbox(limits))
        return self.made[-1]

    async def aclose(self) -> None:
        for one in self.made:
            await one.close()


class Stage:
    """Sessions of a process, or of several."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes
        self.sandboxes = FakeSandboxes()
        self.sessions = self.another()

    def another(self, most: int = 2, seconds: float = 5.0, around: float = 60.0) -> Sessions:
        options = SessionOptions(most, seconds, 100, around)
        return Sessions(self.sandboxes, self.boxes.service, options)

    @property
    def last(self) -> FakeSandbox:
        return self.sandboxes.made[-1]

    async def run(self, box: str, *lines: str) -> Executed:
        return await self.sessions.run("alpha", box, "\n".join(lines))
