"""The bytes of an answer of the Messages API → deltas: whole, byte by byte, and what ends badly."""

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.anthropic.stream import MessagesStream
from antiphon.backends.anthropic.thoughts import Memory
from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.origins import Origin
from antiphon.backends.sse import EVENT_LIMIT
from antiphon.errors import APIError, ContextLengthExceeded, RateLimitError, UpstreamTimeout
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.response import Usage
from tests.conformance.anthropic import block, event, start, stop, text, thinking, tool_use
from tests.conformance.wire import Json

ORIGIN = Origin.of("anthropic", "https://x/v1")
MADE = UsageReport(Usage(7, 0, 5, 0))


def memory() -> Memory:
    made = Memory(ORIGIN, "m")
    made.prefix = "p"
    return made


def state(*blocks: Json) -> ReasoningState:
    return ReasoningState(ORIGIN.state({"model": "m", "prefix": "p", "blocks": list(blocks)}))


@dataclass(frozen=True)
class Stream:
    """A body and the deltas that it says; the usage and `Finish` that most have follow."""

    name: str
    body: Sequence[bytes]
    said: Sequence[Delta] = ()
    usage: UsageReport = field(default_factory=lambda: MADE)
    end: Finish = field(default_factory=Finish)
    custom: frozenset[str] = frozenset()

    @property
    def deltas(self) -> list[Delta]:
        """All deltas, in order."""
        return [*self.said, self.usage, self.end]


SIGNED = {"type": "thinking", "thinking": "hmm", "signature": "ab"}
SECRET = {"type": "redacted_thinking", "data": "eA=="}
HELLO = [start(), *text(0, "Hel", "lo")]
SAID = [TextDelta("Hel"), TextDelta("lo")]

STREAMS = [
    Stream("text", [*HELLO, *stop("end_turn")], SAID),
    Stream("pings", [event("ping"), *HELLO, event("ping"), *stop("end_turn"), b":x\n\n"], SAID),
    Stream("nothing said", [start(), *stop("end_turn")]),
    Stream("utf-8", [start(), *text(0, "é😀"), *stop("end_turn")], [TextDelta("é😀")]),
    Stream(
        "crlf, blank lines and a byte order mark",
        [b"\xef\xbb\xbf\n\n", *(part.replace(b"\n", b"\r\n") for part in HELLO)]
        + [part.replace(b"\n", b"\r\n") for part in stop("end_turn")],
        SAID,
    ),
    Stream("no message_stop", [*HELLO, *stop("end_turn")[:1]], SAID),
    Stream("no end of the last event", [*HELLO, stop("end_turn")[0].rstrip()], SAID),
    Stream(
        "text at the start of its block",
        [start(), *block(0, {"type": "text", "text": "Hi"}), *stop("end_turn")],
        [TextDelta("Hi")],
    ),
    Stream("what comes after the end is not read", [*HELLO, *stop("end_turn"), *HELLO], SAID),
    Stream(
        "what is not known is skipped",
        [
            start(),
            event("message_thought", thought="new"),
            *block(0, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})[
                :1
            ],
            event(
                "content_block_delta",
                index=0,
                delta={"type": "input_json_delta", "partial_json": "{"},
            ),
            event("content_block_stop", index=0),
            *block(
                1,
                {"type": "text", "text": "", "citations": []},
                {"type": "citations_delta", "citation": {"type": "char_location"}},
                {"type": "text_delta", "text": "Hel"},
                {"type": "new_delta", "text": "x"},
                {"type": "text_delta", "text": "lo"},
            ),
            *stop("end_turn"),
        ],
        SAID,
    ),
]

REASONS = [
    Stream(f"stop_reason {reason}", [*HELLO, *stop(reason)], SAID, end=end)
    for reason, end in (
        ("stop_sequence", Finish()),
        ("tool_use", Finish()),
        ("pause_turn", Finish()),
        ("something_new", Finish()),
        ("max_tokens", Finish("length")),
        ("model_context_window_exceeded", Finish("length")),
        ("refusal", Finish("content_filter")),
    )
]
REASONS.append(
    Stream(
        "a refusal without a word is in our own words",
        [start(), *stop("refusal", stop_details={"type": "refusal", "explanation": "SECRET"})],
        [RefusalDelta("The model declined to answer this request.")],
        end=Finish("content_filter"),
    )
)

