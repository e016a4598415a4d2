"""One session with an MCP server, by the official SDK (the extra `mcp`).

Rules
1. A session lives in a task of its own: what the SDK opens must be closed by the task that opened
   it. Who asks does so from its own task, several at once.
2. A call that is cancelled tells the server so and leaves the session to the others (reliability
   R-34, R-58).
3. Protocol versions with a handshake are tried first, those without when the server has none.
4. Questions of the server (sampling, elicitation, roots) are declined, its messages ignored. One
   that asks without end is left: each answer is work, and may be a socket (R-90).
5. Listings are cleaned before the SDK looks at them: one bad tool must not spoil the others, and no
   schema for outputs is kept, which would make the SDK list again and run foreign patterns. What a
   tool answered goes past the SDK: its models would hold everybody up for a second (R-118), and
   `results.py` takes nothing for granted.
6. Whatever goes wrong is a `Fault`. The SDK logs nothing: it would log URLs, headers and bodies
   (R-91).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import mcp_types as types
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from mcp.client import ClientSession, Transport
from mcp.shared.dispatcher import (
    CallOptions,
    DispatchContext,
    OnNotify,
    OnNotifyIntercept,
    OnRequest,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.transport_context import TransportContext
from pydantic import ValidationError

from antiphon import __version__
from antiphon.tools.mcp.definitions import is_objects
from antiphon.tools.mcp.exchange import EXCHANGE, MOST_LISTENED, Exchange
from antiphon.tools.mcp.faults import (
    BadStatus,
    Fault,
    Lost,
    NotMcp,
    Refusal,
    TooLarge,
    TooMuch,
    Unreached,
)
from antiphon.tools.mcp.opened import Spawn

#: A ``CallToolResult`` as it came; nothing of it is checked but that there is something.
Answer: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

#: Seconds for a session to end by itself: a program gets 2.5 s to go, and 4 s to be killed.
_LEAVE_TIMEOUT: Final = 8.0
#: Questions that a server may ask, and how many more with each second that a session lasts.
_MOST_QUESTIONS: Final = 100
_QUESTIONS_PER_SECOND: Final = 1
#: Tools and pages that a server may list; what a model is shown is less.
_MOST_LISTED: Final = 2_000
_MOST_PAGES: Final = 100

#: The server has no handshake, or none of a version that we know.
_NO_HANDSHAKE: Final = (types.METHOD_NOT_FOUND, types.UNSUPPORTED_PROTOCOL_VERSION)
#: What the SDK answers itself where the whole connection has ended, or that of one request.
_CLOSED: Final = (types.CONNECTION_CLOSED, "Connection closed")
_ENDED: Final = ("Connection closed", "SSE stream")
_TOO_LARGE: Final = "SSE stream failed"
_WHO: Final = types.Implementation(name="antiphon", version=__version__)
#: What the SDK sees of the answer of a tool.
_DONE: Final = MappingProxyType({"content": [], "resultType": "complete"})

# What the SDK and its HTTP client log has URLs, headers and bodies in it.
for _name in ("mcp", "client", "httpx2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class Listed(NamedTuple):
    """A tool as the server describes it; nothing of it is checked."""

    name: str
    description: str | None
    input_schema: dict[str, Any]
    read_only: bool


class Session:
    """One session; `transport` opens the way to the server."""

    def __init__(
        self,
        transport: Callable[[], Transport],
        spawn: Spawn,
    ) -> None:
        self._client: ClientSession | None = None
        self._fault: Fault | None = None
        self._hello = Exchange(status_first=True)
        self._greeted = asyncio.Event()
        self._stop = asyncio.Event()
        self._asking = 0
        self._retired = False
        self.task = spawn(self._live(transport))

    @property
    def is_open(self) -> bool:
        """Whether it can be asked something."""
        greeted = self._greeted.is_set() and self._fault is None
        return greeted and not self._retired and not self._stop.is_set()

    async def opened(self) -> Fault | None:
        """Wait for the handshake. Returns why it failed."""
        greeted = asyncio.ensure_future(self._greeted.wait())
        try:
            await asyncio.wait({self.task, greeted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            greeted.cancel()
        if self._greeted.is_set():
            return self._fault
        error = None if self.task.cancelled() else self.task.exception()
        if isinstance(error, OSError):
            return Unreached(type(error).__name__)  # a program that cannot be started
        return self._hello.fault or NotMcp()

    async def tools(self) -> list[Listed]:
        """All tools, page by page. Raises `Fault`; the time is limited by who asks."""
        found: list[Listed] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page, cursor = await self._page(cursor)
            found += page
            if not cursor or len(found) > _MOST_LISTED:
                break
        if cursor or len(found) > _MOST_LISTED:
            raise TooMuch
        return found

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Call a tool. Raises `Fault`; the time is limited by who asks."""
        params = types.CallToolRequestParams(name=name, arguments=dict(arguments))
        request = types.CallToolRequest(params=params)
        exchange = Exchange()
        await self._ask(lambda client: client.send_request(request, types.EmptyResult), exchange)
        answer = exchange.answer or {}
        if answer.get("resultType") == "input_required":
            raise Fault("The tool asks for something that it cannot be given here.")
        if not isinstance(answer.get("content", answer.get("structuredContent")), list | dict):
            raise NotMcp
        return answer

    def retire(self) -> None:
        """Ask nothing any more; end with the last answer that is waited for."""
        self._retired = True
        if not self._asking:
            self.close()

    def close(self) -> None:
        """End it; that happens in its task."""
        if self._greeted.is_set():
            asyncio.get_running_loop().call_later(_LEAVE_TIMEOUT, self.task.cancel)
        else:
            self.task.cancel()
        self._stop.set()

    async def _live(self, transport: Callable[[], Transport]) -> None:
        EXCHANGE.set(self._hello)
        async with transport() as (read, write):
            dispatcher = _Dispatcher(read, write, self._stop.set)
            async with ClientSession(dispatcher=dispatcher, client_info=_WHO) as client:
                self._client = client
                try:
                    await self._ask(self._greet, self._hello)
                    self._hello.most = MOST_LISTENED  # the server's own messages go on with it
                except Fault as fault:
                    self._fault = fault
                    return
                finally:
                    self._greeted.set()
                await self._stop.wait()

    async def _greet(self, client: ClientSession) -> None:
        try:
            await client.initialize()
        except MCPError as error:
            said_so = self._hello.fault is None or self._hello.explained
            if error.code not in _NO_HANDSHAKE or not said_so:
                raise
            await client.discover()

    async def _page(self, cursor: str | None) -> tuple[list[Listed], str | None]:
        params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
        exchange = Exchange(status_first=True)
        result = await self._ask(lambda client: client.list_tools(params=params), exchange)
        page = [
            Listed(tool.name, tool.description, tool.input_schema, _reads_only(tool))
            for tool in result.tools
        ]
        return page, result.next_cursor

    async def _ask(
        self, question: Callable[[ClientSession], Coroutine[Any, Any, _T]], exchange: Exchange
    ) -> _T:
        """The answer. Raises `Fault`, outside of `except`: see `faults.py`."""
        if self._client is None:
            raise Lost
        fault: Fault | None = None
        token = EXCHANGE.set(exchange)
        self._asking += 1
        try:
            with exchange.scope:
                return await question(self._client)
        except MCPError as error:
            fault = _fault(exchange, error.code, error.message)
            if (error.code, error.message) == _CLOSED:
                self._stop.set()
                if isinstance(self._hello.fault, TooLarge):
                    fault = self._hello.fault  # it came on the way that all share
        except (ValidationError, RuntimeError):
            fault = NotMcp()
        finally:
            EXCHANGE.reset(token)
            self._asking -= 1
            if self._retired and not self._asking:
                self.close()
        raise fault or exchange.fault or Lost()


