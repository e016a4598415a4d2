"""OpenRouter's `reasoning_details`: read from the stream, sealed, and given back (issue: the round
trip restores the backend's reasoning, with signatures where a backend needs them)."""

from typing import Any, Final

import orjson
import pytest

from antiphon.backends.chat_completions.messages import chat_messages
from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.profiles import PROFILES
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    ReasoningState,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
)
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import new_response
from antiphon.testing import FixedMint
from tests.backends.chat_corpus import HELLO, STOP, Stream
from tests.backends.test_chat_stream import SEEDS, cut, name_of, play
from tests.backends.upstream import DONE, chunk, sse

Json = dict[str, Any]
OPENROUTER: Final = PROFILES["openrouter"]
CLAUDE: Final = {"format": "anthropic-claude-v1", "index": 0}
GPT: Final = {"format": "openai-responses-v1", "index": 0}
GEMINI: Final = {"format": "google-gemini-v1", "index": 0}


def said(*details: Any, **delta: Any) -> bytes:
    """A chunk with these details."""
    return sse({**chunk(reasoning_details=list(details), **delta), "id": "gen-1"})


def piece(value: str, **more: Any) -> Json:
    return {"type": "reasoning.text", "text": value, **CLAUDE, **more}


def short(value: str, **more: Any) -> Json:
    return {"type": "reasoning.summary", "summary": value, **GPT, **more}


def secret(value: str, **more: Any) -> Json:
    return {"type": "reasoning.encrypted", "data": value, **more}


def state(*details: Json, turn: str = "gen-1") -> ReasoningState:
    return ReasoningState({"turn": turn, "reasoning_details": list(details)})


SIGNATURE: Final = {"type": "reasoning.text", "signature": "c2ln", **CLAUDE}
CALL: Final = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}

STREAMS: Final = [
    Stream(
        "Claude: the signature comes in a fragment without text",
        said(piece("Let"), reasoning="Let")
        + said(piece(" me.", signature=None), reasoning=" me.")
        + said(SIGNATURE)
        + HELLO
        + STOP,
        [
            ReasoningDelta("Let"),
            ReasoningDelta(" me."),
            state(piece("Let me.", signature="c2ln")),
            TextDelta("Hello"),
        ],
    ),
    Stream(
        "Claude: two signed blocks under one index",
        said(piece("a")) + said(SIGNATURE) + said(piece("b"), piece("c")) + said(SIGNATURE) + STOP,
        [
            ReasoningDelta("a"),
            ReasoningDelta("b"),
            ReasoningDelta("c"),
            state(piece("a", signature="c2ln"), piece("bc", signature="c2ln")),
        ],
    ),
    Stream(
        "a signature in every fragment",
        said(piece("a", signature="s"), piece("b", signature="s"), piece("c", signature="t"))
        + STOP,
        [
            ReasoningDelta("a"),
            ReasoningDelta("b"),
            ReasoningDelta("c"),
            state(piece("ab", signature="s"), piece("c", signature="t")),
        ],
    ),
    Stream(
        "GPT: summaries, then what is encrypted, all with index 0",
        said(short("**Exec"), reasoning="**Exec")
        + said(short("uting**", id="rs_1"))
        + said(short("Then", id="rs_2"))
        + said(secret("gAAA", id="rs_2", **GPT))
        + sse(chunk(tool_calls=[CALL]))
        + STOP
        + DONE,
        [
            SummaryDelta("**Exec"),
            SummaryDelta("uting**"),
            SummaryDelta("Then", 1),
            state(
                short("**Executing**", id="rs_1"),
                short("Then", id="rs_2"),
                secret("gAAA", id="rs_2", **GPT),
            ),
            ToolCallDelta(0, "{}", "f", "call_1"),
        ],
    ),
    Stream(
        "Gemini: a signature with each call",
        said(piece("hm", **GEMINI))
        + said(secret("AAA=", id="tool_1", **GEMINI), tool_calls=[CALL])
        + said(
            secret("BBB=", id="tool_2", **GEMINI),
            tool_calls=[{**CALL, "index": 1, "id": "call_2"}],
        )
        + STOP,
        [
            ReasoningDelta("hm"),
            state(piece("hm", **GEMINI), secret("AAA=", id="tool_1", **GEMINI)),
            ToolCallDelta(0, "{}", "f", "call_1"),
            state(
                piece("hm", **GEMINI),
                secret("AAA=", id="tool_1", **GEMINI),
                secret("BBB=", id="tool_2", **GEMINI),
            ),
            ToolCallDelta(1, "{}", "f", "call_2"),
        ],
    ),
    Stream(
        "encrypted details beside plain reasoning, and after the text",
        said(secret("x"), reasoning="why") + HELLO + said(secret("y")) + STOP,
        [
            ReasoningDelta("why"),
            state(secret("x")),
            TextDelta("Hello"),
            state(secret("x"), secret("y")),
        ],
    ),
    Stream(
        "another index or kind is another detail; what is unknown is kept",
        said({"type": "reasoning.server_tool_call", "name": "x", "text": "?"}, piece("a"))
        + said(piece("b", index=1), short("c", index=1))
        + STOP,
        [
            ReasoningDelta("a"),
            ReasoningDelta("b"),
            SummaryDelta("c"),
            state(
                {"type": "reasoning.server_tool_call", "name": "x", "text": "?"},
                piece("a"),
                piece("b", index=1),
                short("c", index=1),
            ),
        ],
    ),
    Stream(
        "reasoning that was cut off is not signed",
        said(piece("a")) + sse(chunk(finish="length")),
        [ReasoningDelta("a")],
        end=Finish("length"),
    ),
    Stream(
        "reasoning without details",
        sse(chunk(reasoning="why", reasoning_details=[])) + HELLO + STOP,
        [ReasoningDelta("why"), TextDelta("Hello")],
    ),
]