THINKING = [
    Stream(
        "thinking, and what has to go back",
        [start(), *thinking(0, "ab", "hm", "m"), *text(1, "Hi"), *stop("end_turn")],
        [ReasoningDelta("hm"), ReasoningDelta("m"), state(SIGNED), TextDelta("Hi")],
    ),
    Stream(
        "a signature in pieces",
        [
            start(),
            *block(
                0,
                {"type": "thinking", "thinking": "h", "signature": ""},
                {"type": "thinking_delta", "thinking": "mm"},
                {"type": "signature_delta", "signature": "a"},
                {"type": "signature_delta", "signature": "b"},
            ),
            *stop("end_turn"),
        ],
        [ReasoningDelta("h"), ReasoningDelta("mm"), state(SIGNED)],
    ),
    Stream(
        "thinking that is not shown",
        [start(), *thinking(0, "ab"), *text(1, "Hi"), *stop("end_turn")],
        [state({**SIGNED, "thinking": ""}), TextDelta("Hi")],
    ),
    Stream(
        "the last state is all that was thought",
        [
            start(),
            *block(0, SECRET),
            *thinking(1, "ab", "hmm"),
            *tool_use(2, "toolu_1", "f", "{}"),
            *stop("tool_use"),
        ],
        [
            state(SECRET),
            ReasoningDelta("hmm"),
            state(SECRET, SIGNED),
            ToolCallDelta(0, "{}", "f", "toolu_1"),
        ],
    ),
    Stream(
        "thinking that was cut off is not signed",
        [start(), *thinking(0, None, "hm"), *stop("max_tokens")],
        [ReasoningDelta("hm")],
        end=Finish("length"),
    ),
]

CALLS = [
    Stream(
        "a call in pieces, and another one",
        [
            start(),
            *text(0, "Hel", "lo"),
            *tool_use(1, "toolu_1", "f", "", '{"x"', ":1}"),
            *tool_use(2, "toolu_2", "g", "{}"),
            *stop("tool_use"),
        ],
        [
            *SAID,
            ToolCallDelta(0, '{"x"', "f", "toolu_1"),
            ToolCallDelta(0, ":1}"),
            ToolCallDelta(1, "{}", "g", "toolu_2"),
        ],
    ),
    Stream(
        "no arguments are an empty object",
        [
            start(),
            *tool_use(0, "toolu_1", "f", ""),
            *tool_use(1, "toolu_2", "g"),
            *stop("tool_use"),
        ],
        [ToolCallDelta(0, "{}", "f", "toolu_1"), ToolCallDelta(1, "{}", "g", "toolu_2")],
    ),
    Stream(
        "arguments at the start of the block",
        [
            start(),
            *block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}),
            *stop("tool_use"),
        ],
        [ToolCallDelta(0, '{"x":1}', "f", "t")],
    ),
    Stream(
        "a custom tool",
        [
            start(),
            *tool_use(0, "t", "sh", '{"inp', 'ut": "l', 's"}'),
            *tool_use(1, "u", "sh", ""),
            *stop("tool_use"),
        ],
        [
            ToolCallDelta(0, "", "sh", "t", "custom"),
            ToolCallDelta(0, "l", kind="custom"),
            ToolCallDelta(0, "s", kind="custom"),
            ToolCallDelta(1, "", "sh", "u", "custom"),
        ],
        custom=frozenset({"sh"}),
    ),
]

