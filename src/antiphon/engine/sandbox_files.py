"""Files of containers in their sandboxes, for `sessions.py` (decision 0009).

Rules
1. The rows are the truth. Before a run the sandbox gets what is new in them, and what it had in its
   place goes first: code never works on a file that is no more.
2. After a run what the code made, changed or deleted is kept, over nothing but what it had there: a
   file that a client has put there meanwhile stays, and so does one that could not be brought.
3. What cannot be brought or kept is told to the model.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from antiphon.engine.containers import ContainerService, Content
from antiphon.errors import APIError, NotFoundError
from antiphon.protocol.code_interpreter import MadeFile
from antiphon.protocol.containers import FOLDER
from antiphon.sandbox.base import MOST_LISTED, BoxFile, Sandbox, SandboxRefused, is_decent
from antiphon.store.base import ContainerFile, Fence

#: Troubles that the model is told of, one by one.
_MOST_TOLD: Final = 5
#: Files that the model can link to, the newest.
_MOST_LINKS: Final = 200

UNNAMED: Final = (
    "Some files are not kept: their names are too long, or have characters that nobody sees."
)
TOO_MANY: Final = f"There are more than {MOST_LISTED} files: not all of them are kept."


@dataclass(slots=True, eq=False)
class Copies:
    """What a sandbox has of the files of a container. `there`: path → the blob that it got or gave;
    `marks`: path → its size and mark."""

    project: str
    container_id: str
    there: dict[str, str] = field(default_factory=dict)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """How the container is asked for."""
        return self.project, self.container_id

    def clear(self) -> None:
        """The sandbox is gone."""
        self.there.clear()
        self.marks.clear()


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept after a run, and what was lost."""

    made: list[MadeFile] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    links: list[MadeFile] = field(default_factory=list)


class SandboxFiles:
    """Brings files of containers into sandboxes, and back; `owner`: who has claimed them."""

    def __init__(self, containers: ContainerService, owner: str) -> None:
        self._containers = containers
        self._owner = owner

    # -- into the sandbox ---------------------------------------------------------------------

    async def bring(self, copies: Copies, sandbox: Sandbox) -> list[str]:
        """What is new in the container, and nothing that is not there any more; what the model has
        to know of that."""
        rows = await self._containers.all_files(*copies.key)
        blobs = {file.path: file.blob for file in rows}
        for path, blob in list(copies.there.items()):
            if blobs.get(path) != blob:
                await _remove(copies, sandbox, path)
        new = [file for file in rows if file.path not in copies.there]
        lost = [trouble for file in new if (trouble := await self._put(copies, sandbox, file))]
        if new:
            brought = {file.path for file in new} & copies.there.keys()
            for found in await sandbox.files():
                if (path := FOLDER + found.path) in brought:
                    copies.marks[path] = found.size, found.changed
        return first_few(lost)

    async def _put(self, copies: Copies, sandbox: Sandbox, file: ContainerFile) -> str:
        """Why it could not be brought; empty: it was."""
        try:
            async with aclosing(self._containers.content(file, 0, file.bytes)) as pieces:
                first = await anext(pieces, b"")  # a blob that is gone says so now
                await sandbox.put(_inner(file.path), file.bytes, _behind(first, pieces))
        except (SandboxRefused, NotFoundError) as error:
            return _trouble(file.path, "brought into the sandbox", error)
        copies.there[file.path] = file.blob
        return ""

    # -- out of the sandbox -------------------------------------------------------------------

    async def collect(self, copies: Copies, sandbox: Sandbox) -> Kept:
        """Forget what is gone, which makes room, and keep what was made or changed."""
        kept = Kept()
        listed = await sandbox.files()
        found = {FOLDER + file.path: file for file in listed if is_decent(file.path)}
        await self._forget(copies, sandbox, copies.there.keys() - found.keys())
        for path, file in found.items():
            if copies.marks.get(path) != (file.size, file.changed):
                await self._keep(copies, sandbox, file, kept)
        if len(found) < len(listed):
            kept.lost.append(UNNAMED)
        if len(listed) > MOST_LISTED:
            kept.lost.append(TOO_MANY)
        kept.lost[:] = first_few(kept.lost)
        rows = await self._containers.all_files(*copies.key)
        made = [MadeFile(row.id, row.path) for row in rows if row.source == "assistant"]
        kept.links.extend(made[-_MOST_LINKS:])
        return kept

    async def _keep(self, copies: Copies, sandbox: Sandbox, file: BoxFile, kept: Kept) -> None:
        path = FOLDER + file.path
        fence = Fence(self._owner, copies.there.get(path))
        try:
            async with self._containers.arriving(*copies.key, path) as arrival:
                if file.size > arrival.limit:
                    raise arrival.too_large
                async with aclosing(sandbox.get(file.path, arrival.limit)) as pieces:
                    await arrival.take(pieces)
                content = Content(path, "assistant", file.changed, fence)
                row = await self._containers.keep(*copies.key, arrival, content)
        except (SandboxRefused, APIError) as error:
            kept.lost.append(_trouble(path, "kept", error))
            return
        copies.there[path] = row.blob
        copies.marks[path] = file.size, file.changed
        kept.made.append(MadeFile(row.id, path))

    async def _forget(self, copies: Copies, sandbox: Sandbox, paths: Iterable[str]) -> None:
        """Those that the code has deleted; others are not listed, and stay."""
        inner = {_inner(path): path for path in paths}
        if not inner or not (lacking := await sandbox.lacking(inner)):
            return
        gone = {inner[path] for path in lacking}
        for file in await self._containers.all_files(*copies.key):
            if file.path in gone and copies.there[file.path] == file.blob:
                await self._containers.forget(copies.project, file)
        for path in gone:
            del copies.there[path]
            copies.marks.pop(path, None)


async def _remove(copies: Copies, sandbox: Sandbox, path: str) -> None:
    """It is no more. Where it cannot be deleted its mark says that nobody has made it."""
    del copies.there[path]
    with contextlib.suppress(SandboxRefused):
        await sandbox.delete(_inner(path))
        copies.marks.pop(path, None)


async def _behind(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for piece in pieces:
        yield piece


def _inner(path: str) -> str:
    return path.removeprefix(FOLDER)


def _trouble(path: str, what: str, error: SandboxRefused | APIError) -> str:
    reason = error.message if isinstance(error, APIError) else str(error)
    return f"The file {path} could not be {what}: {reason.rstrip('.')}."


def first_few(troubles: Sequence[str]) -> list[str]:
    """The first ones, and how many more there are."""
    left = len(troubles) - _MOST_TOLD
    return [*troubles[:_MOST_TOLD], *([f"… and {left} more."] if left > 0 else [])]
