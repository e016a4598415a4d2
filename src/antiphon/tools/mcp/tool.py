"""The hosted tool `mcp` behind the port `antiphon.tools.base` (spec §1.2, §4.1, App. B).

Rules
1. Everything that a request can say wrong about a server is refused before anybody is asked.
2. What the operator set of a connector stands: a request adds to it and replaces nothing.
3. The SDK and aiohttp are loaded when the first connection is opened, in a thread: they take more
   than half a second and some 40 MB.
"""

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from antiphon.egress import BadURL, Policy
from antiphon.errors import InvalidRequestError, UnsupportedParameter
from antiphon.tools.base import Scope
from antiphon.tools.mcp.checks import check_authorization, check_headers
from antiphon.tools.mcp.opened import Link, OpenMcp, Spawn
from antiphon.tools.mcp.servers import Local, Remote, Server, Target, credentials

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

Json: TypeAlias = dict[str, Any]

#: Seconds that the end of the server waits for connections to end, and then for what it cancelled.
_END_TIMEOUT: Final = 10.0
_KILL_TIMEOUT: Final = 2.0

Connect: TypeAlias = Callable[[Target, Spawn], Link]


class Mcp:
    """A `Tool`; see `antiphon.tools.base`."""

    def __init__(
        self,
        policy: Policy,
        servers: Mapping[str, Server],
        *,
        resolver: "AbstractResolver | None" = None,
    ) -> None:
        """`policy` judges the URLs of requests; `servers` are those of the configuration, by name:
        `antiphon.tools.mcp.servers.configured`. `resolver` is for tests."""
        self._policy = policy
        self._servers = servers
        self._resolver = resolver
        self._installed = importlib.util.find_spec("mcp") is not None
        self._connect: Connect | None = None
        #: Those with a connection: what was only planned is nobody's to close.
        self._open: set[OpenMcp] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def check(self, tool: Json, path: str, project: str) -> list[str]:  # noqa: ARG002
        """See `Tool.check`."""
        if not self._installed:
            raise InvalidRequestError(
                "MCP servers need the extra 'mcp' of this server: pip install 'antiphon[mcp]'.",
                param=path,
            )
        if tool.get("tunnel_id") is not None:
            raise UnsupportedParameter(
                f"Unsupported parameter: '{path}.tunnel_id' is not supported by this server.",
                param=f"{path}.tunnel_id",
            )
        target = self._whose(tool, path)
        check_authorization(tool.get("authorization") or "", f"{path}.authorization")
        headers = tool.get("headers") or {}
        fixed = set(target.headers) if isinstance(target, Remote) else set()
        if tool.get("authorization"):
            fixed.add("authorization")
        check_headers(headers, f"{path}.headers", fixed)
        ignored = ["allowed_callers"]
        if isinstance(target, Local):
            ignored += ["authorization", "headers"]
        elif "authorization" in target.headers:
            ignored.append("authorization")
        return [key for key in ignored if tool.get(key) is not None]

    def open(self, tool: Json, scope: Scope) -> OpenMcp:
        """See `Tool.open`. Raises `InvalidRequestError`: the configuration may be another one than
        when the request was checked."""
        target = self._whose(tool, "tools")
        if isinstance(target, Remote):
            given = {name.lower(): value for name, value in (tool.get("headers") or {}).items()}
            if tool.get("authorization"):
                given["authorization"] = credentials(tool["authorization"])
            target = Remote(target.url, target.policy, {**given, **target.headers})
        server = self._servers.get(tool.get("connector_id") or "")
        return OpenMcp(self, tool, scope, target, server.description if server else "")

    async def aclose(self) -> None:
        """See `Tool.aclose`."""
        for opened in list(self._open):
            opened.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_TIMEOUT)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_KILL_TIMEOUT)

    async def connect(self, target: Target, opened: OpenMcp) -> Link:
        """A connection of `opened`, which is opened when it is asked something."""
        self._open.add(opened)
        if self._connect is None:
            self._connect = await asyncio.to_thread(_connection, self._resolver)
        return self._connect(target, self._spawn)

    def forget(self, opened: OpenMcp) -> None:
        """It is closed."""
        self._open.discard(opened)

    def _whose(self, tool: Json, path: str) -> Target:
        """The server without what the request adds to it. Raises `InvalidRequestError`."""
        name = tool.get("connector_id")
        if name is not None:
            if name not in self._servers:
                raise InvalidRequestError(
                    f"Invalid '{path}.connector_id': this server has no connector of that name.",
                    param=f"{path}.connector_id",
                    code="invalid_value",
                )
            return self._servers[name].target
        reason = ""
        try:
            return Remote(self._policy.parse(tool.get("server_url") or ""), self._policy)
        except BadURL as error:
            reason = str(error)
        raise InvalidRequestError(
            f"Invalid '{path}.server_url': {reason}.",
            param=f"{path}.server_url",
            code="invalid_value",
        )

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waited has it; unasked for, asyncio would log it, URLs and all


def _connection(resolver: "AbstractResolver | None") -> Connect:
    """The extra `mcp`: `check` has refused the request if it is not there."""
    from antiphon.egress_names import Resolver  # noqa: PLC0415
    from antiphon.tools.mcp.connection import Connection  # noqa: PLC0415

    return partial(Connection, resolver or Resolver())
