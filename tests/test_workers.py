"""Processes that answer questions (src/antiphon/workers.py): R-58, R-100, R-118, R-130."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.workers import Broke, Killed, NotStarted, Terms, TookTooLong, Workers
from antiphon.workers_side import ANSWER, PART, QUESTION, serve
from tests.tools.web_world import nobody_waits

MODULE = "tests.odd_worker"
MIB = 1024 * 1024


def terms(
    *,
    module: str = MODULE,
    patience: float = 20,
    most: int = 2,
    idle: float = 60,
    questions: int = 9,
) -> Terms:
    return Terms(module, 2 * MIB, patience, most=most, idle=idle, questions=questions)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(terms())
    yield made
    await made.aclose()
    assert children() == set()


async def echo(workers: Workers, project: str = "p", body: bytes = b"") -> int:
    """The process that answered."""
    text, length, pid = await workers.ask(project, {"do": "echo", "text": "ä"}, body)
    assert (text, length) == ("ä", len(body))
    return int(pid)


async def gone(*pids: int) -> None:
    async with asyncio.timeout(5):
        while children() & set(pids):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def asked(workers: Workers, do: str = "sleep", project: str = "p") -> "asyncio.Task[Any]":
    """A question that a process has begun with."""
    task = asyncio.create_task(workers.ask(project, {"do": do}))
    async with asyncio.timeout(5):
        while not any(worker.is_ready for worker in workers._busy):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return task


async def test_one_process_answers_question_after_question(workers: Workers) -> None:
    assert len({await echo(workers, body=b"x" * size) for size in (0, 1, 3 * MIB)}) == 1


async def test_who_breaks_it_harms_only_himself(workers: Workers) -> None:
    """Whatever it dies of; the next question has another process."""
    pid = await echo(workers)
    for do in ("die", "fail", "exit", "hoard"):
        with pytest.raises(Broke) as raised:
            await workers.ask("p", {"do": do})
        assert not isinstance(raised.value, Killed)
        new = await echo(workers)
        assert new != pid
        pid = new


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_who_is_killed_by_others_may_be_innocent(
    workers: Workers, number: signal.Signals
) -> None:
    """Who has no memory left, or ends a service, kills so."""
    with pytest.raises(Killed):
        await workers.ask("p", {"do": "suffer", "signal": number})
    await echo(workers)


async def test_so_may_be_who_was_killed_before(workers: Workers) -> None:
    """A worker that rested: nobody has noticed yet."""
    pid = await echo(workers)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)  # noqa: ASYNC251 - so the loop does not hear of it
    with pytest.raises(Killed):
        await echo(workers)
    await echo(workers)


async def test_it_does_not_harm_who_works_beside_it(workers: Workers) -> None:
    """R-100."""
    sleeping = asyncio.create_task(workers.ask("q", {"do": "sleep"}))
    with pytest.raises(Broke):
        await workers.ask("p", {"do": "die"})
    assert not sleeping.done()
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)


async def test_it_is_given_up_when_it_takes_long() -> None:
    workers = Workers(terms(patience=0.3))
    with pytest.raises(TookTooLong):
        await workers.ask("p", {"do": "sleep"})
    await gone(*children())
    await workers.aclose()


@pytest.mark.parametrize("busy", [True, False])
async def test_it_gives_up_itself(workers: Workers, *, busy: bool) -> None:
    """R-100: it knows better than we which part of its work takes long."""
    start = time.monotonic()
    with pytest.raises(TookTooLong):
        await workers.ask("p", {"do": "overstay", "busy": busy, "seconds": 0.2})
    assert time.monotonic() - start < 8
    await echo(workers)


async def test_who_stops_waiting_ends_the_work(workers: Workers) -> None:
    """R-58."""
    task = await asked(workers)
    (pid,) = children()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await gone(pid)


async def test_who_stops_waiting_for_a_stopped_process_ends_it(workers: Workers) -> None:
    pid = await echo(workers)
    os.kill(pid, signal.SIGSTOP)
    task = await asked(workers)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await workers.aclose()
    assert children() == set()


async def test_an_answer_has_a_limit(workers: Workers) -> None:
    size = 2 * MIB - 1_024  # frames cost a bit
    answer = await workers.ask("p", {"do": "long", "size": size})
    assert answer == {"is": "long", "text": "x" * size}
    with pytest.raises(Broke):
        await workers.ask("p", {"do": "long", "size": 2 * MIB})


async def test_a_large_answer_holds_nobody_up() -> None:
    """R-118: JSON is parsed at one go, and so large an answer takes longer than anybody waits."""
    workers = Workers(Terms(MODULE, 64 * MIB, 60))
    await echo(workers)
    async with nobody_waits(0.05):
        answer = await workers.ask("p", {"do": "many", "number": 20_000})
    assert answer == {"texts": ["ä" * 1_000] * 20_000, "none": []}
    await workers.aclose()


async def test_an_answer_that_nobody_reads_holds_no_end_up(workers: Workers) -> None:
    """asyncio waits for the end of a pipe that it has stopped to read."""
    await echo(workers)
    (worker,) = workers._idle
    question = orjson.dumps({"do": "long", "size": 2 * MIB})
    worker.sink.write(QUESTION.pack(len(question), 0) + question)
    async with asyncio.timeout(5):
        while len(worker.source._buffer) < 128 * 1024:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await workers.aclose()


async def test_what_a_library_prints_is_no_answer(workers: Workers) -> None:
    assert await workers.ask("p", {"do": "chatter"}) == "done"
    await echo(workers)


async def test_it_writes_no_files(workers: Workers, tmp_path: Path) -> None:
    path = tmp_path / "written"
    assert await workers.ask("p", {"do": "write", "path": str(path)}) == "refused"


async def test_it_is_replaced_after_many_questions() -> None:
    workers = Workers(terms(questions=3))
    pids = [await echo(workers) for _ in range(6)]
    assert len(set(pids[:3])) == len(set(pids[3:])) == 1
    assert pids[0] != pids[3]
    await workers.aclose()


async def test_it_ends_when_it_has_nothing_to_do() -> None:
    workers = Workers(terms(idle=0.1))
    pid = await echo(workers)
    await gone(pid)
    assert await echo(workers) != pid
    await workers.aclose()


async def test_one_that_died_meanwhile_is_replaced(workers: Workers) -> None:
    pid = await echo(workers)
    (worker,) = workers._idle
    worker.process.kill()
    await worker.process.wait()
    assert await echo(workers) != pid


async def test_so_many_at_once_and_projects_take_turns() -> None:
    """R-118: who comes later waits for one question of another project, not for all of them."""
    workers = Workers(terms(most=1, patience=0.5))
    tasks = [asyncio.create_task(workers.ask("p", {"do": "sleep"})) for _ in range(8)]
    await asyncio.sleep(0)
    await echo(workers, "q")
    assert sum(task.done() for task in tasks) <= 1
    assert len(children()) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await workers.aclose()
    assert children() == set()


async def test_nothing_is_left_when_they_are_closed() -> None:
    """Neither a process nor somebody who waits; and nobody's question is to blame."""
    workers = Workers(terms())
    await echo(workers)
    task = await asked(workers)
    await workers.aclose()
    assert children() == set()
    with pytest.raises(NotStarted):
        await task
    with pytest.raises(NotStarted):
        await workers.ask("p", {"do": "sleep"})


