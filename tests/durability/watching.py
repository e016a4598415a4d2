"""Clients that outlive servers: they keep what they saw, come back, and compare.

Rules
1. A `Witness` is one response as one client knows it. What it has seen once, nobody may unsay.
2. A reader that comes back with `starting_after` gets the next event first, and none twice (R-61).
3. Whatever a dying server does to a connection is no error here; every other surprise is.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import httpx2
import orjson

from tests.live import KEY

Json: TypeAlias = dict[str, Any]

RUNNING: Final = ("queued", "in_progress")
#: What a client sees of a server that is gone, or not there yet.
GONE: Final = (httpx2.TransportError, ConnectionError)
_PAUSE: Final = 0.05
#: Seconds that a background response with `store: false` is kept at least.
_POLLED: Final = 600
#: Answers of a server that is not ready, or is about to end.
_BUSY: Final = (429, 503)


@dataclass(eq=False)
class Witness:
    """What a client knows of one response."""

    body: Json
    key: str | None = None
    #: All that it was told is its response: a keyed foreground run that died is made anew.
    ids: list[str] = field(default_factory=list)
    #: Sequence number → the event, as it came.
    seen: dict[int, bytes] = field(default_factory=dict)
    #: The stream was read to its ``[DONE]``.
    ended: bool = False
    #: The last answer to a cancel or a DELETE that arrived.
    cancelled: Json | None = None
    deleted: bool = False
    #: When it was asked for, by the monotonic clock.
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        """The response's id."""
        return self.ids[-1]

    def is_known(self) -> bool:
        """Whether the server has said an id."""
        return bool(self.ids)

    def take(self, number: int, event: bytes) -> None:
        """One event of its response arrived."""
        assert self.seen.setdefault(number, event) == event, (self.seen[number], event)
        if number == 0:
            self.learn(orjson.loads(event)["response"]["id"])

    def may_be_gone(self) -> bool:
        """Whether 404 is right: it was deleted, or it was not to be stored for long (spec §1)."""
        polled = self.body.get("store") is False
        return self.deleted or (polled and time.monotonic() - self.asked_at > _POLLED)

    def learn(self, response_id: str) -> None:
        """The server said an id."""
        if response_id not in self.ids:
            self.ids.append(response_id)


def client_at(base_url: str, timeout: float = 30.0) -> httpx2.AsyncClient:
    """Many connections; paths begin with ``/responses``."""
    return httpx2.AsyncClient(
        base_url=base_url,
        headers={"authorization": f"Bearer {KEY}"},
        timeout=timeout,
        verify=False,
        trust_env=False,
        limits=httpx2.Limits(max_connections=None),
    )


async def sse(reply: httpx2.Response) -> AsyncGenerator[tuple[int, bytes], None]:
    """Number and JSON of each event that arrived whole; (-1, b"") for ``[DONE]``."""
    rest = b""
    async for piece in reply.aiter_bytes():
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            if block == b"data: [DONE]":
                yield -1, b""
            elif not block.startswith(b":"):
                event = block.partition(b"\ndata: ")[2]
                yield orjson.loads(event)["sequence_number"], event


async def post(client: httpx2.AsyncClient, witness: Witness) -> bool:
    """Ask for the response of `witness` once; whether the answer was a whole one.

    Raises what is in `GONE`. A stream is read as far as it goes.
    """
    headers = {"idempotency-key": witness.key} if witness.key else {}
    request = client.build_request("POST", "/responses", json=witness.body, headers=headers)
    reply = await client.send(request, stream=True)
    try:
        if reply.status_code in _BUSY:
            return False
        assert reply.status_code == 200, (await reply.aread(), witness)
        if witness.body.get("stream"):
            return await _follow(reply, witness, 0)
        made = orjson.loads(await reply.aread())
        witness.learn(made["id"])
        return True
    finally:
        await reply.aclose()


async def read_on(client: httpx2.AsyncClient, witness: Witness, after: int) -> bool:
    """Read the stream of `witness` from the event after `after`; whether to its end."""
    params = {"stream": "true"} | ({"starting_after": str(after)} if after >= 0 else {})
    async with client.stream("GET", f"/responses/{witness.id}", params=params) as reply:
        if reply.status_code in _BUSY:
            return False
        if reply.status_code == 404 and witness.may_be_gone():
            return True
        assert reply.status_code == 200, (await reply.aread(), witness)
        return await _follow(reply, witness, after + 1)


async def _follow(reply: httpx2.Response, witness: Witness, number: int) -> bool:
    """Take all events; the first must be `number`, and each the one after the last."""
    async with contextlib.aclosing(sse(reply)) as stream:
        async for found, event in stream:
            if found < 0:
                return True
            if found == 0 and _is_new(witness, event):
                witness.seen.clear()
            assert found == number, (found, number, witness)
            witness.take(found, event)
            number += 1
    return False


def _is_new(witness: Witness, event: bytes) -> bool:
    """A keyed foreground run may be made anew: its events are those of another response."""
    return orjson.loads(event)["response"]["id"] not in witness.ids


async def read_to_the_end(client: httpx2.AsyncClient, witness: Witness) -> None:
    """Come back as often as it takes."""
    while not witness.ended:
        with contextlib.suppress(*GONE):
            witness.ended = await read_on(client, witness, max(witness.seen, default=-1))
        if not witness.ended:
            await asyncio.sleep(_PAUSE)


async def post_until_answered(client: httpx2.AsyncClient, witness: Witness) -> None:
    """With a key one can ask again and again (R-79)."""
    answered = False
    while not answered:
        with contextlib.suppress(*GONE):
            answered = await post(client, witness)
        if not answered:
            await asyncio.sleep(_PAUSE)


async def send_and_cut(port: int, witness: Witness, seconds: float) -> None:
    """Send the request whole, and reset the connection `seconds` later (R-62)."""
    body = orjson.dumps(witness.body)
    head = (
        f"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    )
    if witness.key:
        head += f"idempotency-key: {witness.key}\r\n"
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    writer.write(head.encode() + b"\r\n" + body)
    await asyncio.sleep(seconds)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
