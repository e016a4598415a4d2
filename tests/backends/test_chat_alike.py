"""Chunks that are alike but for their text are not read one by one: nobody can tell."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antiphon.backends.chat_completions.alike import Alike
from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.profiles import GENERIC, Profile
from antiphon.protocol.deltas import Delta, ReasoningDelta, TextDelta

Chunk = dict[str, Any]


def chunk(
    content: Any, *, delta: Chunk | None = None, choice: Chunk | None = None, **more: Any
) -> Chunk:
    """A chunk as vLLM makes it, with more of everything."""
    said = {"index": 0, "delta": {"content": content, **(delta or {})}, "finish_reason": None}
    place = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**place, "choices": [{**said, **(choice or {})}], **more}


LOGPROBS: Chunk = {"content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}]}
USAGE: Chunk = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
THOUGHT: Chunk = {"index": 1, "delta": {"reasoning_content": "thought"}}
SEALED: Chunk = {"type": "reasoning.encrypted", "data": "c2VhbGVk"}
#: Chunks by their text: plain ones, ends, and such that say more than their text.
SAYING: list[Callable[[Any], Chunk]] = [
    chunk,
    lambda text: chunk(text, delta={"role": "assistant"}),
    lambda text: chunk(text, delta={"role": None, "tool_calls": None}),
    lambda text: chunk(text, delta={"reasoning_content": "thought"}),
    lambda text: chunk(None, delta={"reasoning_content": text}),
    lambda text: chunk("", delta={"reasoning": text, "role": "assistant"}),
    lambda text: chunk(None, delta={"thinking": text, "reasoning": text}),
    lambda text: chunk(None, delta={"reasoning": text}, choice={"logprobs": LOGPROBS}),
    lambda text: chunk(text, delta={"refusal": "no"}),
    lambda text: chunk(None, delta={"refusal": text}),
    lambda text: chunk(text, delta={"tool_calls": [{"id": "c", "function": {"name": "f"}}]}),
    lambda text: chunk(text, choice={"finish_reason": "length"}),
    lambda text: chunk(text, choice={"finish_reason": ""}),
    lambda text: chunk(text, choice={"finish_reason": "error"}),
    lambda text: chunk(text, choice={"logprobs": LOGPROBS}),
    lambda text: chunk(text, usage=USAGE),
    lambda text: chunk(text, usage=None),
    lambda text: chunk(text, error={"message": "broken"}),
    lambda text: chunk(text, note={"content": text}),
    lambda text: chunk("a", note={"content": text}),
    lambda text: {"note": {"content": text}, **chunk("a")},
    lambda text: {"note": "content", **chunk(text)},
    lambda text: chunk(text, note='{"content":"a"}'),
    lambda text: chunk([{"type": "text", "text": text}]),
    lambda text: {**chunk(text), "choices": [*chunk(text)["choices"], *chunk("b")["choices"]]},
    lambda text: {**chunk(text), "choices": [{"index": 0, "message": {"content": text}}]},
    lambda text: {**chunk(text), "choices": [*chunk(text)["choices"], THOUGHT]},
    lambda text: chunk(None, delta={"reasoning_details": [{**SEALED, "index": len(str(text))}]}),
    lambda text: {"error": {"message": text}},
]
#: How servers write JSON: what is split in the middle of a character, only Python's can write.
FORMS: list[Callable[[Chunk], bytes]] = [
    lambda value: json.dumps(value, separators=(",", ":")).encode(),
    lambda value: json.dumps(value).encode(),
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"),
    lambda value: json.dumps(value, separators=(" ,", " : ")).encode() + b" ",
    lambda value: json.dumps(value).replace('"content"', '"\\u0063ontent"', 1).encode(),
]
#: Bytes that a broken server may send instead of an event.
BROKEN = [b'{"choices":', b"\xff", b'"a"', b"[DONE]", b"{}", b"\0" * 200 + b'"x"}}]}', b"\0"]
#: What changes between two chunks that are alike: how the answer ended, what it took.
FINISH = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
MORE_USAGE = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":9,"total_tokens":10}}'
TEXTS = st.text(max_size=4) | st.sampled_from(
    ["a", "b", "<think>", "</think>", "\ud83d", "\ude00", '"', "\\u0063", None, 1]
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Runs of chunks that are alike but for their text, and what comes between them."""
    said: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        saying, form = draw(st.sampled_from(SAYING)), draw(st.sampled_from(FORMS))
        said += [form(saying(text)) for text in draw(st.lists(TEXTS, max_size=5))]
        if draw(st.booleans()):
            said.append(draw(st.sampled_from([FINISH, MORE_USAGE, *BROKEN])))
    return said


def heard(pieces: list[bytes], profile: Profile, *, learns: bool) -> tuple[list[Delta], Any]:
    """What a stream says, and how it breaks."""
    out: list[Delta] = []
    with patch.object(Alike, "learn", Alike.learn if learns else lambda *_: None):
        stream = ChatStream(profile)
        try:
            for data in pieces:
                out += stream.feed(b"data: " + data + b"\n\n")
            out += stream.close()
        except UpstreamFaultError as fault:
            return out + list(fault.said), (str(fault), stream.told, stream.finished)
    return out, (stream.told, stream.finished, stream.done)


def plain(*texts: str) -> list[bytes]:
    """What nearly all streams are."""
    return [FORMS[0](chunk(text)) for text in texts]


PLAIN = replace(GENERIC, think="never")


