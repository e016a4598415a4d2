"""Which container a run of `code_interpreter` has, and which files are in it."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.coding import OVER, Coding
from antiphon.engine.containers import ContainerOptions
from antiphon.errors import (
    ContainerNotFound,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLarge,
)
from antiphon.protocol.code_interpreter import Executed
from antiphon.protocol.containers import NewContainer
from antiphon.store.base import ContainerRow, Window
from tests.blobs.putting import pieces
from tests.engine.filing import opened
from tests.engine.sandboxes import Stage
from tests.engine.test_containers import IDLE, Boxes

AUTO: dict[str, Any] = {"type": "auto"}


class Told:
    """A run: its context, and what it has said itself."""

    def __init__(self, items: Sequence[Any] = (), output: Sequence[Any] = ()) -> None:
        self.items = [*items, *output]
        self.output = output

    def begin(self, item_type: str, fields: dict[str, Any]) -> Any:
        raise AssertionError((item_type, fields))


class World(Stage):
    """Containers, sessions, and what the tool asks."""

    def __init__(self, boxes: Boxes) -> None:
        super().__init__(boxes)
        self.coding = Coding(boxes.service, self.sessions)

    async def go(self, wanted: Any, *items: Any, code: str = "print hi") -> tuple[str, Executed]:
        place = await self.coding.place("alpha", wanted, Told(items))
        return place.id, await place.run(code)

    async def file(self, project: str, content: bytes, name: str) -> str:
        files = self.boxes.world.files
        async with files.arriving(project) as arrival:
            await arrival.take(pieces(content))
            return (await files.add(project, arrival, name, "user_data", None)).id

    async def containers(self) -> list[str]:
        page = await self.boxes.service.page("alpha", Window(limit=100), None)
        return [row.id for row in page[0]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as files:
        world = World(Boxes(files))
        yield world
        await world.sessions.aclose()


def call(container_id: str | None, status: str = "completed") -> dict[str, Any]:
    return {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": status,
        "container_id": container_id,
    }


def said(*file_ids: str) -> dict[str, Any]:
    parts = [{"type": "input_file", "file_id": id_} for id_ in file_ids]
    return {"type": "message", "role": "user", "content": [{"type": "input_text"}, *parts]}


async def test_a_container_is_made_when_code_runs(world: World) -> None:
    place = await world.coding.place("alpha", AUTO, Told())
    assert await world.containers() == []
    await place.run("print hi")
    await place.run("print hi")
    assert await world.containers() == [place.id]


async def test_that_of_the_newest_call_is_used(world: World) -> None:
    """R-110: one that is over, or another project's, is passed over."""
    first, _ = await world.go(AUTO)
    second, _ = await world.go(AUTO)
    assert (await world.go(AUTO, call(first), call(second), call(None)))[0] == second
    assert (await world.go(AUTO, call(second), call(first), call("cntr_x")))[0] == first
    other = await world.coding.place("beta", AUTO, Told([call(first)]))
    assert other.id != first
    await world.boxes.service.delete("alpha", second)
    assert (await world.go(AUTO, call(first), call(second)))[0] == first
    world.boxes.clock.now += IDLE
    third, done = await world.go(AUTO, call(first))
    assert (third != first, done.notes) == (True, [OVER])
    assert (await world.go(AUTO, call(first), call(third)))[1].notes == []
    assert (await world.go(AUTO))[1].notes == []


async def test_that_of_calls_that_a_summary_stands_for_is_used(world: World) -> None:
    first, _ = await world.go(AUTO)
    summary = {"type": "message", "role": "assistant", "content": [], "container_id": first}
    assert (await world.go(AUTO, summary, said()))[0] == first
    world.boxes.clock.now += IDLE
    second, done = await world.go(AUTO, summary)
    assert (second != first, done.notes) == (True, [OVER])


