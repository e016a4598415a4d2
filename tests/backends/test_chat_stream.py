"""What chat-completions servers answer → deltas: the corpus, whole and cut anywhere."""

import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.calls import CallAssembler, InputUnwrapper
from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.profiles import GENERIC, Profile
from antiphon.protocol.deltas import Delta, Finish, TextDelta, ToolCallDelta
from tests.backends import chat_corpus, chat_corpus_calls
from tests.backends.chat_corpus import HELLO, STOP, Stream
from tests.backends.chat_corpus_faults import FAULTS, Fault
from tests.backends.upstream import DONE, chunk, sse
from tests.pace import pace

STREAMS = [*chat_corpus.STREAMS, *chat_corpus_calls.STREAMS]
SEEDS = range(8)


def cut(body: bytes, seed: int) -> list[bytes]:
    """The body in pieces: whole for seed 0, byte by byte for 1, else at random places."""
    if seed < 2:
        return [body] if seed == 0 else [body[i : i + 1] for i in range(len(body))]
    rng = random.Random(seed)
    pieces = []
    while body:
        size = rng.randint(1, max(1, min(len(body), 60)))
        pieces.append(body[:size])
        body = body[size:]
    return pieces


def play(
    pieces: list[bytes], profile: Profile = GENERIC, custom: frozenset[str] = frozenset()
) -> list[Delta]:
    stream = ChatStream(profile, custom)
    said: list[Delta] = []
    for piece in pieces:
        said += stream.feed(piece)
        if stream.done:
            break
    said += stream.close()
    assert stream.done
    return said


def name_of(case: Stream | Fault) -> str:
    return case.name


def test_names_are_unique() -> None:
    names = [case.name for case in STREAMS] + [case.name for case in FAULTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("stream", STREAMS, ids=name_of)
@pytest.mark.parametrize("seed", SEEDS)
def test_streams(stream: Stream, seed: int) -> None:
    """R-45: the same deltas wherever the bytes are cut; exactly one `Finish`, at the end."""
    said = play(cut(stream.body, seed), stream.profile, stream.custom)
    assert said == stream.deltas
    assert [type(delta) for delta in said].count(Finish) == 1


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
@pytest.mark.parametrize("seed", SEEDS)
def test_faults(fault: Fault, seed: int) -> None:
    """R-42, R-45, R-46, R-52: a defined error, never a `Finish`, no word of the upstream in it."""
    with pytest.raises(UpstreamFaultError) as caught:
        play(cut(fault.body, seed))
    error = caught.value.error
    assert type(error) is fault.error
    assert error.should_retry is fault.retry
    for word in ("boom", "Bad gateway", "10 tokens", "nonsense"):
        assert word not in error.message
    assert caught.value.detail.isprintable()


def test_a_limit_of_tokens_that_cuts_an_answer_by_a_schema_is_no_fault() -> None:
    """llama.cpp says it in these words, after half of a letter for example."""
    said = {"code": 500, "message": "The model produced output that does not match the expected …"}
    error = sse({"error": said})
    assert play([HELLO, error]) == [TextDelta("Hello"), Finish("length")]
    with pytest.raises(UpstreamFaultError):
        play([error])


def test_nothing_is_held_back_without_need() -> None:
    stream = ChatStream()
    assert stream.feed(HELLO) == [TextDelta("Hello")]
    assert not stream.finished
    assert stream.feed(STOP) == []
    assert stream.finished
    assert not stream.done
    assert stream.feed(DONE) == [Finish()]
    assert stream.done
    assert stream.close() == []


def test_a_line_of_8_mib_is_read_and_one_of_17_is_not() -> None:
    """R-47."""
    big = "x" * (8 << 20)
    assert play([sse(chunk(content=big)), STOP])[0] == TextDelta(big)
    with pytest.raises(UpstreamFaultError, match="too large"):
        play([b"data: ", *[b"x" * (1 << 20)] * 17])


def test_a_json_body_over_the_limit_is_given_up() -> None:
    """R-47."""
    with pytest.raises(UpstreamFaultError, match="body larger"):
        play([b"{", *[b" " * (1 << 20)] * 17])


@given(text=st.text(), ascii_only=st.booleans(), data=st.data())
def test_any_custom_input_survives_the_wrapping(
    text: str, ascii_only: bool, data: st.DataObject
) -> None:
    wrapped = json.dumps({"input": text}, ensure_ascii=ascii_only)
    unwrapper = InputUnwrapper()
    got = ""
    while wrapped:
        size = data.draw(st.integers(1, len(wrapped)))
        got += unwrapper.feed(wrapped[:size])
        wrapped = wrapped[size:]
    assert got + unwrapper.close() == text


def test_a_long_input_comes_while_it_streams() -> None:
    unwrapper = InputUnwrapper()
    parts = [unwrapper.feed(part) for part in ('{"input": "', "*** Begin", " Patch\\n", '"}')]
    assert parts == ["", "*** Begin", " Patch\n", ""]
    assert unwrapper.close() == ""


@pytest.mark.parametrize(
    ("escape", "rest"),
    [
        ("\\d", "+"),
        ("\\'", "s"),
        ("\\u12", "xy"),
        ("\\ud83d", "x"),
        ("\\ud83d\\", "x"),
        ("\\ud83d\\u00e", "4"),
        ("\\ude00", "x"),
        ("\\", "\n"),
    ],
)
def test_an_escape_that_json_does_not_have_holds_nothing_back(escape: str, rest: str) -> None:
    """R-118: what is held is read again with each fragment."""
    unwrapper = InputUnwrapper()
    said = unwrapper.feed('{"input": "a\\n') + unwrapper.feed(escape) + unwrapper.feed(rest)
    assert said == "a\n" + (escape + rest).replace("\\u00e4", "ä")
    assert unwrapper.feed("b\\tc") == "b\tc"
    assert unwrapper.feed('d"}') == "d"
    assert unwrapper.close() == ""


@pytest.mark.parametrize("end", ["\\", "\\u00e", "\\ud83d", "\\ud83d\\ude0"])
def test_an_input_that_is_cut_in_an_escape_keeps_it(end: str) -> None:
    unwrapper = InputUnwrapper()
    assert unwrapper.feed('{"input": "a') == "a"
    assert unwrapper.feed(end) == ""
    assert unwrapper.close() == end


def test_arguments_of_a_call_without_a_name_take_linear_time() -> None:
    """R-118: they are held until the name comes."""
    assembler, out = CallAssembler(frozenset()), list[Delta]()
    start = time.process_time()
    for _ in range(100_000):
        assembler.feed({"index": 0, "function": {"arguments": "argument"}}, out)
    assembler.feed({"index": 0, "function": {"name": "f"}}, out)
    assert assembler.close(out)
    assert time.process_time() - start < 0.5 * pace()
    assert out == [ToolCallDelta(0, "argument" * 100_000, "f")]
