"""The simulator under long prompts and many long answers: nobody else waits (R-118)."""

import asyncio
import time
from typing import Any

import pytest

from antiphon.backends.base import Prompt
from antiphon.backends.simulator.backend import Simulator
from antiphon.protocol.deltas import TextDelta
from antiphon.protocol.request import CreateResponse
from tests.pace import pace

LONG = "many words " * 820_000
SHOWN = 100_000


def prompt(said: Any, **more: Any) -> Prompt:
    request = CreateResponse.model_validate({"model": "sim", "input": said, **more})
    return Prompt(request, "simulator", request.input)


async def text_of(asked: Prompt) -> str:
    deltas = [delta async for batch in Simulator().generate(asked) for delta in batch]
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def _returned(output: str) -> list[dict[str, Any]]:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "1", "output": output}
    return [{"role": "user", "content": "Go."}, call, result]


@pytest.mark.parametrize("said", [LONG, _returned(LONG)], ids=["message", "tool output"])
async def test_the_echo_of_a_long_text_is_shortened(said: Any) -> None:
    text = await text_of(prompt(said))
    assert text.startswith("Simulator: ")
    assert "characters left out] " in text
    assert SHOWN < len(text) < SHOWN + 200


async def test_a_text_of_the_limit_is_echoed_whole() -> None:
    said = "x" * SHOWN
    assert await text_of(prompt(said)) == f"Simulator: you said: {said}"


async def test_directives_are_found_at_both_ends_of_a_long_text() -> None:
    for said in (f"[[tokens=5]] {LONG}", f"{LONG} [[tokens=5]]"):
        assert await text_of(prompt(said)) == "This is the simulator"
        assert await text_of(prompt("Hi", instructions=said)) == "This is the simulator"


@pytest.mark.parametrize("said", [LONG, f"[[say={LONG}"], ids=["words", "an open directive"])
async def test_long_prompts_stall_nothing(said: str) -> None:
    """Four of 9 MB; three times, because a hiccup of the machine does not come back."""
    stalls = []
    for _ in range(3):
        start = time.perf_counter()
        turns = [Simulator().generate(prompt(said)) for _ in range(4)]
        await asyncio.gather(*[anext(turn) for turn in turns])
        stalls.append(time.perf_counter() - start)
    assert min(stalls) < 0.1 * pace()


async def test_a_long_answer_leaves_turns_of_the_loop_to_others() -> None:
    """One for every 64 tokens, which are well under a millisecond of work."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    await text_of(prompt("[[tokens=6400]]"))
    other.cancel()
    assert turns >= 99
