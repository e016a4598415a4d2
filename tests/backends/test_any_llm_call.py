"""A call of any-llm as an answer: slow readers, limits and ends, with a library that is played."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from antiphon.backends.any_llm.call import Call, Said
from antiphon.backends.any_llm.library import SOURCE, Chunk, Library, Listed
from antiphon.backends.any_llm.traits import traits_of


class Piece:
    """A chunk."""

    def model_dump_json(self, *, exclude_none: bool) -> str:
        return "{}"


class PlayedError(Exception):
    """What this library raises."""

    status_code = 429
    message = "too much"


class Played:
    """A provider that says `pieces`, then waits, in the way of an SDK that blocks or not."""

    def __init__(self, pieces: int, *, blocks: bool = False, fails: bool = False) -> None:
        self.client: Any = None
        self.told = 0
        self.ended = threading.Event()
        self.was_shut = threading.Event()
        self._pieces, self._blocks, self._fails = pieces, blocks, fails

    async def acompletion(self, **body: Any) -> AsyncGenerator[Chunk, None]:
        if self._blocks:
            SOURCE.get()(self)
            # As any-llm asks AWS: in the loop's pool of threads.
            await asyncio.get_running_loop().run_in_executor(None, self.ended.is_set)
        return self._say()

    async def alist_models(self) -> Sequence[Listed]:
        return []

    async def _say(self) -> AsyncGenerator[Chunk, None]:
        try:
            if self._fails:
                raise PlayedError
            for _ in range(self._pieces):
                self.told += 1
                yield Piece()
            if self._blocks:
                self.was_shut.wait()
            else:
                await asyncio.sleep(3600)
        finally:
            self.ended.set()

    def shutdown(self) -> None:
        """As a `Source`."""
        self.was_shut.set()

    def close(self) -> None:
        """As a `Source`."""


def call_of(played: Played, *, blocks: bool = False, seconds: float = 60) -> Call:
    traits = traits_of("sagemaker" if blocks else "x", speaks_chat=False, reasons=False, sees=False)
    return Call(Library(played, traits, (PlayedError,), lists=False), {}, seconds)


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_slow_reader_slows_the_provider_down(*, blocks: bool) -> None:
    """R-117: it is read a little ahead, and not more."""
    played = Played(10_000, blocks=blocks)
    answer = await call_of(played, blocks=blocks).begun()
    before = -1
    while played.told != before:
        before = played.told
        await asyncio.sleep(0.2)
    assert played.told < 100
    assert (await answer.content.read()).count(b"data: {}\n\n") > 1
    answer.close()
    assert await asyncio.to_thread(played.ended.wait, 10)


@pytest.mark.parametrize("blocks", [False, True])
async def test_who_closes_ends_it_and_wakes_who_reads(*, blocks: bool) -> None:
    played = Played(1, blocks=blocks)
    answer = await call_of(played, blocks=blocks).begun()
    assert await answer.content.read() == b"data: {}\n\n"
    asyncio.get_running_loop().call_later(0.05, answer.close)
    with pytest.raises(ConnectionError):
        await answer.content.read()
    assert await asyncio.to_thread(played.ended.wait, 10)


async def _all_of(call: Call) -> None:
    answer = await call.begun()
    while await answer.content.read():
        pass


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_limit_for_all_of_it(*, blocks: bool) -> None:
    """R-44."""
    played = Played(1, blocks=blocks)
    with pytest.raises(TimeoutError):
        await _all_of(call_of(played, blocks=blocks, seconds=0.2))
    assert await asyncio.to_thread(played.ended.wait, 10)


@pytest.mark.parametrize("blocks", [False, True])
async def test_an_error_before_the_first_chunk_is_a_status(*, blocks: bool) -> None:
    answer = await call_of(Played(0, blocks=blocks, fails=True), blocks=blocks).begun()
    assert isinstance(answer, Said)
    assert answer.status == 429
    assert b"too much" in await answer.read()
    assert answer.at_eof()


@pytest.mark.parametrize("blocks", [False, True])
async def test_who_does_not_wait_for_the_first_chunk_ends_it(*, blocks: bool) -> None:
    played = Played(0, blocks=blocks)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await call_of(played, blocks=blocks).begun()
    assert await asyncio.to_thread(played.ended.wait, 10)