def _reads_only(tool: types.Tool) -> bool:
    return tool.annotations is not None and tool.annotations.read_only_hint is True


def _fault(exchange: Exchange, code: int, message: str) -> Fault:
    """What an error of the SDK is: one of the server, or one that the SDK made up."""
    found = exchange.fault
    explained = exchange.explained and isinstance(found, BadStatus)
    if found is not None and (exchange.status_first or not explained):
        return found
    if code == types.CONNECTION_CLOSED and message.startswith(_ENDED):
        return TooLarge() if message.startswith(_TOO_LARGE) else Lost()
    if code == types.PARSE_ERROR:
        return NotMcp()
    return Refusal(code, message)


class _Dispatcher(JSONRPCDispatcher[TransportContext]):
    """Takes what the SDK need not look at (rule 5), says when the connection has ended, and ends it
    when the server asks too much."""

    def __init__(self, read: Any, write: Any, ended: Callable[[], None]) -> None:
        super().__init__(read, write)
        self._ended = ended
        self._began = time.monotonic()
        self._questions = 0

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: types.RequestId | None = None,
    ) -> dict[str, Any]:
        result = await super().send_raw_request(
            method, params, opts, _related_request_id=_related_request_id
        )
        listed = result.get("tools")
        if method == "tools/list" and isinstance(listed, list):
            result = {**result, "tools": [tool for entry in listed if (tool := _clean(entry))]}
        if method == "tools/call":
            EXCHANGE.get().answer = result
            result = dict(_DONE)
        return result

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        async def answer(
            context: DispatchContext[TransportContext],
            method: str,
            params: Mapping[str, Any] | None,
        ) -> dict[str, Any]:
            self._count()
            return await on_request(context, method, params)

        try:
            await super().run(answer, on_notify, on_notify_intercept, task_status=task_status)
        finally:
            self._ended()

    def _count(self) -> None:
        self._questions += 1
        more = (time.monotonic() - self._began) * _QUESTIONS_PER_SECOND
        if self._questions > _MOST_QUESTIONS + more:
            self._ended()


def _clean(entry: object) -> dict[str, Any] | None:
    """A listed tool as the SDK takes it; None: it cannot be used."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return None
    schema, hints = entry.get("inputSchema"), entry.get("annotations")
    if not is_objects(schema):
        return None
    tool = {"name": entry["name"], "inputSchema": {"type": "object", **schema}}
    if isinstance(entry.get("description"), str):
        tool["description"] = entry["description"]
    if isinstance(hints, dict):
        tool["annotations"] = {"readOnlyHint": hints.get("readOnlyHint") is True}
    return tool
