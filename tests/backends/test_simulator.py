"""What the simulator says, by directive, tool choice and format."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.backends.base import Model, Prompt
from antiphon.backends.simulator.backend import Simulator
from antiphon.backends.simulator.directives import DIRECTIVES, read_directives
from antiphon.backends.simulator.faults import FAULTS
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    ModelNotFound,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage
from antiphon.protocol.schemas import check_schemas

Json = dict[str, Any]
WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
        "required": ["location"],
    },
}
CLOCK: Json = {"type": "function", "name": "get_local_time"}
NOTE: Json = {"type": "custom", "name": "note"}
GRAMMAR: Json = {"type": "grammar", "syntax": "regex", "definition": "a+"}
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "simulator.md"


async def batches(said: Any, /, **more: Any) -> list[list[Delta]]:
    request = CreateResponse.model_validate({"model": "sim", "input": said, **more})
    prompt = Prompt(request, "simulator", request.input)
    return [batch async for batch in Simulator().generate(prompt)]


async def turn(said: Any, /, **more: Any) -> list[Delta]:
    return [delta for batch in await batches(said, **more) for delta in batch]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def reasoning_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))


def calls_of(deltas: list[Delta]) -> list[tuple[str | None, str, str]]:
    """Name, kind and arguments of each call."""
    calls: dict[int, tuple[str | None, str, str]] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            name, kind, arguments = calls.get(delta.index, (delta.name, delta.kind, ""))
            calls[delta.index] = name, kind, arguments + delta.arguments
    return list(calls.values())


def usage_of(deltas: list[Delta]) -> Usage:
    [report] = [delta for delta in deltas if isinstance(delta, UsageReport)]
    return report.usage


# -- text ------------------------------------------------------------------------------------------

SAID = [
    ("Hello!", "Simulator: you said: Hello!"),
    ("", "Simulator: you said nothing"),
    ("[[usage=none]]  hi ", "Simulator: you said: hi"),
    ("[[say=Any  text\n]]ignored", "Any  text\n"),
    ("[[say=]]", ""),
    ("[[tokens=5]]", "This is the simulator"),
    ("[[tokens=0]]", ""),
    ("[[tokens=5]][[say=this wins]]", "this wins"),
    # what is no directive stays in the text
    (
        "[[nope=1]] [[tokens=x]] [[pace=fast]]",
        "Simulator: you said: [[nope=1]] [[tokens=x]] [[pace=fast]]",
    ),
    (
        "[[fail=nope]] [[length=3]] [[usage]] [[say]]",
        "Simulator: you said: [[fail=nope]] [[length=3]] [[usage]] [[say]]",
    ),
    ("[[tokens=99999999]]", "Simulator: you said: [[tokens=99999999]]"),
    ("[[chunk=0]] [[reason]]", "Simulator: you said: [[chunk=0]] [[reason]]"),
    ("[[call=]] array[[1]]", "Simulator: you said: [[call=]] array[[1]]"),
]


@pytest.mark.parametrize(("text", "said"), SAID)
async def test_text(text: str, said: str) -> None:
    deltas = await turn(text)
    assert text_of(deltas) == said
    assert deltas[-1] == Finish("stop")
    assert deltas == await turn(text)  # the same every time


async def test_it_says_that_it_is_a_simulator() -> None:
    assert "imulator" in text_of(await turn("Who are you?"))
    assert "imulator" in text_of(await turn("[[tokens=12]]"))
    assert "imulator" in reasoning_of(await turn("[[reason=12]]"))
    assert "simulator" in text_of(await turn("json", text={"format": {"type": "json_object"}}))
    assert await Simulator("box").models() == [Model("simulator", "antiphon-simulator")]


async def test_only_the_last_user_message_is_echoed() -> None:
    history = [
        {"role": "user", "content": "[[say=old]] first"},
        {"role": "assistant", "content": "old"},
        {"role": "user", "content": [{"type": "input_text", "text": "second"}]},
    ]
    assert text_of(await turn(history)) == "Simulator: you said: second"


async def test_attachments_are_counted() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    content = [{"type": "input_text", "text": "look"}, picture]
    said = text_of(await turn([{"role": "user", "content": content}]))
    assert said == "Simulator: you said: look (and 1 attachments)"


async def test_directives_of_instructions_and_system_messages_are_defaults() -> None:
    items = [
        {"role": "system", "content": "[[say=system]]"},
        {"role": "developer", "content": "[[reason=hm]]"},
        {"role": "user", "content": "hi"},
    ]
    deltas = await turn(items, instructions="[[say=instructions]] [[length]]")
    assert (reasoning_of(deltas), text_of(deltas)) == ("hm", "system")
    assert deltas[-1] == Finish("length")
    items[-1] = {"role": "user", "content": "[[say=user]]"}
    assert text_of(await turn(items)) == "user"
    # calls of the user replace those of the system
    items = [{"role": "system", "content": "[[call=a]]"}, {"role": "user", "content": "x"}]
    assert calls_of(await turn(items)) == [("a", "function", "{}")]
    items[-1] = {"role": "user", "content": "[[call=b]]"}
    assert calls_of(await turn(items)) == [("b", "function", "{}")]


# -- how it ends -----------------------------------------------------------------------------------


async def test_reasoning_comes_first_and_is_counted() -> None:
    deltas = await turn("[[reason=7]] hi")
    assert [type(delta) is ReasoningDelta for delta in deltas[:8]] == [True] * 7 + [False]
    assert usage_of(deltas).reasoning_tokens == 7
    deltas = await turn("[[reason=Because.]] [[summary=I can.]]")
    said = [ReasoningDelta("Because."), SummaryDelta("I"), SummaryDelta(" can.")]
    assert (deltas[:3], usage_of(deltas).reasoning_tokens) == (said, 3)


async def test_refusal() -> None:
    deltas = await turn("[[refuse=No way.]]")
    assert [delta.text for delta in deltas if isinstance(delta, RefusalDelta)] == ["No", " way."]
    assert text_of(deltas) == ""
    assert deltas[-1] == Finish("stop")
    assert any(isinstance(delta, RefusalDelta) for delta in await turn("[[refuse]]"))


@pytest.mark.parametrize(
    ("text", "more", "reason", "tokens"),
    [
        ("[[tokens=16]]", {"max_output_tokens": 16}, "stop", 16),
        ("[[tokens=17]]", {"max_output_tokens": 16}, "length", 16),
        ("[[reason=20]]", {"max_output_tokens": 16}, "length", 16),
        ("[[tokens=3]][[length]]", {}, "length", 3),
        ("[[tokens=3]][[filter]]", {}, "content_filter", 3),
        ("[[tokens=3]]", {}, "stop", 3),
    ],
)
async def test_finish(text: str, more: Json, reason: str, tokens: int) -> None:
    deltas = await turn(text, **more)
    assert isinstance(deltas[-1], Finish)
    assert deltas[-1].reason == reason
    assert usage_of(deltas).output_tokens == tokens
    assert len(deltas) == tokens + 2


async def test_usage_is_an_estimate_of_all_that_was_sent() -> None:
    assert usage_of(await turn("x" * 40)) == Usage(10, 0, 9, 0)
    assert usage_of(await turn("x" * 40, instructions="y" * 40)).input_tokens == 20
    assert usage_of(await turn("x", tools=[CLOCK])).input_tokens > 5
    assert [type(delta) for delta in (await turn("[[usage=none]]"))[-2:]] == [TextDelta, Finish]


# -- pace ------------------------------------------------------------------------------------------


async def test_batches() -> None:
    sizes = [len(batch) for batch in await batches("[[tokens=25]] [[chunk=10]]")]
    assert sizes == [10, 10, 5, 2]
    for wish in ("", "[[chunk=5000]]"):
        sizes = [len(batch) for batch in await batches(f"[[tokens=150]] {wish}")]
        assert sizes == [64, 64, 22, 2]


async def test_pace_and_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    paced = await batches("[[tokens=3]] [[pace=20ms]] [[wait=1.5s]]")
    assert [len(batch) for batch in paced] == [0, 1, 1, 1, 2]  # the empty list: accepted
    assert slept == [1.5, 0.02, 0.02]
    slept.clear()
    paced = await batches("[[tokens=4]] [[pace=1s]] [[chunk=2]]")
    assert [len(batch) for batch in paced] == [2, 2, 2]
    assert slept == [1.0]


async def test_it_is_fast() -> None:
    """At most 2 µs per token are asked for; 20, and the best of three, for a busy machine."""
    times = []
    for _ in range(3):
        started = time.process_time()
        assert len(await turn("[[tokens=100000]]")) == 100_002
        times.append(time.process_time() - started)
    assert min(times) / 100_000 < 20e-6


@pytest.mark.parametrize("text", ["[[say=" * 200_000, "[[" * 500_000, "]]" * 500_000])
def test_directives_are_found_in_linear_time(text: str) -> None:
    started = time.process_time()
    _, left = read_directives([text], text)
    assert left == text
    assert time.process_time() - started < 3


# -- failures --------------------------------------------------------------------------------------

BEFORE = {
    "401": (UpstreamError, None, None),
    "404": (ModelNotFound, None, None),
    "429": (RateLimitError, None, 1),
    "500": (UpstreamError, None, None),
    "context": (ContextLengthExceeded, None, None),
    "cut": (UpstreamError, False, None),
    "empty": (UpstreamError, None, None),
    "error": (UpstreamError, False, None),
    "html": (UpstreamError, None, None),
    "timeout": (UpstreamTimeout, None, None),
}
AFTER = {
    "429": RateLimitError,
    "context": ContextLengthExceeded,
    "timeout": UpstreamTimeout,
}


async def _until_failure(text: str) -> tuple[list[list[Delta]], APIError]:
    request = CreateResponse.model_validate({"model": "sim", "input": text})
    said: list[list[Delta]] = []
    try:
        async for batch in Simulator().generate(Prompt(request, "simulator", request.input)):
            said += [batch]
    except APIError as error:
        return said, error
    pytest.fail("nothing failed")


@pytest.mark.parametrize("kind", FAULTS)
async def test_failure_before_the_first_token(kind: str) -> None:
    """What the chat-completions backend raises for the same fault (R-41, R-52)."""
    said, error = await _until_failure(f"[[fail={kind} after=0]]")
    assert said == []
    assert (type(error), error.should_retry, error.retry_after) == BEFORE[kind]


@pytest.mark.parametrize("kind", FAULTS)
async def test_failure_after_some_tokens(kind: str) -> None:
    said, error = await _until_failure(f"[[fail={kind} after=3]] some more words")
    assert [len(batch) for batch in said] == [3]
    assert type(error) is AFTER.get(kind, UpstreamError)
    assert error.should_retry is (None if kind == "context" else False)


async def test_failures_without_a_place() -> None:
    said, error = await _until_failure("[[fail=404]]")
    assert said == []
    assert error.message == "The requested model 'sim' does not exist."
    said, _ = await _until_failure("[[fail=cut]]")
    assert [len(batch) for batch in said] == [1]
    said, _ = await _until_failure("[[fail=cut after=500]] [[tokens=2]]")
    assert [len(batch) for batch in said] == [2]
    said, _ = await _until_failure("[[fail=500]] [[wait=1ms]]")
    assert said == []
    deltas = await turn("[[fail=cut after=16]] [[tokens=20]]", max_output_tokens=16)
    assert deltas[-1] == Finish("length")


# -- tools -----------------------------------------------------------------------------------------

MADE_UP = '{"location":"text","days":3}'
CALLS: list[tuple[str, Json, list[tuple[str, str, str]]]] = [
    ("What's the weather like in Paris?", {}, [("get_weather", "function", MADE_UP)]),
    ("WEATHER", {}, [("get_weather", "function", MADE_UP)]),
    ("Which local time is it?", {}, [("get_local_time", "function", "{}")]),
    ("What time is it?", {}, []),
    ("Hello", {}, []),
    ("Get it", {}, []),
    ("What's the weather?", {"tool_choice": "none"}, []),
    ("Hello", {"tool_choice": "required"}, [("get_weather", "function", MADE_UP)]),
    ("take a note", {"tool_choice": "required"}, [("note", "custom", "Simulated input for note")]),
    (
        "Hello",
        {"tool_choice": {"type": "function", "name": "get_local_time"}},
        [("get_local_time", "function", "{}")],
    ),
    (
        "Hello",
        {"tool_choice": {"type": "custom", "name": "note"}},
        [("note", "custom", "Simulated input for note")],
    ),
    (
        "the weather",
        {
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "custom", "name": "note"}],
            }
        },
        [("note", "custom", "Simulated input for note")],
    ),
    (
        "the weather",
        {
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "custom", "name": "note"}],
            }
        },
        [],
    ),
    (
        '[[call=get_weather {"location": "Oslo"}]]',
        {},
        [("get_weather", "function", '{"location": "Oslo"}')],
    ),
    ("[[call=get_weather not JSON]]", {}, [("get_weather", "function", "not JSON")]),
    ("[[call=get_weather]]", {}, [("get_weather", "function", MADE_UP)]),
    ("[[call=note x y]]", {}, [("note", "custom", "x y")]),
    ("[[call=unknown_tool]]", {}, [("unknown_tool", "function", "{}")]),
    ('[[call=f {"a": [[1]]}]]', {}, [("f", "function", '{"a": [[1]]}')]),
    (
        "[[call=get_weather {}]] [[call=note n]]",
        {},
        [("get_weather", "function", "{}"), ("note", "custom", "n")],
    ),
    (
        "[[call=get_weather {}]] [[call=note n]]",
        {"parallel_tool_calls": False},
        [("get_weather", "function", "{}")],
    ),
]


@pytest.mark.parametrize(("text", "more", "calls"), CALLS)
async def test_calls(text: str, more: Json, calls: list[tuple[str, str, str]]) -> None:
    deltas = await turn(text, tools=[WEATHER, CLOCK, NOTE], **more)
    assert calls_of(deltas) == calls
    assert bool(text_of(deltas)) != bool(calls)
    assert deltas[-1] == Finish("stop")


async def test_a_result_is_told_and_nothing_is_called_again() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    items = [
        {"role": "user", "content": "[[call=get_weather]] the weather"},
        {"type": "function_call", "call_id": "1", "name": "get_weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "2", "name": "note", "input": "n"},
        {"type": "function_call_output", "call_id": "1", "output": "sunny"},
        {
            "type": "custom_tool_call_output",
            "call_id": "2",
            "output": [{"type": "input_text", "text": "noted"}, picture],
        },
    ]
    deltas = await turn(items, tools=[WEATHER, NOTE])
    assert text_of(deltas) == "Simulator: get_weather returned sunny; note returned noted"
    assert calls_of(deltas) == []
    # but `required` means required
    deltas = await turn(items, tools=[WEATHER, NOTE], tool_choice="required")
    assert [name for name, _, _ in calls_of(deltas)] == ["get_weather"]
    # and the next user message may call again
    deltas = await turn(
        [*items, {"role": "user", "content": "and the weather now?"}], tools=[WEATHER]
    )
    assert [name for name, _, _ in calls_of(deltas)] == ["get_weather"]


async def test_a_chain_may_begin_with_a_result() -> None:
    result = {"type": "function_call_output", "call_id": "9", "output": "42"}
    assert text_of(await turn([result])) == "Simulator: the tool returned 42"


# -- formats ---------------------------------------------------------------------------------------


async def test_an_instance_of_the_schema() -> None:
    form = {
        "type": "json_schema",
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"z": {"type": "string", "format": "date"}, "a": {"type": "integer"}},
            "required": ["z", "a"],
            "additionalProperties": False,
        },
    }
    text = text_of(await turn("[[reason=3]] go", text={"format": form}))
    assert text == '{"z":"2026-01-02","a":1}'
    request = CreateResponse.model_validate({"model": "m", "input": "", "text": {"format": form}})
    answer = check_schemas(request)
    assert answer is not None
    assert answer.validate(text) is None
    assert text_of(await turn("[[say=no]]", text={"format": form})) == "no"


async def test_a_schema_without_an_instance() -> None:
    form = {"type": "json_schema", "name": "answer", "schema": {"type": "object", "enum": [1]}}
    text = text_of(await turn("go", text={"format": form}))
    assert orjson.loads(text) == {"simulator": "found no instance of this schema"}


async def test_logprobs() -> None:
    more = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    deltas = await turn("é", **more)
    texts = [delta for delta in deltas if isinstance(delta, TextDelta)]
    for delta in texts:
        assert delta.logprobs is not None
        [logprob] = delta.logprobs
        assert logprob["token"] == delta.text
        assert bytes(logprob["bytes"]).decode() == delta.text
        assert [top["logprob"] for top in logprob["top_logprobs"]] == [-0.01, -1.01]
        assert logprob["top_logprobs"][0]["token"] == delta.text
    assert all(delta.logprobs is None for delta in await turn("é") if isinstance(delta, TextDelta))


# -- what it cannot do -----------------------------------------------------------------------------


def test_parameters_without_effect_are_named_when_sent() -> None:
    request = CreateResponse.model_validate(
        {
            "model": "m",
            "input": "",
            "temperature": 0.5,
            "top_p": 1,
            "reasoning": {"effort": "low", "summary": "concise", "context": "auto"},
            "text": {"verbosity": "low"},
            "tools": [WEATHER, {**NOTE, "format": GRAMMAR}],
        }
    )
    assert Simulator().check(request, "m") == [
        "temperature",
        "top_p",
        "text.verbosity",
        "reasoning.effort",
        "reasoning.summary",
    ]
    asked = CreateResponse(model="m", input="", reasoning={"summary": "auto"})
    assert Simulator().check(asked, "m") == []


def test_every_directive_and_failure_is_documented() -> None:
    page = DOCUMENTATION.read_text()
    shown = re.findall(r"\[\[(\w+)", page)
    assert set(DIRECTIVES) == set(shown)
    for kind in FAULTS:
        assert f"`{kind}`" in page
