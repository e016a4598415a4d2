"""Operations: what a method of a path leads to, and what the description says of it.

Rules
1. The key is checked before the query (R-27), and the query before the endpoint sees anything.
2. A query is as strict as a body, unless an operation looks at none (`query` is None).
3. The endpoint gets the request, the parameters of the path in their order, and the query if it
   has one of its own.
4. Its docstring is its description in ``/docs``.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from antiphon.api.auth import Authenticator
from antiphon.api.query import EveryQuery

Endpoint: TypeAlias = Callable[..., Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """`auth` None: anybody may ask. `path` as Starlette writes it."""

    tag: str
    auth: Authenticator | None
    method: str
    path: str
    endpoint: Endpoint
    query: type[EveryQuery] | None

    @property
    def in_path(self) -> list[str]:
        """The parameters of the path, in their order."""
        return re.findall(r"{(\w+)", self.path)

    def route(self) -> Route:
        """For Starlette."""
        route = Route(self.path, self.answer, methods=[self.method])
        route.methods = {self.method}  # it adds HEAD to GET, which is not in the API
        return route

    async def answer(self, request: Request) -> Response:
        """Leaves the caller's project in ``request.state.project``."""
        if self.auth is not None:
            await self.auth.project(request.scope)
        # By name: where all of this is mounted, a path may have parameters of its own.
        given = [request.path_params[name] for name in self.in_path]
        if self.query is not None:
            query = self.query.read(request.query_params)
            if self.query is not EveryQuery:
                given.append(query)
        return await self.endpoint(request, *given)


class Operations(list[Operation]):
    """Those of one tag, whose paths begin alike."""

    def __init__(self, tag: str, prefix: str = "", auth: Authenticator | None = None) -> None:
        super().__init__()
        self._tag = tag
        self._prefix = prefix
        self._auth = auth

    def add(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        query: type[EveryQuery] | None = EveryQuery,
    ) -> None:
        """`path` below the prefix."""
        path = self._prefix + path
        self.append(Operation(self._tag, self._auth, method, path, endpoint, query))
