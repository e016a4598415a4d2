"""Who counts tokens, and how good an estimate is. `tests` have the extra `tokens` installed."""

import asyncio
import importlib
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.base import Prompt, TokenCount
from antiphon.engine import counting
from antiphon.engine.counting import (
    count,
    encoding_of,
    estimate,
    estimate_item,
    estimate_text,
    reaches,
    tokenized,
)
from antiphon.protocol.items.base import Seen
from antiphon.protocol.request import parse_request
from antiphon.testing import ScriptedBackend
from tests.engine.texts import TEXTS

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 400_000}


def exact(said: str) -> int:
    """Tokens of a short text in o200k_base, by the library itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        library = importlib.import_module("bpe_openai")
    return len(library.get_encoding("o200k_base").encode_ordinary(said))


def prompt(model: str = "gpt-4o-mini", **parameters: Any) -> Prompt:
    body = {"model": model, "input": "Hello, how are you?", **parameters}
    request = parse_request(orjson.dumps(body))
    return Prompt(request, model, list(request.input))


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(parts)}


def text(said: str) -> dict[str, Any]:
    return {"type": "input_text", "text": said}


# -- the estimate --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_an_estimate_is_near_o200k(name: str) -> None:
    """docs/backends.md shows these figures."""
    said = TEXTS[name]
    assert exact(said) > 50
    assert estimate_text(said) == pytest.approx(exact(said), rel=0.2)


def test_an_estimate_is_the_sum_of_what_each_item_costs() -> None:
    asked = prompt(
        instructions="Be kind.",
        input=[message(text("x" * 100)), message(text("一二三"), IMAGE)],
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    )
    without = replace(asked, items=[])
    assert estimate(without) > 0
    assert estimate(asked) - estimate(without) == sum(map(estimate_item, asked.items))


@pytest.mark.parametrize(
    ("item", "tokens"),
    [
        (message(), 4),
        (message(IMAGE), 4 + 765),
        (message({**IMAGE, "detail": "low"}), 4 + 85),
        (message({"type": "input_image", "file_id": "file-1"}), 4 + 765),
        (message({"type": "input_file", "file_id": "file-1"}), 4 + 1000),
        (message({"type": "input_file", "file_data": "data:text/plain,0123456789a"}), 4 + 6),
        (message({"type": "input_file", "file_data": "A" * 320}), 4 + 10),
        (message({"type": "input_audio", "input_audio": {"data": "A" * 4000}}), 4 + 2),
        (message({"type": "input_video", "video_url": "https://v.example/"}), 4 + 1000),
        (message({"type": "refusal", "refusal": "no"}), 4 + 1),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "A" * 999}, 0),
        (
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "aaaaa"}]},
            1,
        ),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, 4 + 1 + 1),
        ({"type": "function_call_output", "call_id": "c", "output": "aaaaaaaaaa"}, 4 + 2),
        ({"type": "function_call_output", "call_id": "c", "output": [IMAGE]}, 4 + 765),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "aaaaa"}, None),
        ({"type": "mcp_list_tools", "server_label": "s", "tools": []}, 0),
    ],
)
def test_what_an_item_costs(item: dict[str, Any], tokens: int | None) -> None:
    cost = estimate_item(item)
    assert cost == tokens if tokens is not None else cost > 4


def test_what_a_request_costs_beside_its_items() -> None:
    bare = estimate(prompt())
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    tool = {"type": "function", "name": "get_weather", "parameters": schema}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    tokens = estimate_text(orjson.dumps(schema).decode())
    assert estimate(prompt(instructions="Hello there.")) == bare + 4 + estimate_text("Hello there.")
    assert estimate(prompt(tools=[tool])) > bare + tokens
    assert estimate(prompt(text={"format": form})) == bare + tokens


@given(st.text(max_size=300), st.text(max_size=300))
def test_more_text_is_never_less(one: str, two: str) -> None:
    both = estimate_text(one + two)
    assert both >= max(estimate_text(one), estimate_text(two)) - 1
    assert both <= estimate_text(one) + estimate_text(two) + 2


def test_what_is_no_unicode_is_estimated_too() -> None:
    assert estimate_text("\ud800 lone") > 0


def test_an_estimate_is_cheap_and_linear() -> None:
    """Some 2 µs for 100 characters; ten times that would be an error, whatever else runs here."""
    said = " ".join(TEXTS.values())
    said *= 1 + 1_000_000 // len(said)
    began = time.process_time()
    estimate_text(said)
    spent = time.process_time() - began
    assert spent < 20e-6 * len(said) / 100


# -- the tokenizer -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5.2", "o200k_base"),
        ("openai/gpt-oss-20b", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("o3", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("ft:gpt-4o-mini:acme::7", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("o1x", None),
        ("qwen3", None),
        ("my-gpt-4o", None),
        ("", None),
    ],
)
def test_encodings_of_models(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


def test_a_tokenizer_counts_texts_exactly() -> None:
    asked = prompt(instructions="Be kind.", input=[message(text("Hello"), IMAGE)])
    texts = exact("Be kind.") + exact("Hello")
    assert tokenized(asked, "o200k_base") == 3 + 4 + 4 + texts + 765


@pytest.mark.parametrize(
    "said", ["<|endoftext|>", "a" * 1_000_001, "🙂" * 70_000, "\ud800"], ids=lambda s: s[:3]
)
def test_no_text_is_an_error(said: str) -> None:
    asked = replace(prompt(), items=[message(text(said))])
    tokens = tokenized(asked, "o200k_base")
    assert tokens is not None
    assert tokens > 7


# -- who counts ----------------------------------------------------------------------------------


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the extra were not there."""
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    counting._load.cache_clear()
    yield
    counting._load.cache_clear()


