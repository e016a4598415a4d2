"""Bytes to events: every cut gives the same events; nothing unbounded is held (R-47)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.sse import Event, EventDecoder, EventTooLargeError

TABLE: list[tuple[str, bytes, list[Event]]] = [
    ("one", b"data: a\n\n", [Event(b"a")]),
    ("no blank after the colon", b"data:a\n\n", [Event(b"a")]),
    ("only one blank is dropped", b"data:  a \n\n", [Event(b" a ")]),
    ("crlf", b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(b"a"), Event(b"b")]),
    ("cr", b"data: a\r\rdata: b\r\r", [Event(b"a"), Event(b"b")]),
    ("crlf between data lines", b"data: a\r\ndata: b\r\n\r\n", [Event(b"a\nb")]),
    ("mixed ends", b"data: a\r\n\ndata: b\n\r\n", [Event(b"a"), Event(b"b")]),
    ("data lines are joined", b"data: a\ndata\ndata: b\n\n", [Event(b"a\n\nb")]),
    ("the first line is empty", b"data: x\n\ndata\ndata: b\n\n", [Event(b"x"), Event(b"\nb")]),
    ("name", b"event: error\ndata: a\n\ndata: b\n\n", [Event(b"a", b"error"), Event(b"b")]),
    ("name without data", b"event: x\n\ndata: b\n\n", [Event(b"b")]),
    ("comments, ids, retry", b": ping\n\nid: 1\nretry: 5\ndata: a\n\n:\n\n", [Event(b"a")]),
    ("unknown field", b"datax: a\n{}\n\n", []),
    ("byte order mark", b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
    ("no empty line at the end", b"data: a\n\ndata: b\n", [Event(b"a"), Event(b"b")]),
    ("no line end at the end", b"data: a\n\ndata: b", [Event(b"a"), Event(b"b")]),
    ("many empty lines", b"\n\n\ndata: a\n\n\n\n", [Event(b"a")]),
    ("nothing", b"", []),
]


def decode(pieces: list[bytes]) -> list[Event]:
    decoder = EventDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


@pytest.mark.parametrize(("body", "events"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
def test_table_whole_and_byte_by_byte(body: bytes, events: list[Event]) -> None:
    assert decode([body]) == events
    assert decode([body[i : i + 1] for i in range(len(body))]) == events


def test_an_event_that_begins_with_an_empty_line_is_one() -> None:
    assert decode([b"data: x\n\n", b"data:\n", b"data: b\n\n"]) == [Event(b"x"), Event(b"\nb")]


@given(
    lines=st.lists(
        st.sampled_from(
            [b"data: x", b"data:y", b"data:", b"event: e", b"", b": c", b"data: \xc3\xa9"]
        )
    ),
    ends=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 200)),
)
def test_no_cut_changes_the_events(lines: list[bytes], ends: bytes, cuts: list[int]) -> None:
    body = b"".join(line + ends for line in lines)
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(at)]
    assert decode(pieces) == decode([body])


def test_events_come_as_soon_as_they_are_whole() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata: b") == [Event(b"a")]
    assert decoder.feed(b"\r") == []
    assert decoder.feed(b"\n\r\n") == [Event(b"b")]


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"], ids=["open", "line", "event"])
def test_an_event_over_the_limit_is_refused(end: bytes) -> None:
    """R-47."""
    EventDecoder(limit=100).feed(b"data: " + b"x" * 90 + b"\n\n")
    decoder = EventDecoder(limit=100)
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"data: " + b"x" * 101 + end)


def test_an_endless_line_is_given_up_at_the_limit() -> None:
    """R-47: whatever the size of the reads."""
    decoder = EventDecoder(limit=1_000_000)
    for _ in range(1_000):
        decoder.feed(b"x" * 1_000)
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"x")


def test_many_data_lines_are_bounded_too() -> None:
    """R-47."""
    decoder = EventDecoder(limit=10_000)
    for _ in range(1_250):
        decoder.feed(b"data: xxxxxxxx\n")
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"data: xxxxxxxx\n")