@settings(max_examples=500)
@given(
    said=streams(),
    profile=st.sampled_from(
        [PLAIN, GENERIC, replace(GENERIC, think="opened"), replace(GENERIC, details_back=True)]
    ),
)
@example(said=plain("a", "b", "\ud83d", "\ude00"), profile=PLAIN)
@example(said=plain("a", "b", "\ud83d", "c"), profile=PLAIN)
def test_it_says_what_reading_every_chunk_says(said: list[bytes], profile: Profile) -> None:
    assert heard(said, profile, learns=True) == heard(said, profile, learns=False)


@pytest.mark.parametrize("between", [b"", FINISH, MORE_USAGE])
@pytest.mark.parametrize("profile", [PLAIN, replace(GENERIC, details_back=True)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("saying", SAYING)
def test_each_kind_of_chunk_means_the_same_each_time(
    saying: Callable[[Any], Chunk],
    form: Callable[[Chunk], bytes],
    profile: Profile,
    between: bytes,
) -> None:
    for odd in ("d", "", None, 1, "\ud83d"):
        first, second, third, last = (form(saying(text)) for text in ("a", "b", odd, "e"))
        begun = [*plain("x"), first, second, *[between] * bool(between), third]
        end = [*plain("y"), FINISH]
        for more in ([], [third], end, [last, *end]):
            said = [*begun, *more]
            assert heard(said, profile, learns=True) == heard(said, profile, learns=False)


@pytest.mark.parametrize("form", FORMS[:4])
@pytest.mark.parametrize("beside", [{}, {"role": "assistant"}, {"role": None, "tool_calls": None}])
def test_alike_chunks_are_not_read(form: Callable[[Chunk], bytes], beside: Chunk) -> None:
    alike, first = Alike(), chunk('Hé"l', delta=beside)
    assert alike.text(form(first)) is None
    alike.learn(form(first), first["choices"][0])
    for text in ("lo", "", "é\n", '"', "\\", "\u2028"):
        assert alike.text(form(chunk(text, delta=beside))) == text
    assert alike.text(form(chunk("lo", delta=beside, created=2))) is None
    assert alike.text(form(chunk(None, delta=beside))) is None


@pytest.mark.parametrize("others", range(5, 10))
def test_what_always_differs_ends_the_learning(others: int) -> None:
    alike = Alike()
    for number in range(others):
        different = chunk("a", obfuscation=str(number))
        alike.learn(orjson.dumps(different), different["choices"][0])
    last = orjson.dumps(chunk("a"))
    alike.learn(last, chunk("a")["choices"][0])
    assert (alike.text(last) is not None) == (others < 7)
    # What was learned before is forgotten: it would make it begin again.
    before = orjson.dumps(chunk("a", obfuscation=str(others - 1)))
    assert alike.text(before) is None


def test_a_stop_leaves_nothing() -> None:
    alike, data = Alike(), orjson.dumps(chunk("a"))
    alike.learn(data, chunk("a")["choices"][0])
    alike.stop()
    head, _, tail = data.partition(b'"a"')
    for odd in (data, b"\0" * len(head) + b'"a"' + b"\0" * len(tail), b"\0", b""):
        assert alike.text(odd) is None


def test_a_large_chunk_is_not_kept() -> None:
    alike, large = Alike(), chunk("a", note="x" * 4096)
    alike.learn(orjson.dumps(large), large["choices"][0])
    assert alike.text(orjson.dumps(large)) is None


def test_a_clock_that_moves_on_is_learned_anew() -> None:
    alike, missed = Alike(), 0
    for second in range(100):
        for _ in range(3):
            data = orjson.dumps(chunk("a", created=second))
            if alike.text(data) is None:
                missed += 1
                alike.learn(data, chunk("a")["choices"][0])
    assert missed == 100


def test_thoughts_are_learned_and_then_the_answer() -> None:
    stream = ChatStream(PLAIN)
    said = [chunk(None, delta={"reasoning": f"so {number}"}) for number in range(50)]
    said += map(chunk, "abc")
    with patch.object(ChatStream, "_chunk", autospec=True, side_effect=ChatStream._chunk) as read:
        deltas = [d for each in said for d in stream.feed(b"data: " + orjson.dumps(each) + b"\n\n")]
    assert deltas[:50] == [ReasoningDelta(f"so {number}") for number in range(50)]
    assert deltas[50:] == [TextDelta("a"), TextDelta("b"), TextDelta("c")]
    assert read.call_count == 2


def test_thoughts_in_two_fields_do_not_tire_it() -> None:
    stream = ChatStream(PLAIN)
    thought = chunk(None, delta={"reasoning_content": "so", "reasoning": "so"})
    with patch.object(ChatStream, "_chunk", autospec=True, side_effect=ChatStream._chunk) as read:
        for each in [*[thought] * 50, *map(chunk, "abc")]:
            stream.feed(b"data: " + orjson.dumps(each) + b"\n\n")
    assert read.call_count == 51


def test_log_probabilities_of_a_thought_are_not_those_of_the_text() -> None:
    """Text is held back as what may become a tag; its log probabilities with it."""
    held = chunk("<thi", choice={"logprobs": LOGPROBS})
    thoughts = [chunk(None, delta={"reasoning": text}) for text in "ab"]
    for said in ([*thoughts, held, thoughts[0], chunk("x")], [thoughts[0], held, *thoughts]):
        pieces = [*map(FORMS[0], said), FINISH]
        assert heard(pieces, GENERIC, learns=True) == heard(pieces, GENERIC, learns=False)
