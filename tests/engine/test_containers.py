"""Containers between their rows and their blobs (R-102, R-104, R-110)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.containers import ContainerOptions, ContainerService, Content
from antiphon.errors import (
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
from antiphon.protocol.containers import NewContainer
from antiphon.store.base import ContainerFile, Window
from antiphon.store.base.containers import CONTAINER_MEMORY
from tests.blobs.putting import pieces
from tests.engine.filing import World, opened

IDLE = 20 * 60


class Boxes:
    """The containers of project ``alpha``; a container may have 100 bytes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = world.clock
        self.changed: list[str] = []
        self.rows = world.store.containers
        self.service = ContainerService(
            self.rows,
            world.files,
            ContainerOptions(most_memory=4 << 30, disk=100),
            world.clock,
            self.changed.append,
        )

    async def box(self, *file_ids: str, **body: Any) -> str:
        """The id of a new one."""
        new = NewContainer.model_validate({"name": "box", "file_ids": list(file_ids), **body})
        return (await self.service.create("alpha", new)).id

    async def upload(
        self, box: str, content: bytes | AsyncIterator[bytes], name: str = "a.txt"
    ) -> ContainerFile:
        """A file of a client."""
        given = pieces(content) if isinstance(content, bytes) else content
        async with self.service.arriving("alpha", box) as arrival:
            await arrival.take(given)
            return await self.service.upload("alpha", box, arrival, name)

    async def keep(self, box: str, content: bytes, path: str) -> ContainerFile:
        """A file that code made."""
        async with self.service.arriving("alpha", box, path) as arrival:
            await arrival.take(pieces(content))
            about = Content(path, "assistant", 7)
            return await self.service.keep("alpha", box, arrival, about)

    async def read(self, file: ContainerFile) -> bytes:
        """Its bytes."""
        content = self.service.content(file, 0, file.bytes)
        return b"".join([piece async for piece in content])

    async def texts(self, box: str) -> dict[str, bytes]:
        """What it has: name → bytes."""
        files = await self.service.all_files("alpha", box)
        return {file.path.removeprefix("/mnt/data/"): await self.read(file) for file in files}

    async def settle(self, *blobs: str) -> None:
        """Nothing is being removed any more, and these blobs are there beside those of files."""
        await self.world.files.aclose()
        assert await self.world.ids() == set(blobs)


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Boxes]:
    async with opened(tmp_path) as world:
        yield Boxes(world)


async def test_files_of_the_files_api_are_copied(boxes: Boxes) -> None:
    """What becomes of them later does not matter; of two with the same name it is the later."""
    first, second = await boxes.world.add(b"one"), await boxes.world.add(b"two")
    box = await boxes.box(first.id, second.id, first.id)
    assert await boxes.texts(box) == {"a.txt": b"one"}
    await boxes.world.files.delete("alpha", first.id)
    assert await boxes.texts(box) == {"a.txt": b"one"}
    (there,) = await boxes.service.all_files("alpha", box)
    made = await boxes.service.copy("alpha", box, second.id)
    assert (made.id, made.source, made.bytes) == (there.id, "user", 3)
    assert await boxes.texts(box) == {"a.txt": b"two"}
    assert boxes.changed == [box]
    await boxes.service.delete("alpha", box)
    await boxes.settle(second.id)


async def test_a_file_is_replaced_by_its_name(boxes: Boxes) -> None:
    """It keeps its id, whoever changes it; the bytes that it had are gone."""
    box = await boxes.box()
    first = await boxes.upload(box, b"one")
    second = await boxes.keep(box, b"three", first.path)
    assert boxes.changed == [box], "code need not be told of what it did"
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert (second.source, second.changed, second.bytes) == ("assistant", 7, 5)
    assert await boxes.service.file("alpha", box, first.id) == second
    await boxes.settle(second.blob)
    with pytest.raises(NotFoundError, match=f"'{first.id}' not found"):
        await boxes.read(first)
    await boxes.service.delete_file("alpha", box, first.id)
    assert boxes.changed == [box, box]
    with pytest.raises(NotFoundError, match=f"'{first.id}' not found"):
        await boxes.service.delete_file("alpha", box, first.id)
    await boxes.settle()


async def test_what_is_no_name_leaves_nothing(boxes: Boxes) -> None:
    """R-96, R-104."""
    box = await boxes.box()
    with pytest.raises(InvalidRequestError, match="has no name"):
        await boxes.upload(box, b"one", "..")
    assert (await boxes.texts(box), boxes.changed) == ({}, [])
    await boxes.settle()