_NO_COUNTS = dict.fromkeys(
    ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"), 0
)
_CACHED = {"input_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 5}

USAGE = [
    Stream(
        "all input counts, cached or not",
        [start({**_CACHED, "output_tokens": 1}), *stop("end_turn", {"output_tokens": 9})],
        usage=UsageReport(Usage(12, 5, 9, 0)),
    ),
    Stream(
        "the later counts are those of the whole answer",
        [
            start({"input_tokens": 1, "output_tokens": 1}),
            *stop(
                "end_turn",
                {
                    **_CACHED,
                    "output_tokens": 9,
                    "output_tokens_details": {"thinking_tokens": 6},
                    "server_tool_use": None,
                },
            ),
        ],
        usage=UsageReport(Usage(12, 5, 9, 6)),
    ),
    *(
        Stream(
            f"counts of the {place}, and 0 in the other event",
            [start(first), *stop("end_turn", second)],
            usage=UsageReport(Usage(12, 5, 9, 0)),
        )
        for place, first, second in (
            ("first", _CACHED, {**_NO_COUNTS, "output_tokens": 9}),
            ("last", {**_NO_COUNTS, "output_tokens": 0}, {**_CACHED, "output_tokens": 9}),
        )
    ),
    Stream(
        "senseless counts",
        [
            start({"input_tokens": None, "output_tokens": "x"}),
            *stop("end_turn", {"output_tokens": 2**64 - 1, "output_tokens_details": [1]}),
        ],
        usage=UsageReport(Usage(0, 0, 2**53 - 1, 0)),
    ),
]

WHOLE = [
    Stream(
        "one object, from a server that does not stream",
        [
            b"\n ",
            orjson.dumps(
                {
                    "type": "message",
                    "content": [
                        SIGNED,
                        {"type": "text", "text": "Hi"},
                        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
                    ],
                    "stop_reason": "tool_use",
                    "usage": {"input_tokens": 7, "output_tokens": 5},
                }
            ),
        ],
        [ReasoningDelta("hmm"), state(SIGNED), TextDelta("Hi"), ToolCallDelta(0, "{}", "f", "t")],
    ),
]

ALL = [*STREAMS, *REASONS, *THINKING, *CALLS, *USAGE, *WHOLE]


def play(
    pieces: Sequence[bytes], custom: frozenset[str] = frozenset(), mine: Memory | None = None
) -> list[Delta]:
    """All deltas of a body that comes in these pieces."""
    stream = MessagesStream(mine or memory(), custom)
    deltas = [delta for piece in pieces for delta in stream.feed(piece)]
    deltas += stream.close()
    assert stream.done
    assert stream.close() == []
    return deltas


@pytest.mark.parametrize("stream", ALL, ids=[stream.name for stream in ALL])
def test_streams(stream: Stream) -> None:
    assert play(stream.body, stream.custom) == stream.deltas


@pytest.mark.parametrize("stream", ALL, ids=[stream.name for stream in ALL])
def test_cuts_change_nothing(stream: Stream) -> None:
    body = b"".join(stream.body)
    whole = play([body], stream.custom)
    assert whole == stream.deltas
    assert play([body[i : i + 1] for i in range(len(body))], stream.custom) == whole
    for at in range(0, len(body), 7):
        assert play([body[:at], body[at:]], stream.custom) == whole
    chance = random.Random(len(body))
    for _ in range(5):
        cuts = sorted(chance.sample(range(len(body)), min(9, len(body))))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        assert play(pieces, stream.custom) == whole


def test_who_does_not_sign_gets_thinking_back_as_it_came() -> None:
    mine = Memory(ORIGIN, "m", signed=False)
    mine.prefix = "p"
    begin = {"type": "thinking", "thinking": "hm"}
    body = [start(), *block(0, begin), *stop("end_turn")]
    assert play(body, mine=mine)[:2] == [ReasoningDelta("hm"), state(begin)]


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-1, 2) | st.sampled_from(["", "x", "text", "thinking", "tool_use"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "text", "index", "name", "id"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
_TYPES = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "message", "error", "ping"),
)
_KEYS = ("message", "index", "content_block", "delta", "usage", "content", "stop_reason", "error")
_EVENTS = st.builds(
    lambda type_, fields: event(type_, **fields),
    st.sampled_from(_TYPES),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4),
)


@given(st.lists(_EVENTS, max_size=6), st.booleans())
def test_any_stream_is_an_answer_or_a_failure(events: list[bytes], ends: bool) -> None:
    with contextlib.suppress(UpstreamFaultError):
        deltas = play([start(), *events, *(stop("end_turn") if ends else [])])
        assert isinstance(deltas[-1], Finish)
        assert sum(isinstance(delta, Finish) for delta in deltas) == 1


