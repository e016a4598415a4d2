"""The port to sandboxes: places where somebody else's Python runs (decision 0009, R-105 to R-113).

Rules
1. Code that runs in one can reach what is in it, and nothing else: no network, no files, no
   environment, no processes of the server or of other sandboxes.
2. A sandbox has a Python session, whose variables stay from run to run, and a folder of files. Both
   are gone when it is: who wants to keep files gets them in time.
3. What a sandbox says is somebody else's word. It is bounded here, and of the paths of its files
   those are good that `is_decent` lets pass.
4. One thing is done in a sandbox at a time; who comes later waits.
"""

import unicodedata
from collections.abc import AsyncGenerator, AsyncIterable, Collection
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

#: Where the folder is, for the code.
FOLDER: Final = "/mnt/data"
#: Files of the folder that are listed; one more says that there are more.
MOST_LISTED: Final = 1_000
#: Bytes of the path of a file below it, and of each name in it.
_MOST_PATH: Final = 1_024
_MOST_NAME: Final = 255
#: Kinds of characters that no name of a file has, as for names that clients give: control, format,
#: surrogate, private, unassigned, line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class SandboxGone(Exception):
    """It has ended, and all that was in it is lost."""


class SandboxRefused(Exception):
    """It could not be done; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one sandbox: bytes of memory, of its folder, and of its other files; processes and
    threads."""

    memory: int = 1 << 30
    disk: int = 512 << 20
    scratch: int = 128 << 20
    processes: int = 128


@dataclass(frozen=True, slots=True)
class Text:
    """What was printed, or a result as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that was shown."""

    body: bytes
    media_type: str


Shown: TypeAlias = Text | Picture
#: How a run ended: as it should, with an exception, after its time, with its session, or with that
#: because of its memory.
Ending: TypeAlias = Literal["ok", "error", "timeout", "died", "memory"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run. `cut`: not all of it is here; `renewed`: variables of before were lost
    before it began, or when it was stopped."""

    ending: Ending
    shown: list[Shown] = field(default_factory=list)
    cut: bool = False
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class BoxFile:
    """A file in the folder: its path there, bytes, and a number that changes with its content."""

    path: str
    size: int
    changed: int


class Sandbox(Protocol):
    """One sandbox; `close` it. Everything but that raises `SandboxGone`."""

    @property
    def is_alive(self) -> bool:
        """Whether it can still be used."""
        ...

    async def run(self, code: str, seconds: float) -> Ran:
        """Run code, for so long at most. Who is cancelled interrupts it."""
        ...

    async def put(self, path: str, size: int, pieces: AsyncIterable[bytes]) -> None:
        """Write a file of `size` bytes. Raises `SandboxRefused`."""
        ...

    def get(self, path: str, most: int) -> AsyncGenerator[bytes, None]:
        """Read a file, in pieces; to be closed (`aclosing`). Raises `SandboxRefused` when it is
        none, or has more than `most` bytes."""
        ...

    async def delete(self, path: str) -> None:
        """Forget a file; no effect when it is not there. Raises `SandboxRefused`."""
        ...

    async def files(self) -> list[BoxFile]:
        """All of them, up to `MOST_LISTED` and one more; but for hidden ones, and what is no file.
        Their paths may be any text."""
        ...

    async def lacking(self, paths: Collection[str]) -> set[str]:
        """Those of `paths` at which no file is."""
        ...

    async def close(self) -> None:
        """End it, now."""
        ...


class Sandboxes(Protocol):
    """Starts sandboxes; `aclose` it."""

    async def unusable(self) -> str | None:
        """Why none can be started here, for clients; None: they can. Tried once."""
        ...

    async def start(self, limits: Limits) -> Sandbox:
        """A new one. Raises `SandboxGone` when it does not start."""
        ...

    async def aclose(self) -> None:
        """End all of them."""
        ...


def is_decent(path: str) -> bool:
    """Whether a path below the folder may be kept and shown."""
    names = path.split("/")
    fine = all(
        name and name not in (".", "..") and _is_seen(name) and _length(name) <= _MOST_NAME
        for name in names
    )
    return fine and _length(path) <= _MOST_PATH


def _is_seen(name: str) -> bool:
    return not any(unicodedata.category(char) in _UNSEEN for char in name)


def _length(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
