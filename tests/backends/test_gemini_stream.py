"""What Gemini answers → deltas: each documented kind of chunk, whole and cut at every byte."""

from dataclasses import dataclass, field

import orjson
import pytest

from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.gemini.stream import GeminiStream
from antiphon.backends.origins import Origin
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
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
from tests.backends.upstream import DONE, sse
from tests.conformance.gemini import chunk, error

Json = dict[str, object]
HERE = Origin.of("gemini", "https://a.example/m")
STOP = sse(chunk(finish="STOP"))
HELLO = sse(chunk({"text": "Hello"}))


def thought(text: str, **more: object) -> Json:
    return {"text": text, "thought": True, **more}


def call(name: str, arguments: object = None, **more: object) -> Json:
    function: Json = {"name": name}
    if arguments is not None:
        function["args"] = arguments
    id_ = more.pop("id", None)
    return {"functionCall": {**function, **({"id": id_} if id_ else {})}, **more}


def state(*signed: Json, turn: str = "r1") -> ReasoningState:
    return ReasoningState(HERE.state({"turn": turn, "signed": list(signed)}))


def on_call(index: int, signature: str) -> Json:
    return {"part": "call", "index": index, "signature": signature}


@dataclass(frozen=True)
class Stream:
    """A body and the deltas that it says."""

    name: str
    body: bytes
    said: list[Delta]
    end: Finish = field(default_factory=Finish)
    custom: frozenset[str] = frozenset()
    all_turns: bool = False


COUNTS = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 3,
    "toolUsePromptTokenCount": 2,
    "totalTokenCount": 20,
}
LOGPROBS = {
    "chosenCandidates": [{"token": "He", "tokenId": 1, "logProbability": -0.5}, {"token": "y"}],
    "topCandidates": [
        {"candidates": [{"token": "He", "logProbability": -0.5}, {"token": "A"}]},
    ],
}


def with_logprobs(*parts: Json) -> bytes:
    said = chunk(*parts)
    said["candidates"][0]["logprobsResult"] = LOGPROBS
    return sse(said)


def token(text: str, logprob: float) -> dict[str, object]:
    return {"token": text, "bytes": list(text.encode()), "logprob": logprob}