async def test_a_container_has_so_much_room(boxes: Boxes) -> None:
    """R-102: while the bytes come, and whoever comes at the same time."""
    box = await boxes.box()
    told = await asyncio.gather(
        *(boxes.upload(box, bytes(40), str(n)) for n in range(4)), return_exceptions=True
    )
    assert [isinstance(one, PayloadTooLarge) for one in told].count(True) == 2
    with pytest.raises(PayloadTooLarge, match="may have 100 bytes") as caught:
        await boxes.upload(box, bytes(21), "more")
    assert (caught.value.code, caught.value.param) == ("storage_quota_exceeded", "file")
    source = await boxes.world.add(bytes(21))
    with pytest.raises(PayloadTooLarge):
        await boxes.service.copy("alpha", box, source.id)
    (first, second) = await boxes.service.all_files("alpha", box)
    larger = await boxes.keep(box, bytes(60), first.path)
    assert larger.id == first.id, "what is replaced makes room"
    await boxes.settle(larger.blob, second.blob, source.id)


async def test_files_that_are_too_large_together(boxes: Boxes) -> None:
    """No container is made, and nothing is copied."""
    files = [await boxes.world.add(bytes(60)) for _ in range(2)]
    names = iter("ab")

    def path(_name: str, _param: str) -> str:
        return next(names)

    assert await boxes.box(*[file.id for file in files]), "they have the same name"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("antiphon.engine.containers.path_of", path)
        with pytest.raises(PayloadTooLarge) as caught:
            await boxes.box(*[file.id for file in files])
    assert caught.value.param == "file_ids"
    assert len((await boxes.service.page("alpha", Window(9), None))[0]) == 1


@pytest.mark.parametrize("owner", ["beta", None])
async def test_a_file_that_the_project_does_not_have(boxes: Boxes, owner: str | None) -> None:
    """R-30."""
    file = await boxes.world.add(project="beta") if owner else None
    id_ = file.id if file else "file-0"
    with pytest.raises(NoSuchFile, match=id_) as caught:
        await boxes.box(id_)
    assert caught.value.param == "file_ids"
    box = await boxes.box()
    with pytest.raises(NoSuchFile, match=id_) as caught:
        await boxes.service.copy("alpha", box, id_)
    assert caught.value.param == "file_id"
    assert len((await boxes.service.page("alpha", Window(9), None))[0]) == 1


