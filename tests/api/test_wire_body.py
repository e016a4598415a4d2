"""`read_body`: what is refused unread, what is counted, what is not run (R-15, R-19, R-22)."""

import pytest
from starlette.types import Message, Receive

from antiphon.api.body import ClientDisconnected, read_body
from antiphon.errors import APIError

JSON = (b"content-type", b"application/json")


class Body:
    """A `receive` that hands out these pieces, or a disconnect at their end."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        if ends:
            self.messages[-1]["more_body"] = False
        self.messages.append({"type": "http.disconnect"})
        self.taken = 0

    async def __call__(self) -> Message:
        self.taken += 1
        return self.messages.pop(0)


async def read(receive: Receive, *headers: tuple[bytes, bytes], limit: int = 10) -> bytes:
    return await read_body({"type": "http", "headers": list(headers)}, receive, limit=limit)


async def test_one_piece_is_not_copied() -> None:
    piece = b'{"a": 1}'
    assert await read(Body(piece), JSON) is piece


async def test_pieces_are_joined() -> None:
    assert await read(Body(b"{", b'"a"', b"", b":1}"), JSON) == b'{"a":1}'


@pytest.mark.parametrize("pieces", [(b"x" * 11,), (b"x" * 6, b"x" * 5)])
async def test_the_limit_holds_while_reading(pieces: tuple[bytes, ...]) -> None:
    """R-19."""
    with pytest.raises(APIError) as caught:
        await read(Body(*pieces), JSON)
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


async def test_a_body_at_the_limit_is_taken() -> None:
    assert await read(Body(b"x" * 5, b"x" * 5), JSON, (b"content-length", b"10")) == b"x" * 10


async def test_a_length_over_the_limit_is_refused_unread() -> None:
    """R-19."""
    body = Body(b"x")
    with pytest.raises(APIError) as caught:
        await read(body, JSON, (b"content-length", b"11"))
    assert caught.value.status == 413
    assert caught.value.headers()["connection"] == "close"
    assert body.taken == 0


@pytest.mark.parametrize("pieces", [(b"",), (b'{"a": 1}',), (b"{", b"}")])
async def test_a_truncated_body_is_not_returned(pieces: tuple[bytes, ...]) -> None:
    """R-22: even when what came would be valid."""
    with pytest.raises(ClientDisconnected):
        await read(Body(*pieces, ends=False), JSON)


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"Application/JSON;charset=UTF8",
        b'application/json; charset="utf-8"; x=y',
        b"application/vnd.api+json",
    ],
)
async def test_json_content_types(value: bytes) -> None:
    assert await read(Body(b"{}"), (b"content-type", value)) == b"{}"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/jsonp",
        b"text/json",
        b"application/json, text/plain",
        b"application/json; charset=utf-16",
        b"application/json; charset=latin1",
        b"\xff" * 500,
    ],
)
async def test_other_content_types_are_refused_unread(value: bytes | None) -> None:
    """OpenAI's words and code."""
    body = Body(b"{}")
    headers = [] if value is None else [(b"content-type", value)]
    with pytest.raises(APIError) as caught:
        await read(body, *headers)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_content_type")
    assert caught.value.message.startswith("Unsupported content type: '")
    assert len(caught.value.message) < 1000
    assert body.taken == 0


@pytest.mark.parametrize("value", [b"gzip", b"br", b"deflate", b"identity, gzip", b"zstd"])
async def test_compressed_bodies_are_refused_unread(value: bytes) -> None:
    """R-15."""
    body = Body(b"{}")
    with pytest.raises(APIError) as caught:
        await read(body, JSON, (b"content-encoding", value))
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    assert body.taken == 0


async def test_identity_is_no_compression() -> None:
    assert await read(Body(b"{}"), JSON, (b"content-encoding", b"Identity")) == b"{}"