async def test_the_backend_counts_first() -> None:
    assert await count(ScriptedBackend(tokens=7), prompt()) == TokenCount(7, "backend")
    assert await count(ScriptedBackend(tokens=0), prompt()) == TokenCount(0, "backend")


async def test_then_the_tokenizer_of_a_known_model() -> None:
    tokens = tokenized(prompt(), "o200k_base")
    assert tokens is not None
    assert await count(ScriptedBackend(), prompt()) == TokenCount(tokens, "tokenizer")


@pytest.mark.usefixtures("not_installed")
async def test_without_the_extra_it_is_an_estimate() -> None:
    asked = prompt()
    assert await count(ScriptedBackend(), asked) == TokenCount(estimate(asked), "estimate")


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_other_models_are_estimated(size: int) -> None:
    asked = prompt("llama-3", input="word " * size)
    assert await count(ScriptedBackend(), asked) == TokenCount(estimate(asked), "estimate")


@pytest.mark.parametrize("model", ["gpt-4o", "llama-3"])
async def test_a_long_count_keeps_nobody_waiting(model: str) -> None:
    """R-118: 4 MB take a moment, which others may use."""
    asked = prompt(model, input=TEXTS["English"] * (4_000_000 // len(TEXTS["English"])))
    await count(ScriptedBackend(), prompt(model))
    task = asyncio.create_task(count(ScriptedBackend(), asked))
    worst = 0.0
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - began)
    assert (await task).tokens > 500_000
    assert worst < 0.25


# -- the limit -----------------------------------------------------------------------------------

MCP = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "n", "arguments": "{}"}
PAGE = {"type": "web_search_call", "id": "ws_1", "action": {"type": "open_page", "url": "u"}}


def hosted(told: Any) -> list[dict[str, Any]]:
    """Calls that tools answered with it."""
    items = [Seen(MCP, 1, told), Seen(PAGE, 1, told), {**PAGE, "results": told or None}]
    return [*items, {**MCP, "output": told}] if isinstance(told, str) else items


@given(st.text() | st.lists(st.builds(text, st.text())))
def test_what_tools_brought_is_never_longer_than_what_it_may_be(told: Any) -> None:
    """The limit is never below what the backend gets: the quotation is in it."""
    for item in hosted(told):
        shown = [piece for piece in counting._of_item(item) if isinstance(piece, str)]
        size = sum(len(piece.encode(errors="replace")) for piece in shown)
        assert reaches(replace(prompt(), items=[item]), size)


@pytest.mark.parametrize("told", ["<" * (9 << 20), [text("<" * (9 << 20))]])
def test_whether_a_prompt_may_be_long_is_known_without_quoting(told: Any) -> None:
    """R-118: it is asked on the event loop, before each turn."""
    asked = replace(prompt(), items=hosted(told)[:2])
    started = time.perf_counter()
    assert reaches(asked, 1 << 20)
    assert not reaches(asked, 1 << 30)
    assert time.perf_counter() - started < 0.05