# -- what ends badly -----------------------------------------------------------------------------


def failure(*pieces: bytes) -> APIError:
    with pytest.raises(UpstreamFaultError) as caught:
        play(pieces)
    assert "SECRET" not in caught.value.error.message
    return caught.value.error


BROKEN = {
    "no stop_reason": [*HELLO],
    "message_stop alone": [*HELLO, event("message_stop")],
    "no JSON": [start(), b"data: {SECRET\n\n"],
    "no object": [start(), b"data: 1\n\n"],
    "no type": [start(), b'data: {"SECRET": 1}\n\n'],
    "another shape": [start(), event("content_block_start", index=0, content_block=[])],
    "a number for a text": [
        *HELLO[:2],
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": 1}),
    ],
    "a delta of a block that has not begun": [
        start(),
        event("content_block_delta", index=3, delta={"type": "text_delta", "text": "x"}),
    ],
    "thinking that no event can hold": [
        start(),
        *block(0, {**SECRET, "data": orjson.loads("[" * 200 + "]" * 200)}),
        *stop("end_turn"),
    ],
    "an error": [*HELLO, event("error", error={"type": "overloaded_error", "message": "SECRET"})],
    "an error of another shape": [*HELLO, event("error", error="SECRET")],
    "a call without a name": [
        start(),
        *block(0, {"type": "tool_use", "id": "t", "name": "", "input": {}}),
        *stop("tool_use"),
    ],
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN.keys())
def test_broken_streams_have_failed(pieces: list[bytes]) -> None:
    """R-45, R-52."""
    error = failure(*pieces)
    assert error.status == 502
    assert error.should_retry is False


@pytest.mark.parametrize(
    "pieces",
    [
        *([], [b"\n"], [b"<html>SECRET</html>"], [b'{"SECRET": 1}'], [b"SECRET"], [event("ping")]),
        [event("error", error={"type": "overloaded_error", "message": "SECRET"})],
    ],
    ids=["nothing", "blank", "a web page", "another object", "a text", "pings alone", "an error"],
)
def test_what_is_no_answer_may_be_tried_again(pieces: list[bytes]) -> None:
    """R-46, R-52: nothing was spent."""
    error = failure(*pieces)
    assert error.status == 502
    assert error.should_retry is None


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("rate_limit_error", "SECRET", RateLimitError),
        ("timeout_error", "SECRET", UpstreamTimeout),
        ("invalid_request_error", "prompt is too long: SECRET", ContextLengthExceeded),
    ],
)
def test_errors_in_the_stream(kind: str, message: str, expected: type[APIError]) -> None:
    error = failure(*HELLO, event("error", error={"type": kind, "message": message}))
    assert type(error) is expected


def test_a_filter_in_the_stream() -> None:
    message = "Output blocked by content filtering policy SECRET"
    error = failure(*HELLO, event("error", error={"type": "api_error", "message": message}))
    assert error.status == 400


@pytest.mark.parametrize("begin", [b"data: ", b'{"a": "'])
def test_no_event_is_held_without_end(begin: bytes) -> None:
    """R-47."""
    assert failure(begin, *[b"x" * (1 << 20)] * (EVENT_LIMIT // (1 << 20) + 1)).status == 502


def test_what_was_said_in_the_same_read_is_told() -> None:
    """R-45."""
    with pytest.raises(UpstreamFaultError) as caught:
        MessagesStream(memory()).feed(b"".join([*HELLO, event("error", error={})]))
    assert caught.value.said == SAID
    stream = MessagesStream(memory())
    stream.feed(start() + text(0, "Hel")[0] + text(0, "Hel")[1].rstrip())
    with pytest.raises(UpstreamFaultError) as caught:
        stream.close()
    assert caught.value.said == SAID[:1]


def test_it_has_finished_when_the_reason_is_known() -> None:
    stream = MessagesStream(memory())
    for piece in HELLO:
        stream.feed(piece)
        assert not stream.finished
    stream.feed(stop("end_turn")[0])
    assert stream.finished
    assert not stream.done
    assert stream.feed(stop("end_turn")[1]) == [MADE, Finish()]
    assert stream.done