async def test_a_container_that_cannot_be_filled_is_none(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file goes while it is copied; the disk is full; the container goes; somebody gives up."""
    file = await boxes.world.add(b"one")
    put = boxes.world.blobs.put

    def fails(with_: Callable[[], Awaitable[object]]) -> Callable[..., Awaitable[int]]:
        async def put_late(id_: str, given: AsyncIterator[bytes]) -> int:
            await with_()
            return await put(id_, given)

        return put_late

    async def gone() -> None:
        await boxes.world.blobs.delete(file.id)

    async def full() -> None:
        raise Overloaded("No space.")

    async def deleted() -> None:
        (row,) = (await boxes.service.page("alpha", Window(9), None))[0]
        await boxes.service.delete("alpha", row.id)

    async def given_up() -> None:
        raise asyncio.CancelledError

    for trouble, error in (
        (full, Overloaded),
        (deleted, ContainerNotFound),
        (given_up, asyncio.CancelledError),
        (gone, NoSuchFile),
    ):
        monkeypatch.setattr(boxes.world.blobs, "put", fails(trouble))
        with pytest.raises(error):
            await boxes.box(file.id)
        assert await boxes.service.page("alpha", Window(9), None) == ([], False)
    await boxes.settle()


async def test_a_container_that_cannot_be_taken_back_expires(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trouble is what is told."""
    file = await boxes.world.add(b"one")

    async def no(*_: object) -> None:
        raise Overloaded("Not now.")

    monkeypatch.setattr(boxes.rows, "delete", no)
    monkeypatch.setattr(boxes.world.blobs, "put", no)
    with pytest.raises(Overloaded, match="Not now"):
        await boxes.box(file.id)
    boxes.clock.now += IDLE
    assert await boxes.service.page("alpha", Window(9), None) == ([], False)


async def test_a_project_has_so_many_containers(boxes: Boxes) -> None:
    boxes.service.options = replace(boxes.service.options, most=1)
    box = await boxes.box()
    with pytest.raises(RateLimitError, match="has 1 containers") as caught:
        await boxes.box()
    assert caught.value.should_retry is False
    boxes.clock.now += IDLE
    assert await boxes.box() != box


async def test_a_container_has_so_many_files(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.store.sql_containers.MOST_CONTAINER_FILES", 1)
    box = await boxes.box()
    kept = await boxes.upload(box, b"", "a")
    with pytest.raises(InvalidRequestError, match="at most 1000 files"):
        await boxes.upload(box, b"", "b")
    await boxes.settle(kept.blob)


async def test_an_expired_container_is_expired_for_everybody(boxes: Boxes) -> None:
    """R-110: whatever is asked; and for no other project. After a day nobody remembers it."""
    box = await boxes.box()
    file = await boxes.upload(box, b"one")
    boxes.clock.now += IDLE - 1
    assert (await boxes.service.use("alpha", box)).last_active_at == boxes.clock.now
    boxes.clock.now += IDLE
    service = boxes.service

    def asked(project: str) -> list[Awaitable[object]]:
        return [
            service.use(project, box),
            service.claim(project, box, "one", 5),
            service.delete(project, box),
            service.files(project, box, Window(9)),
            service.file(project, box, file.id),
            service.copy(project, box, "file-0"),
            service.delete_file(project, box, file.id),
        ]

    for ask in asked("alpha"):
        with pytest.raises(ContainerExpired, match=r"^Container is expired\.$") as caught:
            await ask
        assert (caught.value.status, caught.value.code) == (404, "container_expired")
    with pytest.raises(ContainerExpired):
        await boxes.upload(box, b"two")
    for ask in asked("beta"):
        with pytest.raises(ContainerNotFound, match=f"^Container with id '{box}' not found"):
            await ask
    now = int(boxes.clock.now)
    assert await service.sweep(now, 9) == 1
    await boxes.settle()
    boxes.clock.now += CONTAINER_MEMORY
    assert await service.sweep(int(boxes.clock.now), 9) == 1
    for ask in asked("alpha"):
        with pytest.raises(ContainerNotFound):
            await ask


@pytest.mark.parametrize("how", ["expired", "deleted"])
async def test_what_ends_while_bytes_come(boxes: Boxes, how: str) -> None:
    box = await boxes.box()

    async def ends() -> AsyncIterator[bytes]:
        yield b"one"
        if how == "deleted":
            await boxes.service.delete("alpha", box)
        boxes.clock.now += IDLE

    with pytest.raises(ContainerExpired if how == "expired" else ContainerNotFound):
        await boxes.upload(box, ends())
    await boxes.settle()


async def test_a_list_of_what_goes_meanwhile(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container, and not the cursor, is what is unknown then."""
    box = await boxes.box()
    with pytest.raises(InvalidRequestError, match="no such file"):
        await boxes.service.files("alpha", box, Window(9, after="cfile_0"))
    with pytest.raises(InvalidRequestError, match="no such container"):
        await boxes.service.page("alpha", Window(9, after="cntr_0"), None)
    touch = boxes.rows.touch

    async def late(*args: Any) -> object:
        row = await touch(*args)
        await boxes.rows.delete("alpha", box)
        return row

    for ask in (
        lambda id_: boxes.service.files("alpha", id_, Window(9)),
        lambda id_: boxes.service.delete("alpha", id_),
    ):
        box = await boxes.box()
        monkeypatch.setattr(boxes.rows, "touch", late)
        with pytest.raises(ContainerNotFound):
            await ask(box)
        monkeypatch.setattr(boxes.rows, "touch", touch)


async def test_who_runs_code_says_so(boxes: Boxes) -> None:
    box = await boxes.box()
    first = await boxes.service.claim("alpha", box, "one", 5)
    assert (first.owner, first.used, first.busy) == (None, False, False)
    assert (await boxes.service.claim("alpha", box, "two", 5)).busy
    assert await boxes.service.hold("alpha", box, "one", 0)
    second = await boxes.service.claim("alpha", box, "two", 5)
    assert (second.owner, second.used, second.busy) == ("one", True, False)
    assert not await boxes.service.hold("alpha", box, "one", 5)
    with pytest.raises(ContainerNotFound):
        await boxes.service.claim("alpha", "cntr_0", "one", 5)


async def test_what_no_container_here_has(boxes: Boxes) -> None:
    """Nothing is dropped without a word."""
    allowlist = {"type": "allowlist", "allowed_domains": ["example.com"]}
    skill = {"type": "skill_reference", "skill_id": "skill_1"}
    for body, param, kind in (
        ({"memory_limit": "16g"}, "memory_limit", InvalidRequestError),
        ({"network_policy": allowlist}, "network_policy", UnsupportedParameter),
        ({"skills": [skill]}, "skills", UnsupportedParameter),
    ):
        with pytest.raises(kind) as caught:
            await boxes.box(**body)
        assert caught.value.param == param
    with pytest.raises(InvalidRequestError) as refused:
        boxes.service.check("64g", None, "tools[0].container.")
    assert refused.value.param == "tools[0].container.memory_limit"
    box = await boxes.box(memory_limit="4g", network_policy={"type": "disabled"}, skills=[])
    assert (await boxes.service.use("alpha", box)).memory_limit == "4g"


async def test_blobs_of_containers_are_no_orphans(boxes: Boxes) -> None:
    """R-104; what broke off before it had a row is one."""
    box = await boxes.box()
    kept = await boxes.upload(box, b"one")
    await boxes.world.blobs.put("cblob_lost", pieces(b"two"))
    assert [await boxes.world.orphans.collect() for _ in range(3)] == [0, 1, 0]
    await boxes.settle(kept.blob)
