"""``POST /v1/responses/compact``: a context goes in, what stands for it comes out (spec §2.1)."""

import asyncio

import orjson
from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator
from antiphon.api.body import PARSE_IN_THREAD, ClientDisconnected, read_body
from antiphon.api.create import remarks, send_json
from antiphon.api.streams import while_connected
from antiphon.engine.runner import Engine
from antiphon.protocol.compaction import parse_compact
from antiphon.protocol.request import CreateResponse


class CompactEndpoint:
    """A plain ASGI application. A client that leaves stops the work (R-54)."""

    def __init__(self, engine: Engine, auth: Authenticator, max_body_bytes: int) -> None:
        self._engine = engine
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
            request = await asyncio.to_thread(parse_compact, raw)
        else:
            request = parse_compact(raw)
        await while_connected(receive, self._answer(request, project, send))

    async def _answer(self, request: CreateResponse, project: str, send: Send) -> None:
        body, ignored = await self._engine.compact(request, project)
        await send_json(send, orjson.dumps(body), remarks(ignored, None))
