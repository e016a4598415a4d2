"""Live sandboxes of containers: losses, limits (R-108 to R-113)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from antiphon.app.sandbox import code_interpreter_of
from antiphon.engine import sessions as module
from antiphon.engine.containers import ContainerOptions
from antiphon.engine.sessions import GONE, LATE, NOT_STARTED, RENEWED
from antiphon.errors import ContainerExpired, ContainerNotFound, Overloaded
from antiphon.protocol.code_interpreter import logs_of
from antiphon.sandbox.base import (
    BoxFile,
    Limits,
)
from antiphon.store.base import ContainerRow
from antiphon.tools.base import Scope
from tests.engine.bench import until
from tests.engine.filing import opened
from tests.engine.sandboxes import FakeSandbox, Stage
from tests.engine.test_containers import IDLE, Boxes


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as world:
        stage = Stage(Boxes(world))
        yield stage
        await stage.sessions.aclose()


@asynccontextmanager
async def reaping(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(module, "_LOOK", 0.01)
    stage.sessions.start()
    yield


# -- losses --------------------------------------------------------------------------------------


async def test_a_sandbox_that_ends_is_followed_by_another(stage: Stage) -> None:
    """R-112: with the files that were kept."""
    box = await stage.boxes.box()
    assert (await stage.run(box, "write a.txt one")).notes == []
    done = await stage.run(box, "write b.txt two", "die")
    assert (done.has_failed, done.notes) == (True, [GONE])
    done = await stage.run(box, "print hi")
    assert (done.has_failed, done.notes) == (False, [RENEWED])
    assert list(stage.last.files_) == ["a.txt"]
    stage.last.is_alive = False  # while nobody looks
    assert (await stage.run(box, "print hi")).notes == [RENEWED]


async def test_a_session_that_was_started_anew_inside(stage: Stage) -> None:
    box = await stage.boxes.box()
    assert (await stage.run(box, "renewed cut")).notes[0] == RENEWED


@pytest.mark.parametrize("lost", ["before", "in"])
async def test_who_was_not_told_of_a_loss_hears_of_it_later(stage: Stage, lost: str) -> None:
    """R-112: the run before which, or in which variables were lost was cancelled."""
    box = await stage.boxes.box()
    await stage.run(box, "print hi")
    if lost == "before":
        stage.last.is_alive = False
    code = ["hang"] if lost == "before" else ["end died", "write a.txt one"]
    free, begun = asyncio.Event(), asyncio.Event()
    files = stage.last.files

    async def slow() -> list[BoxFile]:
        begun.set()
        await free.wait()
        return await files()

    stage.last.files = slow  # type: ignore[method-assign]
    run = asyncio.create_task(stage.run(box, *code))
    if lost == "before":
        await until(lambda: len(stage.sandboxes.made) == 2)
    await (stage.last.running if lost == "before" else begun).wait()
    run.cancel()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await stage.run(box, "print hi")).notes == [RENEWED]
    assert (await stage.run(box, "print hi")).notes == []


async def test_another_process_takes_the_session_over(stage: Stage) -> None:
    """Variables are lost, files are not; and back again."""
    box = await stage.boxes.box()
    await stage.run(box, "write a.txt one")
    ours, other = stage.sessions, stage.another()
    stage.sessions = other
    done = await stage.run(box, "write b.txt two")
    assert done.notes == [RENEWED]
    assert list(stage.last.files_) == ["a.txt", "b.txt"]
    stage.sessions = ours
    done = await stage.run(box, "print hi")
    assert done.notes == [RENEWED]
    assert sorted(stage.last.files_) == ["a.txt", "b.txt"]
    assert not stage.sandboxes.made[0].is_alive, "its first one is ended"


async def test_a_sandbox_that_does_not_start(stage: Stage) -> None:
    box = await stage.boxes.box()
    stage.sandboxes.broken = True
    done = await stage.run(box, "print hi")
    assert (done.has_failed, done.notes) == (True, [NOT_STARTED])
    stage.sandboxes.broken = False
    assert not (await stage.run(box, "print hi")).has_failed


# -- limits --------------------------------------------------------------------------------------


async def test_one_run_of_a_container_at_a_time(stage: Stage) -> None:
    """R-110."""
    box = await stage.boxes.box()
    first = asyncio.create_task(stage.run(box, "hang", "write a.txt one"))
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    second = asyncio.create_task(stage.run(box, "write a.txt two"))
    await asyncio.sleep(0.02)
    assert not second.done()
    stage.last.free.set()
    await asyncio.gather(first, second)
    assert await stage.boxes.texts(box) == {"a.txt": b"two"}


async def test_the_time_of_a_call_begins_when_it_has_the_container(stage: Stage) -> None:
    """Three calls of one turn, each of which takes most of the time that it may."""
    sessions, box = stage.another(seconds=0.3, around=0.3), await stage.boxes.box()
    calls = [asyncio.create_task(sessions.run("alpha", box, "hang")) for _ in range(3)]
    await until(lambda: bool(stage.sandboxes.made))
    for _ in calls:
        await asyncio.wait_for(stage.last.running.wait(), 5)
        stage.last.running.clear()
        await asyncio.sleep(0.4)
        stage.last.free.set()
        await asyncio.sleep(0)
        stage.last.free.clear()
    assert [call.has_failed for call in await asyncio.gather(*calls)] == [False] * 3


async def test_a_call_that_takes_too_long_is_stopped(stage: Stage) -> None:
    """With all that is around its code; who waits for the container has it then."""
    sessions, box = stage.another(seconds=0.1, around=0.1), await stage.boxes.box()
    late = asyncio.create_task(sessions.run("alpha", box, "hang"))
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    done = await asyncio.wait_for(sessions.run("alpha", box, "print hi"), 5)
    assert logs_of(done.outputs) == "hi"
    assert (await late).notes == [LATE.format(0.2)]
    assert (await late).has_failed


async def test_the_tool_lets_calls_wait_for_their_container(stage: Stage) -> None:
    """As long as sessions do, which hold the time of a call."""
    tool = code_interpreter_of(stage.boxes.service, stage.sessions)
    opened_tool = tool.open({"type": "code_interpreter"}, Scope("alpha", frozenset(), 1_000))
    assert [function.timeout for function in opened_tool.functions] == [600 + 600 + 5 + 60]


async def test_one_run_at_a_time_in_all_processes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-110: another process waits until it is free, or its process is dead for a while."""
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    monkeypatch.setattr(module, "_BEAT", 0.01)
    box = await stage.boxes.box()
    first = asyncio.create_task(stage.run(box, "hang", "write a.txt one"))
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    ours, stage.sessions = stage.sessions, stage.another()
    second = asyncio.create_task(stage.run(box, "write a.txt two"))
    for _ in range(5):
        stage.boxes.clock.now += 4
        await asyncio.sleep(0.03)
    assert not second.done(), "it says again and again that it runs"
    stage.sandboxes.made[0].free.set()
    await asyncio.gather(first, second)
    assert await stage.boxes.texts(box) == {"a.txt": b"two"}
    stage.sessions = ours


