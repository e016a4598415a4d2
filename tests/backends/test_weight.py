"""What is worth a thread, and that making a large body does not stop the event loop (R-118)."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

import pytest

from antiphon.backends.base import Prompt
from antiphon.backends.upstream import UpstreamConfig
from antiphon.backends.weight import is_heavy
from antiphon.protocol.image_references import Loaded
from antiphon.protocol.items.base import Seen
from antiphon.protocol.items.content import Filled
from tests.backends.asking import prompt, using
from tests.backends.upstream import ChatUpstream

LONG = "x" * 200_000
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
PATCH = {"type": "create_file", "path": "a", "diff": LONG}
TEXT = {"type": "input_text", "text": "x"}


def message(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(parts)}


LIGHT: list[list[dict[str, Any]]] = [
    [],
    [message(TEXT)] * 50,
    [{"type": "function_call_output", "call_id": "1", "output": "ok"}],
    # keys that only the client knows
    [{**message(TEXT), "input": [1, None], "output": 5, "arguments": {"text": 7}}],
]
IMAGE = {"type": "image_generation_call", "id": "ig_1", "output_format": "png"}
HEAVY: list[list[dict[str, Any]]] = [
    [{**IMAGE, "result": Loaded("antiphon-image:0", {"type": "input_image", "image_url": LONG})}],
    [message(TEXT)] * 1_000,
    [message(*[TEXT] * 1_000)],
    [message({"type": "input_text", "text": LONG})],
    [message({"type": "input_file", "file_data": LONG})],
    [message({"type": "input_image", "image_url": LONG})],
    [message({"type": "input_audio", "input_audio": {"data": LONG, "format": "wav"}})],
    [{"type": "computer_call_output", "call_id": "1", "output": {"image_url": LONG}}],
    [{"type": "function_call_output", "call_id": "1", "output": LONG}],
    [{"type": "function_call", "call_id": "1", "name": "f", "arguments": LONG}],
    # what only the model is told
    [Seen(SEARCH, 1, LONG)],
    [Seen({**SEARCH, "action": {"type": "open_page"}}, turn, "x" * 50_000) for turn in range(4)],
    [Seen(SEARCH, 1, [{"type": "input_text", "text": LONG}])],
    [{**SEARCH, "results": [{"text": "x" * 5_000}] * 40}],
    [{"type": "apply_patch_call", "call_id": "1", "status": "completed", "operation": PATCH}],
    [{"type": "shell_call_output", "call_id": "1", "output": [{"stdout": LONG, "stderr": ""}]}],
]


@pytest.mark.parametrize("items", LIGHT, ids=range(len(LIGHT)))
def test_the_usual_prompt_is_light(items: list[dict[str, Any]]) -> None:
    assert not is_heavy(Prompt(prompt(instructions="Be kind.").request, "m", items))


@pytest.mark.parametrize("items", HEAVY, ids=range(len(HEAVY)))
def test_long_texts_and_crowds_are_heavy(items: list[dict[str, Any]]) -> None:
    assert is_heavy(Prompt(prompt().request, "m", items))


def test_long_instructions_are_heavy() -> None:
    assert is_heavy(prompt(instructions=LONG))


async def _longest_stall(stop: asyncio.Event) -> float:
    """The longest that the event loop kept a sleeper waiting, in seconds."""
    worst = 0.0
    while not stop.is_set():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - start)
    return worst


async def test_nobody_waits_for_a_large_text_file(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-118: 24 MB; three times, because a hiccup of the machine does not come back."""
    raw = b"sixteen letters " * 1_125_000
    content = [{"type": "input_file", "filename": "a.txt", "file_id": "file-1"}]
    asked = prompt(input=[{"role": "user", "content": content}])
    seen = {"type": "input_text", "text": f"File a.txt:\n{raw.decode()}"}
    asked.items[0]["content"] = [Filled(content[0], seen)]
    stalls = []
    async with using(replace(config, profile="vllm")) as backend:
        for _ in range(3):
            stop = asyncio.Event()
            watch = asyncio.create_task(_longest_stall(stop))
            await asyncio.sleep(0)
            assert backend.check(asked.request, "m") == []
            async with contextlib.aclosing(backend.generate(asked)) as turn:
                assert [deltas async for deltas in turn]
            stop.set()
            stalls.append(await watch)
    assert min(stalls) < 0.1
    assert upstream.requests[0].json["messages"][0]["content"] == f"File a.txt:\n{raw.decode()}"