TEXTS = [
    Stream("text", HELLO + STOP, [TextDelta("Hello")]),
    Stream("text and end in one", sse(chunk({"text": "Hi"}, finish="STOP")), [TextDelta("Hi")]),
    Stream("nothing at all", STOP, []),
    Stream("an end without content", sse({"candidates": [{"finishReason": "STOP"}]}), []),
    Stream("an empty text", sse(chunk({"text": ""})) + STOP, []),
    Stream("no space after data:", b"data:" + HELLO[6:] + STOP, [TextDelta("Hello")]),
    Stream("CRLF", (HELLO + STOP).replace(b"\n", b"\r\n"), [TextDelta("Hello")]),
    Stream("ü and 🎉", sse(chunk({"text": "ü🎉"})) + STOP, [TextDelta("ü🎉")]),
    Stream(
        "the last reason counts",
        sse(chunk({"text": "a"}, finish="STOP")) + HELLO + STOP,
        [
            TextDelta("a"),
            TextDelta("Hello"),
        ],
    ),
    Stream(
        "a reason that says nothing",
        sse(chunk({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED")) + STOP,
        [TextDelta("a")],
    ),
    Stream(
        "cut off", HELLO + sse(chunk(finish="MAX_TOKENS")), [TextDelta("Hello")], Finish("length")
    ),
    *(
        Stream(
            word, HELLO + sse(chunk(finish=word)), [TextDelta("Hello")], Finish("content_filter")
        )
        for word in (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
        )
    ),
    Stream(
        "only the first candidate",
        sse(
            {
                "candidates": [
                    *chunk({"text": "a"})["candidates"],
                    *chunk({"text": "b"})["candidates"],
                ]
            }
        )
        + STOP,
        [TextDelta("a")],
    ),
    Stream(
        "code that Google ran",
        sse(chunk({"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}))
        + HELLO
        + STOP,
        [TextDelta("Hello")],
    ),
    Stream(
        "a prompt that is no problem",
        sse({"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}) + HELLO + STOP,
        [TextDelta("Hello")],
    ),
    Stream("one object", orjson.dumps(chunk({"text": "Hi"}, finish="STOP")), [TextDelta("Hi")]),
    Stream(
        "a list, as without alt=sse",
        b"[" + HELLO[6:] + b",\r\n" + STOP[6:] + b"]",
        [
            TextDelta("Hello"),
        ],
    ),
    Stream(
        "what other servers add",
        b": hi\n\ndata: \n\n" + HELLO + STOP + DONE,
        [
            TextDelta("Hello"),
        ],
    ),
    Stream("a byte order mark", b"\xef\xbb\xbf\n" + HELLO + STOP, [TextDelta("Hello")]),
    Stream(
        "usage, of which the last counts",
        sse(chunk({"text": "a"}, usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 1}))
        + sse(chunk(finish="STOP", usageMetadata=COUNTS)),
        [
            TextDelta("a"),
            UsageReport(Usage(12, 4, 8, 3)),
        ],
    ),
    Stream(
        "usage after the end",
        STOP + sse({"usageMetadata": COUNTS}),
        [
            UsageReport(Usage(12, 4, 8, 3)),
        ],
    ),
    Stream(
        "senseless usage",
        STOP + sse({"usageMetadata": {"promptTokenCount": "x"}}),
        [
            UsageReport(Usage()),
        ],
    ),
    Stream(
        "log probabilities",
        with_logprobs({"text": "Hey"}) + STOP,
        [
            TextDelta(
                "Hey",
                [
                    {**token("He", -0.5), "top_logprobs": [token("He", -0.5), token("A", 0.0)]},
                    {**token("y", 0.0), "top_logprobs": []},
                ],
            ),
        ],
    ),
    Stream(
        "log probabilities of thoughts too",
        with_logprobs(thought("H"), {"text": "ey"}) + STOP,
        [
            ReasoningDelta("H"),
            TextDelta("ey"),
        ],
    ),
]

CALLS = [
    Stream(
        "a call",
        sse(chunk(call("f", {"a": 1}, id="fc1"))) + STOP,
        [
            ToolCallDelta(0, '{"a":1}', "f", "fc1"),
        ],
    ),
    Stream(
        "a call without id and arguments",
        sse(chunk(call("f"))) + STOP,
        [
            ToolCallDelta(0, "{}", "f"),
        ],
    ),
    Stream(
        "parallel calls",
        sse(chunk(call("f", {"a": 1}), call("f", {"a": 2}))) + STOP,
        [
            ToolCallDelta(0, '{"a":1}', "f"),
            ToolCallDelta(1, '{"a":2}', "f"),
        ],
    ),
    Stream(
        "calls in two chunks",
        sse(chunk(call("f", {}))) + sse(chunk(call("g", {}))) + STOP,
        [
            ToolCallDelta(0, "{}", "f"),
            ToolCallDelta(1, "{}", "g"),
        ],
    ),
    Stream(
        "a custom tool",
        sse(chunk(call("t", {"input": 'a\n"b"'}))) + STOP,
        [ToolCallDelta(0, 'a\n"b"', "t", None, "custom")],
        custom=frozenset({"t"}),
    ),
    Stream(
        "text, then a call",
        HELLO + sse(chunk(call("f", {}))) + STOP,
        [
            TextDelta("Hello"),
            ToolCallDelta(0, "{}", "f"),
        ],
    ),
]

THOUGHTS = [
    Stream(
        "thoughts",
        sse(chunk(thought("a"))) + sse(chunk(thought("b"))) + HELLO + STOP,
        [
            ReasoningDelta("a"),
            ReasoningDelta("b"),
            TextDelta("Hello"),
        ],
    ),
    Stream(
        "a signed thought",
        sse(chunk(thought("a", thoughtSignature="S"))) + HELLO + STOP,
        [
            ReasoningDelta("a"),
            state({"part": "thought", "signature": "S"}),
            TextDelta("Hello"),
        ],
    ),
    Stream(
        "a signed call: the state is before it",
        sse(chunk(thought("a"), call("f", {}, thoughtSignature="S"), call("g", {}))) + STOP,
        [
            ReasoningDelta("a"),
            state(on_call(0, "S")),
            ToolCallDelta(0, "{}", "f"),
            ToolCallDelta(1, "{}", "g"),
        ],
    ),
    Stream(
        "two signed calls: the later state has both",
        sse(chunk(call("f", {}, thoughtSignature="S"), call("g", {}, thoughtSignature="T"))) + STOP,
        [
            state(on_call(0, "S")),
            ToolCallDelta(0, "{}", "f"),
            state(on_call(0, "S"), on_call(1, "T")),
            ToolCallDelta(1, "{}", "g"),
        ],
    ),
    Stream(
        "signed text before a call",
        sse(chunk({"text": "a", "thoughtSignature": "S"})) + sse(chunk(call("f", {}))) + STOP,
        [
            TextDelta("a"),
            state({"part": "text", "signature": "S"}),
            ToolCallDelta(0, "{}", "f"),
        ],
    ),
    Stream(
        "signed text at the end is of no use in this turn",
        HELLO + sse(chunk({"text": "", "thoughtSignature": "S"}, finish="STOP")),
        [TextDelta("Hello")],
    ),
    Stream(
        "but later turns may see it",
        HELLO + sse(chunk({"text": "", "thoughtSignature": "S"}, finish="STOP")),
        [TextDelta("Hello"), state({"part": "text", "signature": "S"})],
        all_turns=True,
    ),
    Stream(
        "no id of the turn",
        sse({"candidates": chunk(call("f", {}, thoughtSignature="S"))["candidates"]}) + STOP,
        [state(on_call(0, "S"), turn=""), ToolCallDelta(0, "{}", "f")],
    ),
]
STREAMS = [*TEXTS, *CALLS, *THOUGHTS]


def play(
    body: bytes, step: int, stream: GeminiStream, said: list[Delta] | None = None
) -> list[Delta]:
    """What it says; also in `said`, which outlives a fault."""
    said = [] if said is None else said
    for start in range(0, len(body), step):
        assert not stream.done
        said += stream.feed(body[start : start + step])
    said += stream.close()
    assert stream.done
    assert stream.finished
    assert stream.close() == []
    return said


@pytest.mark.parametrize(
    ("chunks", "ends"),
    [
        ([chunk({"text": "a"}), chunk({"text": "b"}, finish="STOP")], [False, True]),
        ([chunk({"text": "a"}), chunk(finish="STOP")], [False, True]),
        ([chunk(thought("a")), chunk(call("f"), finish="STOP")], [False, True]),
        ([chunk({"text": "a"}), chunk({"text": ""}, finish="STOP")], [False, True]),
        ([chunk({"text": "a"}, finish="STOP")] * 3 + [chunk(finish="STOP")], [False] * 3 + [True]),
        ([chunk({"text": "a"}, finish="MAX_TOKENS")], [True]),
        ([chunk(finish="STOP"), chunk({"text": "a"})], [True, False]),
        ([chunk(finish="STOP"), chunk(usageMetadata=COUNTS)], [True, True]),
    ],
)
def test_it_has_finished_when_nothing_can_follow(chunks: list[Json], ends: list[bool]) -> None:
    """R-44: who has finished is given a few seconds only. Gemini 1.5 says STOP with each chunk."""
    stream = GeminiStream(HERE)
    seen: list[bool] = []
    for each in chunks:
        stream.feed(sse(each))
        seen.append(stream.finished)
    assert seen == ends
    stream.close()
    assert stream.finished


def name_of(case: "Stream | Fault") -> str:
    return case.name


@pytest.mark.parametrize("stream", STREAMS, ids=name_of)
def test_streams(stream: Stream) -> None:
    """R-45: the same deltas wherever the bytes are cut; one `Finish`, at the end."""
    for step in (len(stream.body), 1, 7):
        reader = GeminiStream(HERE, stream.custom, all_turns=stream.all_turns)
        assert play(stream.body, step, reader) == [*stream.said, stream.end]


@pytest.mark.parametrize("stream", STREAMS, ids=name_of)
def test_one_cut_anywhere(stream: Stream) -> None:
    """R-45."""
    for cut in range(len(stream.body)):
        reader = GeminiStream(HERE, stream.custom, all_turns=stream.all_turns)
        said = reader.feed(stream.body[:cut]) + reader.feed(stream.body[cut:]) + reader.close()
        assert said == [*stream.said, stream.end]


# -- what ends badly -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A body and the error that it ends in; `retry`: its `should_retry` (R-52)."""

    name: str
    body: bytes
    error: type[APIError] = UpstreamError
    retry: bool | None = False


TOO_LONG = error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum SECRET")
FAULTS = [
    Fault("empty body", b"", retry=None),
    Fault("blanks", b"\n \n", retry=None),
    Fault("web page", b"<html>SECRET</html>", retry=None),
    Fault("garbage", b"\x00\xfe\xff", retry=None),
    Fault("another object", b'{"hello": "SECRET"}', retry=None),
    Fault("a list of other things", b'["SECRET"]', retry=None),
    Fault("a list that is cut off", b'[{"candidates": ', retry=None),
    Fault("an empty list", b"[]", retry=None),
    Fault("no finishReason", HELLO),
    Fault("[DONE] without finishReason", HELLO + DONE),
    Fault("cut off in a chunk", HELLO + STOP[:30]),
    Fault("no JSON", HELLO + b"data: {SECRET\n\n" + STOP),
    Fault("a chunk that is a list", HELLO + sse([1]) + STOP),
    Fault("text that is a number", HELLO + sse(chunk({"text": 5})) + STOP),
    Fault(
        "parts that are a number", HELLO + sse({"candidates": [{"content": {"parts": 5}}]}) + STOP
    ),
    Fault("a candidate that is a string", sse({"candidates": ["x"]}) + STOP, retry=None),
    Fault("a call without a name", HELLO + sse(chunk({"functionCall": {"args": {}}})) + STOP),
    Fault("a call with an empty name", HELLO + sse(chunk(call("", {}))) + STOP),
    Fault("a signature that is a number", HELLO + sse(chunk({"text": "", "thoughtSignature": 5}))),
    *(
        Fault(word, HELLO + sse(chunk(finish=word)))
        for word in (
            "MALFORMED_FUNCTION_CALL",
            "UNEXPECTED_TOOL_CALL",
            "MISSING_THOUGHT_SIGNATURE",
            "TOO_MANY_TOOL_CALLS",
            "OTHER",
            "SOMETHING_NEW",
        )
    ),
    Fault("a malformed call alone", sse(chunk(finish="MALFORMED_FUNCTION_CALL"))),
    Fault("an error event", HELLO + sse(error(500, "INTERNAL", "SECRET"))),
    Fault("an error in words", HELLO + sse({"error": "SECRET"})),
    Fault("an error as raw lines", HELLO + b'{\n "error": {"code": 500}\n}\n'),
    Fault("too much", HELLO + sse(error(429, "RESOURCE_EXHAUSTED", "SECRET")), RateLimitError),
    Fault("too late", HELLO + sse(error(504, "DEADLINE_EXCEEDED", "SECRET")), UpstreamTimeout),
    Fault("too long", sse(TOO_LONG), ContextLengthExceeded, None),
    Fault("too long, in a list", orjson.dumps([TOO_LONG]), ContextLengthExceeded, None),
    Fault(
        "a blocked prompt",
        sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": COUNTS}),
        InvalidRequestError,
        None,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
@pytest.mark.parametrize("step", [1, 100_000])
def test_faults(fault: Fault, step: int) -> None:
    """R-42, R-45, R-46, R-52: never a turn that ended well, and never the upstream's words."""
    said: list[Delta] = []
    with pytest.raises(UpstreamFaultError) as caught:
        play(fault.body, step, GeminiStream(HERE), said)
    raised = caught.value.error
    assert type(raised) is fault.error
    assert raised.should_retry is fault.retry
    assert "SECRET" not in raised.message
    said += caught.value.said
    assert (TextDelta("Hello") in said) is fault.body.startswith(HELLO), "what came before is told"


@pytest.mark.parametrize("start", [b"data: ", b"["])
def test_what_has_no_end_is_not_held(start: bytes) -> None:
    """R-47."""
    reader = GeminiStream(HERE)
    reader.feed(start + b"x" * (15 << 20))
    with pytest.raises(UpstreamFaultError):
        reader.feed(b"x" * (2 << 20))