async def test_a_run_that_was_passed_over_keeps_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-110: its process stood still for so long that another one has the container."""
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    box = await stage.boxes.box()
    await stage.boxes.upload(box, b"old", "gone.txt")
    first = asyncio.create_task(
        stage.run(box, "hang", "write a.txt one", "write b.txt one", "delete gone.txt")
    )
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    ours, stage.sessions = stage.sessions, stage.another()
    stage.boxes.clock.now += 10
    assert not (await stage.run(box, "write a.txt two")).has_failed
    stage.sandboxes.made[0].free.set()
    done = await first
    assert (done.has_failed, done.notes) == (True, [GONE])
    assert await stage.boxes.texts(box) == {"gone.txt": b"old", "a.txt": b"two"}
    stage.sessions = ours


async def test_a_run_ends_when_another_process_has_its_container(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    box = await stage.boxes.box()
    run = asyncio.create_task(stage.run(box, "hang"))
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    now = int(stage.boxes.clock.now) + 10
    claim = await stage.boxes.rows.claim("alpha", box, "another", now, now + 6)
    assert claim is not None
    assert not claim.busy
    assert (await run).notes == [GONE]
    assert not stage.last.is_alive


async def test_the_container_is_held_until_files_are_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-110: also when nobody waits for that, however long it takes."""
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    monkeypatch.setattr(module, "_BEAT", 0.01)
    box = await stage.boxes.box()
    await stage.run(box, "print hi")
    free, begun = asyncio.Event(), asyncio.Event()
    files = stage.last.files

    async def slow() -> list[BoxFile]:
        begun.set()
        await free.wait()
        return await files()

    monkeypatch.setattr(stage.last, "files", slow)
    leaving = asyncio.create_task(stage.run(box, "write a.txt one"))
    await begun.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    ours, stage.sessions = stage.sessions, stage.another()
    second = asyncio.create_task(stage.run(box, "print hi"))
    for _ in range(5):
        stage.boxes.clock.now += 4
        await asyncio.sleep(0.03)
    assert not second.done()
    free.set()
    await second
    assert list(stage.last.files_) == ["a.txt"]
    stage.sessions = ours