@pytest.mark.parametrize("stream", STREAMS, ids=name_of)
@pytest.mark.parametrize("seed", SEEDS)
def test_streams(stream: Stream, seed: int) -> None:
    """R-45: the same deltas wherever the bytes are cut."""
    assert play(cut(stream.body, seed), OPENROUTER) == stream.deltas


@pytest.mark.parametrize(
    "details", [5, "x", {"text": "x"}, [5], [None], [[]], [{"type": []}], [piece("x", text=5)]]
)
def test_details_of_another_shape_are_a_fault(details: Any) -> None:
    """R-46."""
    with pytest.raises(UpstreamFaultError, match="not a chat completion chunk"):
        play([sse(chunk(reasoning_details=details)), STOP], OPENROUTER)


def test_long_reasoning_costs_what_its_length_does() -> None:
    """R-118: 200,000 fragments of one detail."""
    body = b"".join([said(piece("word "))] * 100)
    deltas = play([*[body] * 2_000, said(SIGNATURE), STOP], OPENROUTER)
    (told,) = [delta for delta in deltas if isinstance(delta, ReasoningState)]
    assert len(told.state["reasoning_details"]) == 1
    assert len(told.state["reasoning_details"][0]["text"]) == 1_000_000


def played(deltas: list[Delta], *, summarise: bool, hosted: bool) -> list[Json]:
    """The items of a turn, as the client keeps them."""
    mint = FixedMint()
    response = new_response(
        CreateResponse(model="m", input="hi"),
        id=mint.item_id("resp"),
        created_at=mint.now(),
        status="in_progress",
    )
    options = MachineOptions(
        summarise=summarise,
        seal=lambda payload: orjson.dumps(payload).decode(),
        sealed=True,
        held=frozenset({"f"} if hosted else ()),
    )
    machine = ResponseMachine(response, mint, options)
    machine.start()
    machine.feed(deltas)
    machine.end_turn()
    for call in machine.take_held():
        action = {"type": "search", "query": call.name}
        machine.begin_call("web_search_call", {"action": action}).close("completed", {})
    output: list[Json] = machine.output
    return output


@pytest.mark.parametrize("stream", STREAMS, ids=name_of)
@pytest.mark.parametrize("summarise", [False, True])
@pytest.mark.parametrize("hosted", [False, True])
def test_the_round_trip_gives_the_server_what_it_wants(
    stream: Stream, *, summarise: bool, hosted: bool
) -> None:
    """All details of the turn, whole, unchanged, in order and once, with the assistant message."""
    deltas = play([stream.body], OPENROUTER)
    history: list[Json] = [{"type": "message", "role": "user", "content": []}]
    for item in played(deltas, summarise=summarise, hosted=hosted):
        sealed = item.get("encrypted_content")
        if sealed is not None:
            bare = {"type": "reasoning", "summary": [], "encrypted_content": sealed}
            item = restored(bare, orjson.loads(sealed))
        history.append(item)
    history.append({"type": "message", "role": "assistant", "content": []})
    states = [delta.state for delta in deltas if isinstance(delta, ReasoningState)]
    _, *rest = chat_messages(None, history, OPENROUTER)
    given = [message["reasoning_details"] for message in rest if "reasoning_details" in message]
    assert given == [state["reasoning_details"] for state in states[-1:]]
    if not states:
        text = "".join(d.text for d in deltas if isinstance(d, ReasoningDelta))
        assert rest[0]["reasoning"] == text
