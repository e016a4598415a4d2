"""Chunks that are not quite JSON: characters in two halves, numbers that are none (R-45)."""

import json

import orjson
import pytest

from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.faults import UpstreamFaultError
from antiphon.protocol.deltas import Delta, Finish, ReasoningDelta, TextDelta, ToolCallDelta
from tests.backends.chat_corpus import HELLO, STOP
from tests.backends.upstream import DONE, chunk

HIGH, LOW = "\ud83d", "\ude00"
SMILE = "\U0001f600"


def event(value: object) -> bytes:
    """As `json.dumps` writes it: halves as escapes, NaN as a word."""
    return f"data: {json.dumps(value)}\n\n".encode()


def play(*events: bytes) -> list[Delta]:
    stream = ChatStream()
    said = [delta for each in events for delta in stream.feed(each)]
    return [*said, *stream.close()]


def text_of(*events: bytes) -> str:
    deltas = play(*events, STOP, DONE)
    assert deltas[-1] == Finish()
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["a" + HIGH, LOW + "b"], f"a{SMILE}b"),
        ([HIGH, LOW, HIGH, LOW], SMILE * 2),
        (["a" + HIGH, "b"], "a\ufffdb"),
        (["a" + LOW, "b"], "a\ufffdb"),
        ([LOW + HIGH, LOW], f"\ufffd{SMILE}"),
        ([HIGH, "", LOW], SMILE),
        (["a" + HIGH], "a"),
        (["a" + HIGH + "b" + SMILE, "c"], f"a\ufffdb{SMILE}c"),
    ],
)
def test_halves_of_a_character(parts: list[str], text: str) -> None:
    said = text_of(*[event(chunk(content=part)) for part in parts])
    assert said == text
    assert orjson.dumps(said)


def test_halves_in_reasoning_and_arguments() -> None:
    def called(arguments: str) -> bytes:
        function = {"name": "f", "arguments": arguments}
        return event(chunk(tool_calls=[{"index": 0, "id": "1", "function": function}]))

    deltas = play(
        *[event(chunk(reasoning=half)) for half in ("hm" + HIGH, LOW)],
        *[called(half) for half in ('{"a": "' + HIGH, LOW + '"}')],
        STOP,
        DONE,
    )
    thoughts = [delta.text for delta in deltas if isinstance(delta, ReasoningDelta)]
    calls = [delta.arguments for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert "".join(thoughts) == f"hm{SMILE}"
    assert json.loads("".join(calls)) == {"a": SMILE}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "-1e999", "null"])
def test_log_probabilities_that_are_no_numbers(number: str) -> None:
    token: dict[str, object] = {"token": "Hi", "logprob": "?", "bytes": None, "top_logprobs": []}
    data = event(chunk(content="Hi", logprobs={"content": [token]}))
    first, *_ = play(data.replace(b'"?"', number.encode()), STOP, DONE)
    assert isinstance(first, TextDelta)
    assert first.logprobs is not None
    assert first.logprobs[0]["logprob"] == -9999.0


@pytest.mark.parametrize("broken", [b"[" * 100_000, b"{nonsense", b'{"a": "\xff"}', b"NaN"])
def test_what_is_no_json_for_anybody_is_a_fault(broken: bytes) -> None:
    with pytest.raises(UpstreamFaultError):
        play(HELLO, b"data: " + broken + b"\n\n", STOP, DONE)