async def test_many_that_start_at_once_are_as_many_as_may_be(stage: Stage) -> None:
    boxes = [await stage.boxes.box() for _ in range(6)]
    runs = [stage.run(box, "print hi") for box in boxes]
    assert not any(done.has_failed for done in await asyncio.gather(*runs))
    assert sum(one.is_alive for one in stage.sandboxes.made) <= 2


async def test_the_session_that_was_used_longest_ago_makes_room(stage: Stage) -> None:
    boxes = [await stage.boxes.box() for _ in range(3)]
    for box in (boxes[0], boxes[1], boxes[0], boxes[2]):
        await stage.run(box, "write a.txt one")
    first, second, third = stage.sandboxes.made
    assert (first.is_alive, second.is_alive, third.is_alive) == (True, False, True)
    assert (await stage.run(boxes[1], "print hi")).notes == [RENEWED]
    assert list(stage.last.files_) == ["a.txt"]


async def test_more_runs_than_sessions_wait_a_little(stage: Stage) -> None:
    boxes = [await stage.boxes.box() for _ in range(6)]
    runs = [asyncio.create_task(stage.run(box, "hang")) for box in boxes[:2]]
    await until(lambda: len(stage.sandboxes.made) == 2)
    first = stage.sandboxes.made[0]
    others = [asyncio.create_task(stage.run(box, "print hi")) for box in boxes[2:]]
    await asyncio.sleep(0.1)
    assert not any(one.done() for one in others)
    first.free.set()
    assert not any(done.has_failed for done in await asyncio.gather(*others))
    assert sum(one.is_alive for one in stage.sandboxes.made) == 2
    stage.sandboxes.made[1].free.set()
    await asyncio.gather(*runs)


async def test_one_in_use_is_not_ended_for_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SOON", 0.05)
    boxes = [await stage.boxes.box() for _ in range(3)]
    tasks = []
    for number, box in enumerate(boxes[:2]):
        tasks.append(asyncio.create_task(stage.run(box, "hang")))
        await until(lambda number=number: len(stage.sandboxes.made) > number)  # type: ignore[misc]
        await stage.last.running.wait()
    with pytest.raises(Overloaded):
        await stage.run(boxes[2], "print hi")
    for one in stage.sandboxes.made:
        one.free.set()
    await asyncio.gather(*tasks)
    assert not (await stage.run(boxes[2], "print hi")).has_failed


async def test_memory_is_that_of_the_container(stage: Stage) -> None:
    box = await stage.boxes.box(memory_limit="4g")
    await stage.run(box, "print hi")
    assert (stage.last.limits.memory, stage.last.limits.disk) == (4 << 30, 100)
    assert stage.boxes.service.options == ContainerOptions(4 << 30, 100)


