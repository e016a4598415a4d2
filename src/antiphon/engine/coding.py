"""Containers as the tool `code_interpreter` asks for them (spec §1.2; see
`antiphon.tools.code_interpreter.running.Running`).

Rules
1. A container that is named is used. ``auto`` uses the newest that an item of the context names (a
   call, or what a compaction left of calls) and that is the project's and not over; else a new one
   is made, when the first code runs: most responses that may run code run none. Its id is known
   before, for it stands in the item.
2. Files that `file_ids` and the context name are copied into it then, under their names, each once:
   one that it was given before is left as code or a client has made it, or not there at all.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from antiphon.engine.containers import ContainerService
from antiphon.engine.sandbox_files import first_few
from antiphon.engine.sessions import Sessions
from antiphon.errors import ContainerExpired, ContainerNotFound, NotFoundError
from antiphon.protocol.code_interpreter import Executed
from antiphon.protocol.containers import NewContainer
from antiphon.protocol.items.base import Item
from antiphon.tools.base import Stage

Json: TypeAlias = dict[str, Any]

_CALL: Final = "code_interpreter_call"
_UNDER_WAY: Final = ("in_progress", "interpreting")
#: The name of containers that nobody has asked for by name.
_NAME: Final = "code_interpreter"
OVER: Final = (
    "The container of earlier calls is over: its variables and files are gone. This is a new one."
)
#: Containers of the context that are asked for, the newest.
_MOST_ASKED: Final = 20
#: Parts of messages that may name a file.
_PARTS: Final = ("input_file", "input_image")


class Coding:
    """See `Running`."""

    def __init__(self, containers: ContainerService, sessions: Sessions) -> None:
        self._containers = containers
        self._sessions = sessions

    async def unusable(self) -> str | None:
        """See `Running`."""
        return await self._sessions.sandboxes.unusable()

    async def check(self, project: str, wanted: str | Json, path: str) -> None:
        """See `Running`."""
        if isinstance(wanted, str):
            try:
                await self._containers.use(project, wanted)
            except NotFoundError as error:
                error.param = path
                raise
            return
        self._containers.check(wanted.get("memory_limit"), wanted.get("network_policy"), f"{path}.")
        await self._containers.check_files(
            project, wanted.get("file_ids") or (), f"{path}.file_ids"
        )

    async def place(self, project: str, wanted: str | Json, stage: Stage) -> "CodePlace":
        """See `Running`."""
        items = stage.items
        named = list(dict.fromkeys(_named(items)))
        if isinstance(wanted, str):
            return CodePlace(self._containers, self._sessions, project, wanted, named)
        used = _used(items)
        known = await self._known(project, used)
        files = [*(wanted.get("file_ids") or ()), *named]
        if known is not None:
            return CodePlace(self._containers, self._sessions, project, known, files)
        new = NewContainer(name=_NAME, memory_limit=wanted.get("memory_limit"))
        announced = _announced(stage.output)
        place = CodePlace(
            *(self._containers, self._sessions, project),
            announced or self._containers.new_id(),
            files,
            new,
        )
        place.notes = [OVER] if used and announced is None else []
        return place

    async def _known(self, project: str, used: Sequence[str]) -> str | None:
        """The newest container that still is; nobody goes on with an older one than these."""
        for container_id in used[:_MOST_ASKED]:
            try:
                return (await self._containers.use(project, container_id)).id
            except NotFoundError:
                continue
        return None


class CodePlace:
    """See `antiphon.tools.code_interpreter.running.Place`."""

    def __init__(
        self,
        containers: ContainerService,
        sessions: Sessions,
        project: str,
        container_id: str,
        files: Sequence[str],
        new: NewContainer | None = None,
    ) -> None:
        """`files`: ids of what it should have; `new`: what is to be made at the first run."""
        self.id = container_id
        #: What the model has to know with the first run.
        self.notes: Sequence[str] = ()
        self._containers = containers
        self._sessions = sessions
        self._project = project
        self._files = files
        self._new = new
        self._is_ready = False
        self._turn = asyncio.Lock()

    async def run(self, code: str) -> Executed:
        """See `Place`."""
        async with self._turn:
            if not self._is_ready:
                await self._get_ready()
                self._is_ready = True
        done = await self._sessions.run(self._project, self.id, code)
        notes, self.notes = self.notes, ()
        return replace(done, notes=[*notes, *done.notes])

    async def _get_ready(self) -> None:
        if self._new is not None:
            self.id = await self._made(self._new)
            self._new = None
        troubles = await self._containers.bring(self._project, self.id, self._files)
        self.notes = [*self.notes, *first_few(troubles)]

    async def _made(self, new: NewContainer) -> str:
        """A new container. Its id may have been taken, or be over, when a process died before."""
        try:
            return (await self._containers.use(self._project, self.id)).id
        except ContainerNotFound:
            return (await self._containers.create(self._project, new, self.id)).id
        except ContainerExpired:
            return (await self._containers.create(self._project, new)).id


def _used(items: Sequence[Item]) -> list[str]:
    """Ids of containers that code ran in, the newest first."""
    named = (item.get("container_id") for item in reversed(items))
    return list(dict.fromkeys(str(container_id) for container_id in named if container_id))


def _announced(items: Sequence[Item]) -> str | None:
    """What another process has said of a call of this response before it died."""
    for item in reversed(items):
        if item["type"] == _CALL and item.get("status") in _UNDER_WAY and item.get("container_id"):
            return str(item["container_id"])
    return None


def _named(items: Sequence[Item]) -> Iterator[str]:
    """Ids of files in messages of the user."""
    for item in items:
        content = item.get("content")
        if item["type"] == "message" and item.get("role") == "user" and isinstance(content, list):
            for part in content:
                if part["type"] in _PARTS and part.get("file_id"):
                    yield part["file_id"]
