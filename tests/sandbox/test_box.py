"""The server's end of the pipes, against programs that say anything (`sandbox.box`)."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from textwrap import dedent

import pytest
import uvloop

from antiphon.sandbox import box as module
from antiphon.sandbox.base import (
    BoxFile,
    Limits,
    Picture,
    SandboxGone,
    SandboxRefused,
    Text,
    is_decent,
)
from antiphon.sandbox.box import MOST_LINE, Box

#: What each program can do.
_PROGRAM = """
import json, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer
def ask():
    line = source.readline()
    if not line: sys.exit()
    question = json.loads(line)
    return question, source.read(question.get("size", 0))
def say(word, body=b""):
    raw((json.dumps({**word, "size": len(body)} if body else word) + "\\n").encode() + body)
def raw(content):
    sink.write(content); sink.flush()
"""


@asynccontextmanager
async def _box(code: str) -> AsyncIterator[Box]:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _PROGRAM + dedent(code)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MOST_LINE,
    )
    box = Box(program, Limits())
    try:
        yield box
    finally:
        await box.close()


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _get(box: Box, most: int = 1 << 20) -> bytes:
    async with aclosing(box.get("a", most)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_a_run_is_texts_and_images_in_order() -> None:
    code = r"""
    question, body = ask()
    say({"shown": "text"}, b"a"); say({"shown": "text"}, b"b\xff")
    say({"shown": "image/png"}, b"\xff\xd8\xff"); say({"shown": "image/jpeg"}, b"other")
    say({"shown": "text"}, body); say({"end": "error", "cut": True, "renewed": True})
    """
    async with _box(code) as box:
        ran = await box.run("c\ud800", 5)
    assert ran.ending == "error"
    assert (ran.cut, ran.renewed) == (True, True)
    assert ran.shown == [
        Text("ab\ufffd"),
        Picture(b"\xff\xd8\xff", "image/jpeg"),
        Picture(b"other", "image/png"),
        Text("c?"),
    ]


BAD_ANSWERS = {
    "nothing": "",
    "no JSON": 'raw(b"what\\n")',
    "no object": 'raw(b"[]\\n")',
    "half a line": 'raw(b"{")',
    "a line that is too long": 'raw(b" " * 200_000 + b"{}\\n")',
    "a line without an end": 'raw(b"x" * 1_000_000)',
    "deep JSON": 'raw(b"[" * 60_000 + b"\\n")',
    "a body that is cut": 'raw(b\'{"shown": "text", "size": 100}\\nshort\')',
    "a negative size": 'raw(b\'{"shown": "text", "size": -1}\\n\')',
    "a size that is no number": 'raw(b\'{"shown": "text", "size": "1"}\\n\')',
    "a size that is true": 'raw(b\'{"shown": "text", "size": true}\\nx\')',
    "too much text": 'raw(b\'{"shown": "text", "size": 1048577}\\n\'); raw(b"x" * 1048577)',
    "too large an image": 'raw(b\'{"shown": "image/png", "size": 16777217}\\n\')',
    "too much in all": 'for _ in range(2): say({"shown": "text"}, b"x" * 600_000)',
    "endless words": 'while True: raw(b\'{"shown": "text"}\\n\' * 100)',
    "endless images": 'while True: say({"shown": "image/png"}, b"x")',
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_run_with_a_bad_answer_ends_the_sandbox(name: str) -> None:
    async with _box(f"ask()\n{BAD_ANSWERS[name]}") as box:
        with pytest.raises(SandboxGone):
            await asyncio.wait_for(box.run("x", 30), 10)
        assert not box.is_alive
        with pytest.raises(SandboxGone):
            await box.run("x", 1)


async def _dies(box: Box) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        os.kill(box.pid, signal.SIGKILL)
        for _ in range(20):
            await asyncio.sleep(0.01)
            box.too_large()
        yield b"x"

    with pytest.raises(SandboxGone):
        await box.put("a", 2, pieces())


async def _was_dead(box: Box) -> None:
    os.kill(box.pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    with pytest.raises(SandboxGone):
        await box.run("x", 5)


async def _is_closed(box: Box) -> None:
    run = asyncio.create_task(box.run("x", 0.2))
    await asyncio.sleep(0.1)
    os.kill(box.pid, signal.SIGKILL)
    box.too_large()
    with pytest.raises(SandboxGone):
        await run


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("case", [_dies, _was_dead, _is_closed])
def test_whatever_the_loop_a_dead_one_is_gone(
    case: Callable[[Box], Awaitable[None]], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """uvloop says RuntimeError when it writes to what is closed."""

    async def play() -> None:
        async with _box("time.sleep(60)") as box:
            await case(box)
            assert not box.is_alive

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(play())


BAD_LISTS = {
    "no list": b"{}",
    "a number": b"5",
    "no rows": b"[1]",
    "empty rows": b"[[]]",
    "short rows": b'[["a", 1]]',
    "long rows": b'[["a", 1, 2, 3]]',
    "texts": b'["abc"]',
    "objects": b"[{}]",
    "no path": b"[[null, 1, 2]]",
    "no size": b'[["a", "1", 2]]',
    "a negative size": b'[["a", -1, 2]]',
    "true": b'[["a", true, 2]]',
    "too large": b'[["a", 1, 9223372036854775808]]',
    "a fraction": b'[["a", 1.5, 2]]',
    "no JSON": b"[[",
}


@pytest.mark.parametrize("name", BAD_LISTS)
async def test_a_bad_list_of_files_ends_the_sandbox(name: str) -> None:
    async with _box(f"ask(); say({{'end': ''}}, {BAD_LISTS[name]!r}); ask()") as box:
        with pytest.raises(SandboxGone):
            await box.files()
        assert not box.is_alive


def test_which_paths_are_decent() -> None:
    """Spaces of any script are: names that clients give may have them, too."""
    assert all(map(is_decent, ("a/b", "a\u3000b.csv", "a\u00a01.png", "a\u202fb", "\ufffd")))
    bad = ("../a", "/a", "a/", "", ".", "a\nb", "a\x00", "a\u202eb", "x" * 256, "x/" * 512 + "x")
    assert not any(map(is_decent, bad))


async def test_files_are_listed_whatever_their_names_are() -> None:
    """Who keeps them says what cannot be kept."""
    rows = [["a/b", 1, 2], ["../a", 3, 4]]
    async with _box(f"ask(); say({{'end': ''}}, {json.dumps(rows).encode()!r}); ask()") as box:
        assert await box.files() == [BoxFile("a/b", 1, 2), BoxFile("../a", 3, 4)]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        'say({"end": "", "size": 2_000_000})',
        'say({"end": "", "size": -1})',
        'raw(b\'{"end": "", "size": 10}\\nfour\')',
        'say({"end": "", "size": None})',
    ],
)
async def test_a_file_that_is_not_as_announced_ends_the_sandbox(answer: str) -> None:
    async with _box(f"ask()\n{answer}") as box:
        with pytest.raises(SandboxGone):
            await _get(box)
        assert not box.is_alive


async def test_what_is_refused_leaves_the_sandbox_as_it_was() -> None:
    code = r"""
    ask(); say({"end": "Is a directory"})
    ask(); say({"end": "bad\x1b[31m\nwords" })
    ask(); say({"end": "", "size": 3}); raw(b"abc")
    """
    async with _box(code) as box:
        with pytest.raises(SandboxRefused, match=r"^Is a directory$"):
            await _get(box)
        with pytest.raises(SandboxRefused, match=r"^It cannot be done$"):
            await box.delete("a")
        assert await _get(box) == b"abc"


async def test_who_stops_reading_a_file_leaves_it_at_its_end() -> None:
    code = """
    ask(); say({"end": "", "size": 1_000_000}); raw(b"x" * 1_000_000)
    ask(); say({"end": ""})
    """
    async with _box(code) as box:
        async with aclosing(box.get("a", 1 << 20)) as pieces:
            async for _ in pieces:
                break
        await box.delete("a")


@pytest.mark.parametrize("sent", [[b"ab"], [b"abcdef"], []])
async def test_a_put_of_another_size_ends_the_sandbox(sent: list[bytes]) -> None:
    async with _box("ask(); say({'end': ''}); ask()") as box:
        with pytest.raises(SandboxGone):
            await box.put("a", 4, _pieces(*sent))
        assert not box.is_alive


async def test_a_put_whose_pieces_fail_ends_the_sandbox() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise LookupError

    async with _box("ask(); ask()") as box:
        with pytest.raises(LookupError):
            await box.put("a", 4, pieces())
        assert not box.is_alive


async def test_a_put_to_one_who_does_not_read_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    async with _box("time.sleep(60)") as box:
        with pytest.raises(SandboxGone):
            await box.put("a", 64 << 20, _pieces(*[bytes(1 << 20)] * 64))


async def test_an_interrupt_that_is_heard_keeps_the_session() -> None:
    code = """
    while True:
        question, body = ask()
        if question["do"] == "interrupt": say({"shown": "text"}, b"stopped"); say({"end": "error"})
        elif body == b"print": say({"shown": "text"}, b"fine"); say({"end": "ok"})
    """
    async with _box(code) as box:
        ran = await box.run("loop", 0.2)
        assert (ran.ending, ran.shown) == ("timeout", [Text("stopped")])
        assert (await box.run("print", 5)).ending == "ok"
        run = asyncio.create_task(box.run("loop", 60))
        await asyncio.sleep(0.2)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (await box.run("print", 5)).shown == [Text("fine")]


async def test_a_session_that_had_to_be_started_anew_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-112: at once, or to who runs next when nobody waited for it."""
    monkeypatch.setattr(module, "_GRACE", 0.1)
    code = """
    while True:
        question, body = ask()
        if question["do"] == "restart": say({"end": "died", "renewed": False})
        elif body == b"print": say({"end": "ok", "renewed": False})
    """
    async with _box(code) as box:
        ran = await box.run("loop", 0.1)
        assert (ran.ending, ran.renewed) == ("timeout", True)
        assert not (await box.run("print", 5)).renewed
        for _ in range(2):
            run = asyncio.create_task(box.run("loop", 60))
            await asyncio.sleep(0.1)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        assert (await box.run("print", 5)).renewed
        assert not (await box.run("print", 5)).renewed


