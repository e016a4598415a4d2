"""Containers: what the Containers API and the tool `code_interpreter` ask for (spec §2.5).

Rules
1. Whatever is asked is asked for a project; what it does not have is unknown (R-29, R-30). To ask
   is to use: a container expires when nobody has asked for so long, and is expired for everybody
   from that second on (R-110).
2. Files are kept as those of the Files API are: a blob before its row, and after it (`files.py`).
   Here is their truth; a live session has copies of them. `on_change` tells one of this process
   when to look again; another process compares blobs with what it has.
3. A file of the Files API is copied: what becomes of it later does not matter here.
4. Limits are held while bytes come, and in the step that writes the row (R-102).
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from antiphon.blobs.base import BlobMissing
from antiphon.engine.files import Arrival, FileService, log_stuck, remove_blobs
from antiphon.errors import (
    APIError,
    ContainerExpired,
    ContainerNotFound,
    InvalidRequestError,
    NoSuchFile,
    NotFoundError,
    Overloaded,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedParameter,
)
from antiphon.protocol.containers import (
    DEFAULT_MEMORY,
    MEMORY,
    MOST_MINUTES,
    NewContainer,
    path_of,
)
from antiphon.protocol.hosted_tools import MemoryLimit
from antiphon.protocol.validation import echo
from antiphon.store.base import (
    MOST_CONTAINER_FILES,
    Claim,
    ContainerFile,
    ContainerRow,
    Containers,
    Fence,
    FileRow,
    Put,
    Source,
    Window,
)

Json: TypeAlias = dict[str, Any]

#: How the ids of files begin, and those of their blobs.
_FILE: Final = "cfile_"
_BLOB: Final = "cblob_"


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """Limits in bytes, of one container: the memory that it may ask for; all its files. `most`:
    containers of one project."""

    most_memory: int = MEMORY[DEFAULT_MEMORY]
    disk: int = 512 * 1024 * 1024
    most: int = 1_000


@dataclass(frozen=True, slots=True)
class Content:
    """What a blob is to be in a container. `changed`: see `ContainerFile`; `fence`: what has to be
    true for that."""

    path: str
    source: Source = "user"
    changed: int = 0
    fence: Fence | None = None
    #: The parameter that brought it.
    param: str | None = None


class ContainerService:
    """See the rules; `clock` gives Unix seconds. `on_change` is told the id of a container that was
    deleted, or whose files a client has changed. Whatever asks for one raises `ContainerNotFound`
    and `ContainerExpired`."""

    def __init__(
        self,
        containers: Containers,
        files: FileService,
        options: ContainerOptions,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.options = options
        self.on_change = on_change
        self._rows = containers
        self._files = files
        self._clock = clock

    # -- containers ---------------------------------------------------------------------------

    def check(
        self, memory_limit: MemoryLimit | None, network_policy: Json | None, path: str = ""
    ) -> None:
        """Raises `InvalidRequestError` for what no container of this server has; `path` stands
        before the names of the parameters."""
        if memory_limit is not None and MEMORY[memory_limit] > self.options.most_memory:
            raise InvalidRequestError(
                f"Invalid value: '{memory_limit}'. A container of this server may have "
                f"{self.options.most_memory} bytes of memory.",
                param=f"{path}memory_limit",
                code="invalid_value",
            )
        if network_policy is not None and network_policy["type"] != "disabled":
            raise UnsupportedParameter(
                f"Unsupported parameter: '{path}network_policy' can only be 'disabled' on this "
                "server: containers have no network.",
                param=f"{path}network_policy",
            )

    def new_id(self) -> str:
        """For a container that is not made yet."""
        return self._files.new_id("cntr_")

    async def create(
        self, project: str, body: NewContainer, id_: str | None = None
    ) -> ContainerRow:
        """A new container with copies of its files; `id_`: see `new_id`. Raises `APIError`."""
        self.check(body.memory_limit, body.network_policy)
        if body.skills:
            raise UnsupportedParameter(
                "Unsupported parameter: 'skills' is not supported by this server.", param="skills"
            )
        files = await self._wanted(project, body.file_ids or ())
        now = self._now()
        row = ContainerRow(
            id=id_ or self.new_id(),
            project=project,
            name=body.name,
            created_at=now,
            last_active_at=now,
            expires_minutes=body.expires_after["minutes"] if body.expires_after else MOST_MINUTES,
            memory_limit=body.memory_limit or DEFAULT_MEMORY,
        )
        if not await self._rows.add(row, self.options.most):
            raise RateLimitError(
                f"This project has {self.options.most} containers, which is the limit. Delete some "
                "of them, or wait until they expire.",
                should_retry=False,
            )
        is_whole = False
        try:
            for path, file in files.items():
                await self._copy(project, row.id, file, Content(path, param="file_ids"))
            if body.file_ids:
                await self._rows.give(project, row.id, body.file_ids)
            is_whole = True
        finally:
            if not is_whole:
                with suppress(APIError):  # then it expires, and nobody knows its id
                    self._files.remove_later(await self._rows.delete(project, row.id) or ())
        return row

    async def use(self, project: str, id_: str) -> ContainerRow:
        """One container, which is used now."""
        now = self._now()
        row = await self._rows.touch(project, id_, now)
        if row is None:
            raise ContainerNotFound(echo(id_))
        if row.is_expired(now):
            raise ContainerExpired
        return row

    async def look(self, project: str, id_: str) -> ContainerRow:
        """One container, which is not used by that."""
        row = await self._rows.get(project, id_)
        if row is None:
            raise ContainerNotFound(echo(id_))
        if row.is_expired(self._now()):
            raise ContainerExpired
        return row

    async def claim(self, project: str, id_: str, owner: str, seconds: int) -> Claim:
        """Say that `owner`, a process, runs code in it for so long at least, unless another one
        does; what was true before."""
        now = self._now()
        claim = await self._rows.claim(project, id_, owner, now, now + seconds)
        if claim is None:
            raise await self._gone(project, id_)
        return claim

    async def hold(self, project: str, id_: str, owner: str, seconds: int) -> bool:
        """Say that it goes on for so long; 0: that it has ended. False: it is another's now."""
        now = self._now()
        return await self._rows.hold(project, id_, owner, now, now + seconds)

    async def page(
        self, project: str, window: Window, name: str | None
    ) -> tuple[list[ContainerRow], bool]:
        """A page of the containers that have not expired, and whether there is more."""
        page = await self._rows.listed(project, window, name, self._now())
        if page is None:
            raise _unknown_cursor("container")
        return page

    async def delete(self, project: str, id_: str) -> None:
        """Forget a container and its files."""
        await self.use(project, id_)
        blobs = await self._rows.delete(project, id_)
        if blobs is None:
            raise ContainerNotFound(echo(id_))
        self._files.remove_later(blobs)
        self.on_change(id_)

    async def sweep(self, now: int, limit: int) -> int:
        """Remove what has expired, at most `limit` of each kind; `limit` means that there may be
        more."""
        blobs, forgotten = await self._rows.expire(now, limit)
        log_stuck(await remove_blobs(self._files.blobs, blobs))
        return max(len(blobs), forgotten)

    # -- files --------------------------------------------------------------------------------

    async def files(
        self, project: str, container_id: str, window: Window
    ) -> tuple[list[ContainerFile], bool]:
        """A page of the files, and whether there is more."""
        await self.use(project, container_id)
        page = await self._rows.files(project, container_id, window)
        if page is None:
            await self.use(project, container_id)  # it may have gone meanwhile
            raise _unknown_cursor("file")
        return page

    async def all_files(self, project: str, container_id: str) -> list[ContainerFile]:
        """All of them, the oldest first; for who is using the container."""
        return await self._rows.all_files(project, container_id)

    async def file(self, project: str, container_id: str, id_: str) -> ContainerFile:
        """One file. Raises `NotFoundError`."""
        await self.use(project, container_id)
        file = await self._rows.file(project, container_id, id_)
        if file is None:
            raise _unknown_file(id_)
        return file

    async def content(
        self, file: ContainerFile, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """Bytes `start` to before `end`. Raises `NotFoundError` at the first piece."""
        try:
            async with aclosing(self._files.blobs.read(file.blob, start, end)) as pieces:
                async for piece in pieces:
                    yield piece
        except BlobMissing:  # somebody removes it right now
            raise _unknown_file(file.id) from None

    @asynccontextmanager
    async def arriving(
        self, project: str, container_id: str, path: str = ""
    ) -> AsyncIterator[Arrival]:
        """Something new for a container, which is gone again if it gets no row. `path`: where it
        will be, if that is known: what is there makes room."""
        await self.use(project, container_id)
        size = await self._rows.size(project, container_id, path)
        room = max(0, self.options.disk - size)
        async with self._files.keeping(self._arrival(room)) as arrival:
            yield arrival

    async def upload(
        self, project: str, container_id: str, arrival: Arrival, name: str
    ) -> ContainerFile:
        """Make a file of what has arrived from a client. Raises `APIError`."""
        content = Content(path_of(name, "file"), param="file")
        file = await self.keep(project, container_id, arrival, content)
        self.on_change(container_id)
        return file

    async def copy(self, project: str, container_id: str, file_id: str) -> ContainerFile:
        """Make a file of one of the Files API. Raises `APIError`."""
        await self.use(project, container_id)
        file = await self._file(project, file_id, "file_id")
        content = Content(path_of(file.filename, "file_id"), param="file_id")
        made = await self._copy(project, container_id, file, content)
        await self._rows.give(project, container_id, [file_id])
        self.on_change(container_id)
        return made

    async def bring(self, project: str, container_id: str, ids: Iterable[str]) -> list[str]:
        """Copies of those files of the Files API that it was not given before, over what has their
        names, of two with one name the later one; what a model has to know of that. What became of
        those that it was given stays so. Raises `APIError`."""
        given = await self._rows.given(project, container_id)
        new = [file_id for file_id in dict.fromkeys(ids) if file_id not in given]
        if not new:
            return []
        taken = {file.path for file in await self._rows.all_files(project, container_id)}
        wanted: dict[str, list[FileRow]] = {}
        notes: list[str] = []
        for file_id in new:
            try:
                file = await self._files.get(project, file_id)
                wanted.setdefault(path_of(file.filename, "file_id"), []).append(file)
            except (NoSuchFile, InvalidRequestError) as error:
                notes.append(f"A file could not be brought: {error.message}")
        for path, files in wanted.items():
            try:
                await self._copy(project, container_id, files[-1], Content(path))
            except (NoSuchFile, PayloadTooLarge, InvalidRequestError) as error:
                older = " What is there is an older one." if path in taken else ""
                notes.append(f"The file {path} could not be brought: {error.message}{older}")
                continue
            await self._rows.give(project, container_id, [file.id for file in files])
            if path in taken or len(files) > 1:
                notes.append(f"{path} is the newest file of that name; what had it before is gone.")
        return notes

    async def check_files(self, project: str, ids: Sequence[str], path: str) -> None:
        """Whether the project has all of them, and a container has room for each. Raises
        `NoSuchFile` and `PayloadTooLarge`, with its place in `path`."""
        for place, file_id in enumerate(ids):
            file = await self._file(project, file_id, f"{path}[{place}]")
            if file.bytes > self.options.disk:
                raise self._full(f"{path}[{place}]")

    async def keep(
        self, project: str, container_id: str, arrival: Arrival, content: Content
    ) -> ContainerFile:
        """Make a file of what has arrived, or replace the one at that path. Raises `APIError`."""
        now = self._now()
        file = ContainerFile(
            id=self._files.new_id(_FILE),
            container_id=container_id,
            path=content.path,
            created_at=now,
            bytes=arrival.size,
            source=content.source,
            changed=content.changed,
            blob=arrival.id,
        )
        arrival.is_loose = False
        put = await self._rows.put(project, file, self.options.disk, now, content.fence)
        if isinstance(put, Put):
            if put.old_blob is not None:
                self._files.remove_later([put.old_blob])
            return put.file
        arrival.is_loose = True
        match put:
            case "too_many":
                raise InvalidRequestError(
                    f"A container has at most {MOST_CONTAINER_FILES} files.", param=content.param
                )
            case "no_room":
                raise self._full(content.param)
            case "gone":
                raise await self._gone(project, container_id)
            case "taken":
                raise Overloaded("Other code runs in the container.")
            case "replaced":
                raise InvalidRequestError(
                    "The container has another file of that name, which the code did not have. "
                    "Write it under another name."
                )

    async def forget(self, project: str, file: ContainerFile) -> None:
        """That file, unless there is another one at its path by now, or none."""
        blob = await self._rows.remove(project, file.container_id, file.id, file.blob)
        if blob is not None:
            self._files.remove_later([blob])

    async def delete_file(self, project: str, container_id: str, id_: str) -> None:
        """Forget a file. Raises `NotFoundError`."""
        await self.use(project, container_id)
        blob = await self._rows.remove(project, container_id, id_)
        if blob is None:
            raise _unknown_file(id_)
        self._files.remove_later([blob])
        self.on_change(container_id)

    # -- copies -------------------------------------------------------------------------------

    async def _wanted(self, project: str, ids: list[str] | tuple[()]) -> dict[str, FileRow]:
        """The files of a new container by their paths: of two with one name the later one."""
        files: dict[str, FileRow] = {}
        for id_ in ids:
            file = await self._file(project, id_, "file_ids")
            files[path_of(file.filename, "file_ids")] = file
        if sum(file.bytes for file in files.values()) > self.options.disk:
            raise self._full("file_ids")
        return files

    async def _file(self, project: str, file_id: str, param: str) -> FileRow:
        try:
            return await self._files.get(project, file_id)
        except NoSuchFile:
            raise NoSuchFile(echo(file_id), param=param) from None

    async def _copy(
        self, project: str, container_id: str, file: FileRow, content: Content
    ) -> ContainerFile:
        if file.bytes > self.options.disk:
            raise self._full(content.param)
        async with self._files.keeping(self._arrival(file.bytes)) as arrival:
            try:
                async with aclosing(self._files.content(file, 0, file.bytes)) as pieces:
                    await arrival.take(pieces)
            except NoSuchFile:
                raise NoSuchFile(file.id, param=content.param) from None
            return await self.keep(project, container_id, arrival, content)

    def _arrival(self, limit: int) -> Arrival:
        return Arrival(self._files.new_id(_BLOB), self._files.blobs, limit, self._full("file"))

    # -- errors -------------------------------------------------------------------------------

    def _full(self, param: str | None) -> PayloadTooLarge:
        """R-102."""
        return PayloadTooLarge(
            f"The files of a container may have {self.options.disk} bytes, and there is not enough "
            "left of them. Delete files to make room.",
            param=param,
            code="storage_quota_exceeded",
        )

    async def _gone(self, project: str, id_: str) -> NotFoundError:
        row = await self._rows.get(project, id_)
        return ContainerNotFound(echo(id_)) if row is None else ContainerExpired()

    def _now(self) -> int:
        return int(self._clock())


def _unknown_file(id_: str) -> NotFoundError:
    return NotFoundError(f"Container file with id '{echo(id_)}' not found.")


def _unknown_cursor(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid 'after': there is no such {what}.", param="after")
