"""The port to hosted tools: what the server runs itself when a model asks for it (decision 0007).

Rules
1. A `Tool` is one kind of hosted tool, for the whole server. `open` makes of one tool of a request
   an `OpenTool`, which belongs to one run.
2. A model sees functions only: those of `OpenTool.functions`. Which names they have for the model,
   and which calls may run, is the engine's question.
3. `run` ends with an `Outcome`. What goes wrong is a `ToolFailed`, or any other `APIError`: the
   item fails, the model is told why, and the response goes on.
4. The engine limits the time of a call, and cancels its task: that stops the work (R-58). A
   function may say that it takes longer than others (`HostedFunction.timeout`).
5. `repeatable`: it only reads, or has no effect outside. What was under way when a process died is
   run again if it is, and fails if it is not (reliability, decision a).
6. What comes back is somebody else's text. It stands in the item or in `Outcome.told`, bounded by
   `Scope.most_text`, and is marked as such where the model reads it (R-123).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import orjson

from antiphon.errors import ToolFailed
from antiphon.protocol.image_usage import UNKNOWN, ImageUsage
from antiphon.protocol.items.base import Item
from antiphon.protocol.sources import Sources

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom and for what an `OpenTool` works."""

    project: str
    #: `include` of the request (spec §1).
    include: frozenset[str] = frozenset()
    #: Characters of text that one call may bring.
    most_text: int = 256 * 1024
    #: What the model may cite: a tool gives each of its sources a number here.
    sources: Sources = field(default_factory=Sources)
    #: What the call belongs to, where it is stored; else None.
    response_id: str | None = None
    conversation_id: str | None = None
    #: The input as the request names it, where it names items of the history: in the context these
    #: are at their old places, and only there.
    named: list[Item] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HostedFunction:
    """One function that a model sees of a hosted tool; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: Json
    repeatable: bool = True
    #: The user must say yes to each call (MCP).
    needs_approval: bool = False
    #: The argument that is shown while the model writes it: the item's type has an event for it.
    #: The item is then announced before the call is whole, with what `OpenTool.begin` says of a
    #: call without arguments.
    streamed: str | None = None
    #: What an approval is bound to, besides the call itself: where it goes and how the function was
    #: described (R-125).
    fingerprint: str = ""
    #: Seconds of one call; None: as the settings have it.
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is to be run. `function` is the name of a `HostedFunction`, `arguments` the JSON
    that the model wrote."""

    function: str
    arguments: str
    #: The id of the request that the user has approved.
    approval_request_id: str | None = None

    def read(self) -> Json:
        """The arguments. Raises `ToolFailed` when they are no JSON object."""
        try:
            arguments = orjson.loads(self.arguments or b"{}")
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise ToolFailed("The arguments are not a JSON object.")
        return arguments


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `fields` are those of the finished item; `told`: what the model is told, as
    text or as ``input_text`` and ``input_image`` parts, where that is more than the item says;
    `image_usage`: tokens of an image server."""

    fields: Json
    status: Literal["completed", "failed"] = "completed"
    told: str | list[Json] | None = None
    image_usage: ImageUsage = UNKNOWN


class CallItem(Protocol):
    """The item of a call, announced; ``….in_progress`` was said. Who calls `run` ends it."""

    @property
    def fresh(self) -> bool:
        """False: another process announced it and died, and may have said some of its events."""
        ...

    def emit(self, event: str, fields: Json | None = None) -> None:
        """An event of the item between the first and the last, without ``response.``:
        ``web_search_call.searching``. `item_id` and `output_index` are added; `delta` is padded."""
        ...


class OwnItem(CallItem, Protocol):
    """An item that a tool makes for itself, before any call (``mcp_list_tools``)."""

    def close(self, status: Literal["completed", "failed"], fields: Json) -> None:
        """The last event and ``output_item.done``, with these fields more."""
        ...


class Stage(Protocol):
    """The run, for a tool that gets ready for it."""

    @property
    def items(self) -> Sequence[Item]:
        """The context: history, input, and the output so far."""
        ...

    @property
    def output(self) -> Sequence[Item]:
        """The output so far alone: what this response has said, and nobody else."""
        ...

    def begin(self, item_type: str, fields: Json) -> OwnItem:
        """Announce an item; its ``….in_progress`` is said."""
        ...


class OpenTool(Protocol):
    """A tool of a request, for one run."""

    #: The type of the items of its calls.
    item_type: str

    async def prepare(self, stage: Stage) -> None:
        """Before the first turn, once for each run and for each process that goes on with it: find
        out what there is. Raises `APIError`, which fails the response."""
        ...

    @property
    def functions(self) -> Sequence[HostedFunction]:
        """What the model sees, in the order of importance; known after `prepare`, and before it as
        far as nobody need be asked."""
        ...

    def begin(self, call: Call) -> Json:
        """The item's own fields at its announcement."""
        ...

    def failed(self, call: Call, reason: str) -> Outcome:
        """How the item of a call ends that could not be run, or did not end by itself."""
        ...

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """Run one call. Several may run at once."""
        ...

    def close(self) -> None:
        """The run is over: let go of everything. What takes time happens later."""
        ...


class Tool(Protocol):
    """One kind of hosted tool."""

    async def check(self, tool: Json, path: str, project: str) -> list[str]:
        """Raise `APIError` for what cannot be honoured of a request's tool that stands at `path`
        (``tools[2]``); what it names is looked up for the caller's `project` (R-30). Returns the
        keys of it that have no effect."""
        ...

    def open(self, tool: Json, scope: Scope) -> OpenTool:
        """For one run; nobody is asked anything yet."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...
