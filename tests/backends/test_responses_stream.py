"""What Responses servers answer → deltas: each event, whole and cut anywhere."""

from typing import Any

import orjson
import pytest

from antiphon.backends.responses.stream import ResponsesStream
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    ReasoningState,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.response import Usage
from tests.backends.responses_said import (
    CALL,
    HELLO,
    HERE,
    STREAMS,
    added,
    called,
    done,
    end,
    event,
    kept,
    state,
    text,
    thought,
)
from tests.backends.test_chat_stream import cut
from tests.conformance.responses import ResponsesWire, events, response, sse, usage
from tests.conformance.wire import Turn

Json = dict[str, Any]
SEEDS = range(6)


def play(pieces: list[bytes], custom: frozenset[str] = frozenset()) -> list[Delta]:
    stream = ResponsesStream(HERE, custom)
    said: list[Delta] = []
    for piece in pieces:
        said += stream.feed(piece)
        if stream.done:
            break
    said += stream.close()
    assert stream.done
    assert stream.finished
    return said


@pytest.mark.parametrize(("said", "expected"), STREAMS.values(), ids=list(STREAMS))
@pytest.mark.parametrize("seed", SEEDS)
def test_streams(said: list[Json], expected: list[Delta], seed: int) -> None:
    """R-45: the same deltas wherever the bytes are cut."""
    body = b"".join(map(sse, said))
    assert play(cut(body, seed)) == [*expected, Finish()]
    assert play(cut(body + b"data: [DONE]\n\n", seed)) == [*expected, Finish()]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (end(), "stop"),
        (end(status="incomplete"), "length"),
        (end(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (end(status="incomplete", incomplete_details={"reason": "steered"}), "length"),
        (
            end(status="incomplete", incomplete_details={"reason": "content_filter"}),
            "content_filter",
        ),
        (
            {"type": "response.completed", "response": response("incomplete")},
            "length",
        ),
        ({"type": "response.completed", "response": {}}, "stop"),
    ],
)
def test_ends(last: Json, reason: str) -> None:
    assert play([sse(text("Hel")), sse(last)])[-1] == Finish(reason)  # type: ignore[arg-type]


def test_usage_counts_what_was_cached() -> None:
    last = end(usage=usage((10, 4, 6, 2)))
    assert play([sse(last)]) == [UsageReport(Usage(10, 4, 6, 2)), Finish()]
    odd = end(usage={"input_tokens": -1, "output_tokens": "5", "input_tokens_details": None})
    assert play([sse(odd)]) == [UsageReport(Usage()), Finish()]
    tier = end(usage=usage((10, 4, 6, 2)), service_tier="flex")
    assert play([sse(tier)]) == [UsageReport(Usage(10, 4, 6, 2), "flex"), Finish()]


def test_free_text_that_went_as_a_function_comes_out_of_it() -> None:
    pieces = ['{"inp', 'ut": "SEL', 'ECT"}']
    said = [event("function_call_arguments.delta", delta=piece) for piece in pieces]
    arguments = "".join(pieces)
    whole = called(arguments, name="t")
    body = [added(called(name="t")), *said, done(whole), end(whole)]
    deltas = play([sse(one) for one in body], frozenset({"t"}))
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert "".join(call.arguments for call in calls) == "SELECT"
    assert {call.kind for call in calls} == {"custom"}


def test_nothing_is_held_back_without_need() -> None:
    stream = ResponsesStream(HERE)
    assert stream.feed(sse(text("Hello"))) == [TextDelta("Hello")]
    assert not stream.finished
    assert stream.feed(sse(end(HELLO))) == [Finish()]
    assert stream.finished
    assert stream.close() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_body_that_is_no_stream(seed: int) -> None:
    """Some servers ignore `stream`."""
    whole = response(
        "completed",
        [thought("rs_1", "x"), HELLO, called('{"a":1}')],
        usage=usage((7, 0, 5, 0)),
    )
    assert play(cut(b"\n" + orjson.dumps(whole), seed)) == [
        state(kept("rs_1", "x")),
        TextDelta("Hello"),
        CALL,
        UsageReport(Usage(7, 0, 5, 0)),
        Finish(),
    ]


def test_the_wire_says_what_the_turn_says() -> None:
    turn = Turn(
        ["Hel", "lo"],
        ["h", "m"],
        "c2ln",
        [("f", {"a": 1}), ("g", {})],
        usage=(10, 4, 6, 2),
    )
    body = b"".join(step for step in ResponsesWire().reply(turn).body if isinstance(step, bytes))
    said = play([body])
    assert [d.text for d in said if isinstance(d, TextDelta)] == ["Hel", "lo"]
    assert [d.text for d in said if isinstance(d, ReasoningDelta)] == ["h", "m"]
    (back,) = [d.state["kept"] for d in said if isinstance(d, ReasoningState)]
    assert [item["encrypted_content"] for item in back] == ["c2ln"]
    calls = [d for d in said if isinstance(d, ToolCallDelta)]
    assert [call.name for call in calls if call.name] == ["f", "g"]
    assert said[-2:] == [UsageReport(Usage(10, 4, 6, 2)), Finish()]
    numbers = [one["sequence_number"] for one in events(turn)]
    assert numbers == list(range(len(numbers)))
