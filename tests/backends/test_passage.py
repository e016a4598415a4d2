"""What passes of an answer that is passed on, and what does not (R-42, R-46)."""

import pytest

from antiphon.backends.chat_completions.faults import error_in_stream
from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.passage import Passage
from antiphon.backends.sse import EVENT_LIMIT
from antiphon.errors import APIError, ContextLengthExceeded, RateLimitError, UpstreamError
from tests.backends.upstream import chunk, sse

JSON, EVENTS = "application/json", "text/event-stream"
SAID = b": hello\n\n" + sse(chunk(content="Hel")) + sse(chunk(content="errors"))


def passed(media_type: str, body: bytes, step: int = 100_000) -> tuple[bytes, APIError | None]:
    """The media type and what passes, and the error in which it ends."""
    passage, out = Passage(media_type, error_in_stream), b""
    try:
        for at in range(0, len(body), step):
            for piece in passage.feed(body[at : at + step]):
                out += piece
        for piece in passage.close():
            out += piece
    except UpstreamFaultError as fault:
        return out, fault.error
    return out, None


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (JSON, b""),
        (JSON, b" "),
        (JSON, b"\xff{SECRET"),
        (JSON, b"null"),
        (JSON, b'["SECRET"]'),
        (JSON, b'{"SECRET": '),
        (JSON, b"[" * 50_000),
        (JSON, b"[" + b"1," * 50_000 + b"1]"),
        (JSON, b'{"error": {"message": "SECRET"}}'),
        (EVENTS, b'{"error": "SECRET"}'),
        (JSON, b'{"object": "error", "message": "SECRET"}'),
        (JSON, b'{"detail": "SECRET"}'),
        (JSON, b'{"choices": [{"error": {"message": "SECRET"}}]}'),
        (EVENTS, b""),
        (EVENTS, b"\n\n"),
        (EVENTS, sse({"error": {"message": "SECRET"}}) + SAID),
        (EVENTS, b'event: error\ndata: {"message": "SECRET"}\n\n'),
        (EVENTS, b"event: error\ndata: SECRET"),
        (EVENTS, b"data: " + b"x" * EVENT_LIMIT),
    ],
    ids=lambda value: value[:24].decode(errors="replace") if isinstance(value, bytes) else value,
)
def test_what_is_no_answer(media_type: str, body: bytes) -> None:
    """Nothing passes, so that the error can be a status."""
    out, error = passed(media_type, body)
    assert out == b""
    assert type(error) is UpstreamError
    assert "SECRET" not in error.message


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    "error",
    [
        sse({"error": {"message": "SECRET"}}),
        b'event: error\r\ndata: {"message": "SECRET"}\r\n\r\n',
        b"event: error\rdata: SECRET\r\r",
        sse({"choices": [{"index": 0, "delta": {}, "error": {"message": "SECRET"}}]}),
    ],
)
def test_an_error_in_a_stream_is_its_end(error: bytes, step: int) -> None:
    """R-49, R-52: what came before it passes."""
    out, raised = passed(EVENTS, SAID + error + SAID, step)
    assert out == EVENTS.encode() + SAID
    assert type(raised) is UpstreamError
    assert raised.should_retry is False


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "context_length_exceeded", "message": "SECRET"}, ContextLengthExceeded),
        ({"code": 429, "message": "SECRET"}, RateLimitError),
    ],
)
def test_what_it_is_about(error: object, kind: type[APIError]) -> None:
    for body in (sse({"error": error}), sse({"error": error})[6:]):
        assert type(passed(EVENTS, body)[1]) is kind


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (JSON, b'{"data": [' + b"0.5, " * 20_000 + b'NaN], "error": "late"}'),
        (JSON, b' \n{"data": [NaN], "error": null}'),
        (JSON, b'\xef\xbb\xbf{"choices": [1, {"error": null}], "detail": 1}'),
        (EVENTS, b'{"choices": []}'),
        (EVENTS, b'\xef\xbb\xbfdata: {"error": null}\r\revent: x\ndata: error, no JSON'),
        (EVENTS, b'data: {"choices": [{"error": null}, 1]}\n\ndata: [DONE]\n\n'),
        ("text/plain", SAID),
    ],
)
def test_what_is_an_answer_passes_as_it_came(media_type: str, body: bytes, step: int) -> None:
    assert passed(media_type, body, step) == (media_type.encode() + body, None)


def test_a_line_passes_when_it_is_whole() -> None:
    passage = Passage(EVENTS, error_in_stream)
    assert list(passage.feed(b"data: 1")) == []
    assert list(passage.feed(b"2\n\nda")) == [EVENTS.encode(), b"data: 12\n\n"]
    assert list(passage.feed(b"ta: 3\n\n")) == [b"data: 3\n\n"]
    assert list(passage.close()) == []


def test_events_pass_whatever_they_are_said_to_be() -> None:
    """Some gateways call everything JSON."""
    out, error = passed(JSON, SAID + b"data: [DONE]\n\n")
    assert error is None
    assert out == JSON.encode() + SAID + b"data: [DONE]\n\n"