async def test_so_many_containers_of_a_context_are_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a client names."""
    asked: list[str] = []
    touch = world.boxes.rows.touch

    async def counted(project: str, id_: str, now: int) -> ContainerRow | None:
        asked.append(id_)
        return await touch(project, id_, now)

    monkeypatch.setattr(world.boxes.rows, "touch", counted)
    named = [call(f"cntr_{number}") for number in range(100)]
    await world.coding.place("alpha", AUTO, Told(named))
    assert asked == [f"cntr_{number}" for number in range(99, 79, -1)]


async def test_what_was_said_of_a_call_stays_true(world: World) -> None:
    """R-66: a process announced the call, and died before there was a container."""
    place = await world.coding.place("alpha", AUTO, Told((), [call("cntr_1", "in_progress")]))
    assert place.id == "cntr_1"
    await place.run("print hi")
    assert await world.containers() == ["cntr_1"]


async def test_what_a_client_says_of_a_call_is_nothing(world: World) -> None:
    """R-30: no id is taken from it, and nobody learns which there are."""
    other = await world.boxes.service.create("beta", NewContainer(name="theirs"))
    for id_ in (other.id, "x", "cntr_" + "0" * 32):
        box, done = await world.go(AUTO, call(id_, "in_progress"))
        assert box != id_
        assert not done.has_failed


async def test_an_announced_one_that_is_over_is_followed_by_another(world: World) -> None:
    place = await world.coding.place("alpha", AUTO, Told((), [call("cntr_1", "in_progress")]))
    await place.run("print hi")
    world.boxes.clock.now += IDLE
    place = await world.coding.place("alpha", AUTO, Told((), [call("cntr_1", "in_progress")]))
    assert not (await place.run("print hi")).has_failed
    assert place.id != "cntr_1"


async def test_one_that_is_named(world: World) -> None:
    box = await world.boxes.box()
    assert (await world.go(box, call("cntr_x")))[0] == box
    await world.coding.check("alpha", box, "tools[0].container")
    for project, id_ in (("beta", box), ("alpha", "cntr_x")):
        with pytest.raises(ContainerNotFound) as caught:
            await world.coding.check(project, id_, "tools[0].container")
        assert caught.value.param == "tools[0].container"


async def test_files_of_the_tool_and_of_messages(world: World) -> None:
    """Once each, also in a later run; what is gone is missing, and the later of a name wins."""
    one = await world.file("alpha", b"1", "a.txt")
    two = await world.file("alpha", b"2", "b.txt")
    new = await world.file("alpha", b"3", "b.txt")
    other = await world.file("beta", b"4", "c.txt")
    wanted = {**AUTO, "file_ids": [one]}
    box, _ = await world.go(wanted, said(two, other, "file-none"))
    assert await world.boxes.texts(box) == {"a.txt": b"1", "b.txt": b"2"}
    await world.go(wanted, said(two), call(box), code="write a.txt changed")
    await world.go(wanted, said(two), call(box), said(new))
    assert await world.boxes.texts(box) == {"a.txt": b"changed", "b.txt": b"3"}
    await world.boxes.upload(box, b"newer", "b.txt")
    await world.go(wanted, said(two), call(box), said(new))
    assert (await world.boxes.texts(box))["b.txt"] == b"newer", "what a user put there stays"


async def test_a_file_that_is_new_replaces_what_has_its_name(world: World) -> None:
    """A user edits what code made, and sends it back; the model is told what is there now."""
    box, _ = await world.go(AUTO, code="write a.txt of-code")
    edited = await world.file("alpha", b"edited", "a.txt")
    _, done = await world.go(AUTO, call(box), said(edited))
    assert await world.boxes.texts(box) == {"a.txt": b"edited"}
    assert done.notes == [
        "/mnt/data/a.txt is the newest file of that name; what had it before is gone."
    ]
    assert world.last.files_["a.txt"][0] == b"edited"
    _, done = await world.go(AUTO, call(box), said(edited), code="write a.txt changed")
    assert (await world.boxes.texts(box), done.notes) == ({"a.txt": b"changed"}, [])


@pytest.mark.parametrize("how", ["tool", "container", "file"])
async def test_a_file_that_was_given_is_not_brought_again(world: World, how: str) -> None:
    """Whoever gave it, and whatever became of it."""
    mine = await world.file("alpha", b"mine", "a.txt")
    box = await world.boxes.box(*([mine] if how == "container" else []))
    if how == "file":
        await world.boxes.service.copy("alpha", box, mine)
    await world.go(box, said(mine), code="write a.txt changed")
    await world.go(box, said(mine))
    assert await world.boxes.texts(box) == {"a.txt": b"changed"}
    await world.go(box, said(mine), code="delete a.txt")
    assert (await world.go(box, said(mine)))[1].notes == []
    assert await world.boxes.texts(box) == {}


async def test_what_cannot_be_brought_is_told(world: World) -> None:
    """The model hears of it in the next output, and a later run tries again."""
    world.boxes.service.options = ContainerOptions(disk=30)
    small = await world.file("alpha", b"1" * 20, "small.txt")
    large = await world.file("alpha", b"2" * 20, "large.txt")
    other = await world.file("beta", b"3", "other.txt")
    box, done = await world.go(AUTO, said(small, large, other))
    first, second = done.notes
    assert other in first
    assert second.startswith("The file /mnt/data/large.txt could not be brought: ")
    await world.go(AUTO, call(box), code="delete small.txt")
    _, done = await world.go(AUTO, call(box), said(small, large))
    assert (await world.boxes.texts(box), done.notes) == ({"large.txt": b"2" * 20}, [])
    newer = await world.file("alpha", b"4" * 31, "large.txt")
    (note,) = (await world.go(AUTO, call(box), said(large, newer)))[1].notes
    assert note.endswith("What is there is an older one.")


async def test_of_two_with_one_name_the_model_knows(world: World) -> None:
    one, two = [await world.file("alpha", body, "a.txt") for body in (b"1", b"2")]
    box, done = await world.go(AUTO, said(one, two))
    assert [note.partition(";")[0] for note in done.notes] == [
        "/mnt/data/a.txt is the newest file of that name"
    ]
    assert (await world.go(AUTO, call(box), said(one, two)))[1].notes == []
    assert await world.boxes.texts(box) == {"a.txt": b"2"}


async def test_a_file_that_no_container_has_room_for(world: World) -> None:
    """As `containers.create` says it (R-102)."""
    world.boxes.service.options = ContainerOptions(disk=30)
    fine, large = [await world.file("alpha", b"x" * size, "a.txt") for size in (30, 31)]
    with pytest.raises(PayloadTooLarge) as caught:
        await world.coding.check("alpha", {**AUTO, "file_ids": [fine, large]}, "tools[0].container")
    assert caught.value.param == "tools[0].container.file_ids[1]"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"memory_limit": "16g"}, "memory_limit"),
        ({"network_policy": {"type": "allowlist", "allowed_domains": ["x"]}}, "network_policy"),
        ({"file_ids": ["file-none"]}, "file_ids[0]"),
    ],
)
async def test_what_cannot_be_had(world: World, more: Any, param: str) -> None:
    with pytest.raises((InvalidRequestError, NotFoundError)) as caught:
        await world.coding.check("alpha", {**AUTO, **more}, "tools[1].container")
    assert caught.value.param == f"tools[1].container.{param}"
    await world.coding.check("alpha", {**AUTO, "memory_limit": "4g"}, "tools[1].container")