async def test_one_that_hears_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.1)
    monkeypatch.setattr(module, "_AGAIN", 0.1)
    async with _box("while True: ask()") as box:
        with pytest.raises(SandboxGone):
            await box.run("loop", 0.1)
        assert not box.is_alive
    async with _box("while True: ask()") as box:
        run = asyncio.create_task(box.run("loop", 60))
        await asyncio.sleep(0.2)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        with pytest.raises(SandboxGone):
            await box.run("loop", 1)


async def test_one_with_too_much_memory_starts_anew_or_is_ended() -> None:
    code = """
    while True:
        question, _ = ask()
        if question["do"] == "restart": say({"end": "died"})
    """
    async with _box(code) as box:
        run = asyncio.create_task(box.run("grow", 60))
        await asyncio.sleep(0.2)
        box.too_large()
        assert (await run).ending == "memory"
        assert box.is_alive
        box.too_large()
        assert not box.is_alive
    async with _box("while True: ask()") as box:
        run = asyncio.create_task(box.run("grow", 60))
        await asyncio.sleep(0.2)
        for _ in range(5):
            box.too_large()
        with pytest.raises(SandboxGone):
            await run


async def test_what_runs_no_code_is_not_told_of_its_memory() -> None:
    """A word between the pieces of a file would be in the file."""
    code = """
    question, body = ask(); say({"end": "" if body == b"ab" else "mixed"})
    """

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        box.too_large()
        yield b"b"

    async with _box(code + "ask()") as box:
        await box.put("a", 2, pieces())
        assert box.is_alive
        box.too_large()
        assert not box.is_alive, "it was seen again"


