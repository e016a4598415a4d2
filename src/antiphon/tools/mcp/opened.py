"""The tool `mcp` of one request, for one run; see `antiphon.tools.base`.

Rules
1. A list of tools that stands in the context is not fetched again, if it was made for this server
   and for the tools that are allowed now, or for all. What `allowed_tools` leaves out is neither in
   a list nor shown to the model.
2. One connection for all calls of a run, opened when it is needed first.
3. Why a list could not be had is said in OpenAI's words, and no more than whether anybody answered
   (reliability R-90, R-94). The rest is for the log: host and reason, never URL or header (R-91).
4. What the server says has none of the secrets that it was sent, before anything else sees it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import structlog

from antiphon.errors import ExternalConnectorError, ToolFailed
from antiphon.protocol.items.base import Item
from antiphon.tools.base import Call, CallItem, HostedFunction, Outcome, Scope, Stage
from antiphon.tools.mcp import results
from antiphon.tools.mcp.definitions import (
    Definition,
    check_amount,
    from_item,
    mark_in,
    mark_of,
    usable,
)
from antiphon.tools.mcp.faults import BadStatus, Fault, Lost, Refusal, TooMuch, Unreached
from antiphon.tools.mcp.filters import is_allowed, needs_approval, plain
from antiphon.tools.mcp.redaction import of_target
from antiphon.tools.mcp.servers import Remote, Target

Json: TypeAlias = dict[str, Any]
#: Starts a task that is waited for when the server ends.
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]

#: Characters of `server_description` before the description of each tool.
_MOST_ABOUT: Final = 1_000

_log = structlog.get_logger(__name__)


class Link(Protocol):
    """A connection: `antiphon.tools.mcp.connection.Connection`."""

    async def tools(self) -> Sequence[tuple[object, object, object, object]]:
        """Name, description, schema and whether it only reads, of each tool. Raises `Fault`."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """A ``CallToolResult`` as JSON. Raises `Fault`."""
        ...

    def close(self) -> None:
        """Let go of everything; it ends in the background."""
        ...


class Host(Protocol):
    """Who opened the tool: `antiphon.tools.mcp.tool.Mcp`."""

    async def connect(self, target: Target, opened: "OpenMcp") -> Link:
        """A connection of `opened`, which is opened when it is asked something."""
        ...

    def forget(self, opened: "OpenMcp") -> None:
        """It is closed."""
        ...


class OpenMcp:
    """An `OpenTool`; see `antiphon.tools.base`."""

    item_type: str = "mcp_call"

    def __init__(self, host: Host, tool: Json, scope: Scope, target: Target, about: str) -> None:
        self.label: str = tool["server_label"]
        self._host = host
        self._tool = tool
        self._scope = scope
        self._target = target
        self._about = " ".join((tool.get("server_description") or about).split())[:_MOST_ABOUT]
        self._redaction = of_target(target)
        self._link: Link | None = None
        self._functions: list[HostedFunction] = []
        self._closed = False

    @property
    def defer_loading(self) -> bool:
        """Whether the model is to look for the tools instead of seeing them."""
        return self._tool.get("defer_loading") is True

    @property
    def functions(self) -> Sequence[HostedFunction]:
        """See `OpenTool.functions`."""
        return self._functions

    async def prepare(self, stage: Stage) -> None:
        """See `OpenTool.prepare`."""
        known = self._known(stage.items)
        if known is not None:
            self._functions = [self._function(definition) for definition in known]
            return
        item = stage.begin("mcp_list_tools", {"server_label": self.label, "tools": []})
        fault: Fault | None = None
        try:
            listed = await (await self._connected()).tools()
            found = self._allowed(usable(map(self._cleaned, listed)))
            check_amount(found)
        except Fault as caught:
            fault = caught
        if fault is not None:
            self._report(fault)
            error = self._cannot_list(fault)
            item.close("failed", {"tools": [], "error": error.message})
            raise error
        mark = mark_of(self._server, plain(self._tool.get("allowed_tools")))
        item.close("completed", {"tools": [definition.listed(mark) for definition in found]})
        self._functions = [self._function(definition) for definition in found]

    def begin(self, call: Call) -> Json:
        """See `OpenTool.begin`; the keys are in OpenAI's order."""
        return {
            "approval_request_id": call.approval_request_id,
            "arguments": "",
            "error": None,
            "name": call.function,
            "output": None,
            "server_label": self.label,
        }

    def failed(self, call: Call, reason: str) -> Outcome:
        """See `OpenTool.failed`."""
        return results.broken(call.arguments, reason)

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """See `OpenTool.run`."""
        if item.fresh:
            item.emit("mcp_call_arguments.delta", {"delta": call.arguments})
            item.emit("mcp_call_arguments.done", {"arguments": call.arguments})
        arguments = call.read()
        try:
            answer = await (await self._connected()).call(call.function, arguments)
        except Fault as fault:
            self._report(fault)
            if isinstance(fault, Refusal):
                fault = Refusal(fault.code, self._redaction.text(fault.message))
            return results.faulty(call.arguments, fault)
        answer = self._redaction.json(answer)
        return results.outcome(call.arguments, answer, self._scope.most_text)

    def close(self) -> None:
        """See `OpenTool.close`."""
        self._closed = True
        self._host.forget(self)
        if self._link is not None:
            self._link.close()

    async def _connected(self) -> Link:
        link = self._link or await self._host.connect(self._target, self)
        if self._link is None:
            self._link = link
        if self._closed:
            raise ToolFailed("The response has ended.")
        return self._link

    def _known(self, items: Sequence[Item]) -> list[Definition] | None:
        """The tools of the newest list in the context that is of use."""
        for item in reversed(items):
            if item["type"] != "mcp_list_tools" or item.get("server_label") != self.label:
                continue
            listed = from_item(item.get("tools"))
            found = self._allowed(listed)
            fits = self._is_for_us(mark_in(item.get("tools")), listed)
            if item.get("error") is None and found and fits and _is_bearable(found):
                return found
        return None

    def _is_for_us(self, mark: str | None, listed: list[Definition]) -> bool:
        """Whether a list is the one that is asked for (rule 1). Of one without a mark nobody knows,
        unless it lacks a tool that is named."""
        allowed = plain(self._tool.get("allowed_tools"))
        if mark is not None:
            return mark in (mark_of(self._server, allowed), mark_of(self._server, None))
        named = (allowed or {}).get("tool_names") or []
        return {definition.name for definition in listed}.issuperset(named)

    @property
    def _server(self) -> str:
        return self._tool.get("server_url") or f"connector {self._tool.get('connector_id')}"

    def _cleaned(
        self, tool: tuple[object, object, object, object]
    ) -> tuple[object, object, object, object]:
        name, description, schema, read_only = tool
        clean = self._redaction.json
        return name, clean(description), clean(schema), read_only

    def _allowed(self, definitions: list[Definition]) -> list[Definition]:
        allowed = self._tool.get("allowed_tools")
        return [d for d in definitions if is_allowed(allowed, d.name, read_only=d.read_only)]

    def _function(self, definition: Definition) -> HostedFunction:
        about = f"[{self._about}] " if self._about else ""
        required = self._tool.get("require_approval")
        return HostedFunction(
            name=definition.name,
            description=about + definition.description,
            parameters=definition.input_schema,
            repeatable=definition.read_only,
            needs_approval=needs_approval(
                required, definition.name, read_only=definition.read_only
            ),
            fingerprint=definition.fingerprint(self._server),
        )

    def _cannot_list(self, fault: Fault) -> ExternalConnectorError:
        reason = Unreached().text if isinstance(fault, Lost) else fault.text
        return ExternalConnectorError(
            f"Error retrieving tool list from MCP server: '{self.label}'. {reason}", param="tools"
        )

    def _report(self, fault: Fault) -> None:
        """For the log: the other side's text stays out of it."""
        where = self._target.url.raw_host if isinstance(self._target, Remote) else "a program"
        why = fault.why if isinstance(fault, Unreached) else ""
        status = fault.status if isinstance(fault, BadStatus) else None
        _log.warning(
            "mcp_server_failed",
            connector=self._tool.get("connector_id") or self.label,
            where=where,
            what=type(fault).__name__,
            why=why,
            status=status,
        )


def _is_bearable(definitions: list[Definition]) -> bool:
    try:
        check_amount(definitions)
    except TooMuch:
        return False
    return True