@pytest.mark.parametrize("module", ["tests.no_such_module", "this"])
async def test_one_that_does_not_start(module: str) -> None:
    """``this`` says a poem."""
    workers = Workers(terms(module=module))
    with pytest.raises(NotStarted):
        await echo(workers)
    await workers.aclose()


async def test_one_that_takes_long_to_start() -> None:
    workers = Workers(Terms(MODULE, MIB, 20, start=0.001))
    with pytest.raises(NotStarted):
        await echo(workers)
    await workers.aclose()


async def test_one_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    workers = Workers(terms())
    with pytest.raises(NotStarted):
        await echo(workers)
    await workers.aclose()


async def test_nobody_else_waits_meanwhile(workers: Workers) -> None:
    async with nobody_waits():
        await asyncio.gather(*(echo(workers, body=b"x" * 4 * MIB) for _ in range(8)))


async def test_it_knows_no_secret(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-130. What the terminal says to the server is not said to it."""
    monkeypatch.setenv("ANTIPHON_API_KEYS", "SECRET-KEY")
    environment = await workers.ask("p", {"do": "environment"})
    assert "PYTHONPATH" in environment
    assert "SECRET-KEY" not in str(environment)
    session, pid = await workers.ask("p", {"do": "session"})
    assert session == pid


@pytest.mark.parametrize("do", ["echo", "spin"])
def test_it_ends_with_the_server(do: str) -> None:
    """Also when that is killed, and when the worker would be busy for a long time yet."""
    program = """
        import asyncio, os, sys
        from antiphon.workers import Terms, Workers

        async def main():
            workers = Workers(Terms("tests.odd_worker", 1000, 20))
            print((await workers.ask("p", {"do": "echo", "text": ""}))[2], flush=True)
            asyncio.create_task(workers.ask("p", {"do": sys.argv[1], "text": ""}))
            await asyncio.sleep(0.2)
            os.kill(os.getpid(), 9)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), do],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    try:
        while state_of(pid) not in (None, "Z"):  # a zombie is one that init has yet to collect
            assert time.monotonic() < deadline
            time.sleep(0.01)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise


async def test_it_goes_before_the_server_when_there_is_no_memory(workers: Workers) -> None:
    pid = await echo(workers)
    assert first_line(f"/proc/{pid}/oom_score_adj") == "1000"


def test_questions_are_answered_in_order() -> None:
    """The other side of the pipes."""
    questions = [
        QUESTION.pack(len(head), len(body)) + head + body
        for head, body in ((b"1", b"one"), (b'"2"', b""))
    ]
    sink = io.BytesIO()
    serve(io.BytesIO(b"".join(questions) + b"cut"), sink, lambda head, body: [head, len(body)])
    assert frames_of(sink) == [None, [1, 3], None, ["2", 0], None]


def test_no_frame_is_large() -> None:
    """R-118: whatever an answer has; and nothing of it is lost."""
    texts = ["€" * size for size in (1, PART - 1, PART, 5, PART + 1, *range(1_000))]
    said = {"code": "x", "short": "ä", "text": "".join(texts), "texts": texts, "none": [], "n": [1]}
    sink = io.BytesIO()
    serve(io.BytesIO(QUESTION.pack(1, 0) + b"1"), sink, lambda _, __: said)
    ready, head, *parts, end = frames_of(sink)
    assert (ready, end) == (None, None)
    assert head == {"code": "x", "short": "ä", "none": [], "n": [1]}
    assert max(len(orjson.dumps(part)) for part in parts) < 256 * 1024
    assert "".join(part for key, part in parts if key == "text") == said["text"]
    assert [text for key, part in parts if key == "texts" for text in part] == texts


def frames_of(sink: io.BytesIO) -> list[Any]:
    frames, rest = [], sink.getvalue()
    while rest:
        (length,) = ANSWER.unpack(rest[:4])
        frames.append(orjson.loads(rest[4 : 4 + length]) if length else None)
        rest = rest[4 + length :]
    return frames


def first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline().rstrip("\n")


def state_of(pid: int) -> str | None:
    try:
        return first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()[0]
    except OSError:
        return None


def children(module: str = MODULE) -> set[int]:
    """Processes of this test that run a module."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                ours = module.encode() in file.read()
            with open(f"/proc/{name}/stat", encoding="ascii") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if ours and state != "Z" and int(parent) == os.getpid():
            found.add(int(name))
    return found