async def test_a_session_ends_with_its_container(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-110: expired or deleted; that of another goes on."""
    lasting, deleted, gone = [await stage.boxes.box() for _ in range(3)]
    stage.sessions = stage.another(9)
    async with reaping(stage, monkeypatch):
        await stage.run(gone, "print hi")
        stage.boxes.clock.now += IDLE // 2
        for box in (lasting, deleted):
            await stage.run(box, "print hi")
        ended, kept, removed = stage.sandboxes.made
        await stage.boxes.service.delete("alpha", deleted)
        stage.boxes.clock.now += IDLE // 2
        await until(lambda: not ended.is_alive and not removed.is_alive)
        await asyncio.sleep(0.05)
        assert kept.is_alive
        with pytest.raises(ContainerExpired):
            await stage.run(gone, "print hi")
        with pytest.raises(ContainerNotFound):
            await stage.run(deleted, "print hi")
        with pytest.raises(ContainerNotFound):
            await stage.sessions.run("beta", lasting, "print hi")
        await stage.sessions.aclose()
    assert not kept.is_alive


async def test_a_container_that_is_deleted_ends_what_runs_in_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await stage.boxes.box()
    async with reaping(stage, monkeypatch):
        run = asyncio.create_task(stage.run(box, "hang"))
        await until(lambda: bool(stage.sandboxes.made))
        await stage.last.running.wait()
        await stage.boxes.service.delete("alpha", box)
        assert (await run).has_failed
        await stage.sessions.aclose()


@dataclass
class Slow:
    """A look at containers that takes its time, once; `of`: only at that one."""

    stage: Stage
    of: str = ""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.look = self.stage.boxes.service.look

    async def __call__(self, project: str, id_: str) -> ContainerRow:
        if self.of in ("", id_):
            self.begun.set()
            await self.free.wait()
        return await self.look(project, id_)


async def test_a_look_from_before_the_sandbox_started_ends_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-110: it is looked at a session while its sandbox starts."""
    box = await stage.boxes.box()
    slow, ready = Slow(stage), asyncio.Event()
    start = stage.sandboxes.start

    async def starting(limits: Limits) -> FakeSandbox:
        await ready.wait()
        return await start(limits)

    monkeypatch.setattr(stage.boxes.service, "look", slow)
    monkeypatch.setattr(stage.sandboxes, "start", starting)
    run = asyncio.create_task(stage.run(box, "hang"))
    await asyncio.sleep(0.02)
    stage.sessions.start()
    await slow.begun.wait()
    ready.set()
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    slow.free.set()
    await asyncio.sleep(0.02)
    assert stage.last.is_alive
    stage.last.free.set()
    assert not (await run).has_failed


async def test_a_session_that_was_made_anew_stays_the_one_of_its_container(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-110: what was looked at before it is not it."""
    first, second, third = [await stage.boxes.box() for _ in range(3)]
    for box in (first, second):
        await stage.run(box, "print hi")
    slow = Slow(stage, first)
    monkeypatch.setattr(stage.boxes.service, "look", slow)
    stage.sessions.start()
    await slow.begun.wait()
    await stage.run(first, "print hi")
    await stage.run(third, "print hi")  # ends that of `second`
    hung = asyncio.create_task(stage.run(second, "hang"))  # that of `first`; made anew
    await until(lambda: len(stage.sandboxes.made) == 4)
    await stage.last.running.wait()
    slow.free.set()
    await asyncio.sleep(0.02)
    waiting = asyncio.create_task(stage.run(second, "print hi"))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    stage.last.free.set()
    await asyncio.gather(hung, waiting)
    assert sum(one.is_alive for one in stage.sandboxes.made) == 2


# -- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("timeout", "longer than 5 seconds"),
        ("died", "it crashed"),
        ("memory", "more memory than the container has"),
    ],
)
async def test_how_it_ended_badly_is_in_the_outputs(stage: Stage, ending: str, said: str) -> None:
    """R-112."""
    box = await stage.boxes.box()
    done = await stage.run(box, "print before", f"end {ending}", "write a.txt one")
    assert done.has_failed
    assert [output["type"] for output in done.outputs] == ["logs", "logs"]
    assert said in done.outputs[1]["logs"]
    assert len(done.files) == 1


async def test_an_exception_is_no_failure_of_the_call(stage: Stage) -> None:
    box = await stage.boxes.box()
    assert not (await stage.run(box, "print Traceback", "end error")).has_failed


async def test_images_are_data_urls_of_what_they_are(stage: Stage) -> None:
    box = await stage.boxes.box()
    done = await stage.run(box, "draw png", "draw nothing", "print cut")
    assert [output["type"] for output in done.outputs] == ["image", "logs"]
    assert done.outputs[0]["url"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert done.notes == ["Some of the output was left out: there was too much of it."]
