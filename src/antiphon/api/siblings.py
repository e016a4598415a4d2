"""``/v1/chat/completions`` and ``/v1/embeddings``: one base URL for an app that still has them.

Rules
1. A request goes to the backend of its model, under the model's name there, and comes back as it
   came: nothing is stored, run or read. A backend that speaks another protocol cannot be asked.
2. An upstream's own errors, and web pages, are told in our words, as everywhere (R-42, R-46).
3. A client that leaves stops the call (R-53).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

import orjson
from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator, client_key
from antiphon.api.body import ClientDisconnected, parsed, read_body
from antiphon.api.streams import while_connected
from antiphon.backends.base import Backend, Relay, Relayed, RelayPath
from antiphon.errors import APIError, InvalidRequestError, ModelNotFound
from antiphon.protocol.bodies import parse_object
from antiphon.protocol.fields import MAX_NAME
from antiphon.protocol.validation import echo, invalid_type, missing

#: A model → the backends that have it, with its name there. Raises `ModelNotFound`.
Places: TypeAlias = Callable[[str], Sequence[tuple[Backend, str]]]
PATHS: Final[tuple[RelayPath, ...]] = ("/chat/completions", "/embeddings")


class Sibling:
    """One of the endpoints, as a plain ASGI application."""

    def __init__(
        self,
        path: RelayPath,
        places: Places,
        relays: Mapping[str, Relay],
        auth: Authenticator,
        max_body_bytes: int,
    ) -> None:
        """`relays`: by the names of their backends; the first place that has one is asked."""
        self._path = path
        self._places = places
        self._relays = relays
        self._auth = auth
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `APIError` before the first byte."""
        await self._auth.project(scope)
        try:
            raw = await read_body(scope, receive, limit=self._max_body_bytes)
        except ClientDisconnected:
            return
        await while_connected(receive, self._answer(raw, client_key(scope), send))

    async def _answer(self, raw: bytes, key: str | None, send: Send) -> None:
        body = await parsed(raw, parse_object)
        model = body.get("model")
        if model is None:
            raise missing("model")
        if not isinstance(model, str):
            raise invalid_type("model", "a string", model)
        if len(model) > MAX_NAME:
            raise ModelNotFound(echo(model))
        able = (place for place in self._places(model) if place[0].name in self._relays)
        backend, there = next(able, (None, model))
        if backend is None:
            raise InvalidRequestError(
                f"The model '{echo(model)}' is not available at /v1{self._path}: its backend "
                "speaks another protocol. Use /v1/responses.",
                param="model",
                code="unsupported_value",
            )
        relay = self._relays[backend.name]
        sent = await parsed(raw, lambda _: orjson.dumps({**body, "model": there}))
        asked = Relayed(sent, model, key, bool(body.get("stream")), frozenset(body))
        async with aclosing(relay.relay(self._path, asked)) as answer:
            media_type = await anext(answer)
            headers = [
                (b"content-type", media_type),
                (b"x-antiphon-backend", backend.name.encode("ascii", "replace")),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            try:
                async for piece in answer:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except APIError as error:
                if media_type != b"text/event-stream":
                    raise  # the connection is cut: half an answer is none
                said = b"data: " + orjson.dumps(error.body()) + b"\n\n"
                await send({"type": "http.response.body", "body": said, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