async def test_a_run_that_nobody_waits_for_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 60.0)
    code = """
    while True:
        question, _ = ask()
        if question["do"] == "restart": say({"end": "died"})
        if question["do"] == "list": say({"end": ""})
    """
    async with _box(code) as box:
        run = asyncio.create_task(box.run("grow", 60))
        await asyncio.sleep(0.2)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert box.is_busy
        box.too_large()
        assert await asyncio.wait_for(box.files(), 5) == []


async def test_a_close_at_the_beginning_of_a_run_is_its_end() -> None:
    """Both read the pipe: whoever comes first."""
    async with _box("time.sleep(60)") as box:
        run, close = asyncio.create_task(box.run("x", 60)), asyncio.create_task(box.close())
        with pytest.raises(SandboxGone):
            await asyncio.wait_for(run, 5)
        await close


async def test_a_close_is_the_end_for_who_waits_for_a_run_that_was_left() -> None:
    async with _box("while True: ask()") as box:
        run = asyncio.create_task(box.run("x", 60))
        await asyncio.sleep(0.2)
        run.cancel()
        other = asyncio.create_task(box.run("y", 60))
        await asyncio.sleep(0.1)
        await box.close()
        with pytest.raises(SandboxGone):
            await asyncio.wait_for(other, 5)


async def test_a_kill_in_the_middle_is_the_end_for_all_who_wait() -> None:
    async with _box("while True: ask()") as box:
        asked = (box.run("x", 60), box.run("y", 60), box.delete("a"), box.files())
        waiting = [asyncio.ensure_future(one) for one in asked]
        await asyncio.sleep(0.2)
        box.kill()
        box.kill()
        found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert [type(one) for one in found] == [SandboxGone] * 4


async def test_one_that_never_says_a_word_does_not_get_ready() -> None:
    async with _box("time.sleep(60)") as box:
        with pytest.raises(SandboxGone):
            await box.get_ready(0.2)
        assert not box.is_alive
    async with _box("say({'end': ''}); ask()") as box:
        await box.get_ready(10)
        assert box.is_alive
