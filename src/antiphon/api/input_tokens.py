"""``POST /v1/responses/input_tokens`` (spec §2.1): how long the input of a request would be.

Rules
1. Everything is resolved and checked as for ``POST /v1/responses``; nothing is run or stored.
2. ``x-antiphon-token-count`` says who counted: ``backend``, ``tokenizer`` or ``estimate``.
"""

import asyncio
from typing import Final, Protocol

import orjson
from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator
from antiphon.api.body import PARSE_IN_THREAD, ClientDisconnected, read_body
from antiphon.api.create import remarks, send_json
from antiphon.api.streams import while_connected
from antiphon.backends.base import TokenCount
from antiphon.protocol.counting import Counting, parse_counting
from antiphon.protocol.request import CreateResponse

PATH: Final = "/v1/responses/input_tokens"


class Counter(Protocol):
    """What of the engine is needed here."""

    async def count_tokens(
        self, request: CreateResponse, project: str
    ) -> tuple[TokenCount, list[str]]:
        """The tokens that a request would begin with, and the parameters that have no effect.
        Raises `APIError`."""
        ...


class InputTokensEndpoint:
    """A plain ASGI application. A client that leaves is not counted for."""

    def __init__(self, counter: Counter, auth: Authenticator, max_body_bytes: int) -> None:
        self._counter = counter
        self._auth = auth
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `APIError` before the first byte."""
        project = await self._auth.project(scope)
        try:
            raw = await read_body(scope, receive, limit=self._max_body_bytes)
        except ClientDisconnected:
            return
        if len(raw) > PARSE_IN_THREAD:
            counting = await asyncio.to_thread(parse_counting, raw)
        else:
            counting = parse_counting(raw)
        await while_connected(receive, self._answer(counting, project, send))

    async def _answer(self, counting: Counting, project: str, send: Send) -> None:
        count, ignored = await self._counter.count_tokens(counting.request, project)
        body = {"object": "response.input_tokens", "input_tokens": count.tokens}
        headers = [
            (b"x-antiphon-token-count", count.source.encode()),
            *remarks(ignored + counting.ignored, None),
        ]
        await send_json(send, orjson.dumps(body), headers)
