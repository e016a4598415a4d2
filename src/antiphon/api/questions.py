"""Questions about a context: a body goes in, a computed answer comes out, nothing is stored."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar

import orjson
from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator
from antiphon.api.body import ClientDisconnected, parsed, read_body
from antiphon.api.shown import Headers, send_json
from antiphon.api.streams import while_connected

_Asked = TypeVar("_Asked")
#: The body of an answer, and the headers that it brings.
Answer: TypeAlias = tuple[dict[str, Any], Headers]


class Question(Generic[_Asked]):
    """A plain ASGI application. A client that leaves stops the work (R-54)."""

    def __init__(
        self,
        auth: Authenticator,
        max_body_bytes: int,
        parse: Callable[[bytes], _Asked],
        answer: Callable[[_Asked, str], Awaitable[Answer]],
    ) -> None:
        """`answer` is given what `parse` made of the body, and the project that asks."""
        self._auth = auth
        self._max_body_bytes = max_body_bytes
        self._parse = parse
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `APIError` before the first byte."""
        project = await self._auth.project(scope)
        try:
            raw = await read_body(scope, receive, limit=self._max_body_bytes)
        except ClientDisconnected:
            return
        asked = await parsed(raw, self._parse)
        await while_connected(receive, self._send(asked, project, send))

    async def _send(self, asked: _Asked, project: str, send: Send) -> None:
        body, headers = await self._answer(asked, project)
        await send_json(send, orjson.dumps(body), headers)
