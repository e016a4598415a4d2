"""The tools of a request as the model sees them: functions, whatever they are (decision 0007).

Rules
1. An `Entry` is one function of the model. Who answers a call of it: the client (as the function or
   custom tool that it is), the client with an item of its own (`Whole`), this server (`Hosted`,
   `Search`), or nobody, since the model's server does it (`Theirs`).
2. What is deferred is not described before a ``tool_search_output`` has it, if there is a tool that
   can search (spec §1.2). What such items and ``additional_tools`` bring are tools like the others.
3. A forced choice holds for the first turn, for then the model is to answer; `allowed_tools` holds
   for all turns.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from antiphon.backends.base import Prompt
from antiphon.engine.naming import Names
from antiphon.engine.tool_search import Deferred, describe_search
from antiphon.errors import InvalidRequestError
from antiphon.protocol.client_tools import CLIENT_TOOLS
from antiphon.protocol.items.base import Item, changed
from antiphon.protocol.loaded_tools import loaded
from antiphon.protocol.machine_options import AllBut, MachineOptions
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.streamed_calls import Streamed
from antiphon.protocol.tools import CHOICE_TYPES
from antiphon.tools.base import Call, HostedFunction, OpenTool

Json: TypeAlias = dict[str, Any]
#: Type, and name or label, of a tool.
_Key: TypeAlias = tuple[str, str | None]

#: Items that bring tools.
TOOL_ITEMS: Final = ("additional_tools", "tool_search_output")
#: Keys of a tool that a backend may have no place for.
_HINTS: Final = ("allowed_callers", "async", "output_schema")


@dataclass(frozen=True, slots=True)
class Hosted:
    """This server runs it."""

    tool: OpenTool
    function: HostedFunction


@dataclass(frozen=True, slots=True)
class Whole:
    """The client runs it; a call is shown when it is whole and right."""

    tool: Json


@dataclass(frozen=True, slots=True)
class Search:
    """This server finds deferred tools."""


@dataclass(frozen=True, slots=True)
class Theirs:
    """The model's own server runs it: the tool goes there as it is, and is no function."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One function of the model. `owner`: the tool that it comes from; `described`: the function or
    custom tool as a backend gets it; `known`: its name and namespace for the client."""

    name: str
    owner: Json
    described: Json
    target: Hosted | Whole | Search | Theirs | None = None
    known: tuple[str, str | None] = ("", None)


@dataclass(slots=True)
class Toolbox:
    """The tools of one run."""

    request: CreateResponse
    #: Place in the request's `tools` → the hosted tool that was opened for it.
    opened: Mapping[int, OpenTool] = field(default_factory=dict)
    #: Types of tools that the model's own server runs.
    theirs: frozenset[str] = frozenset()
    #: By name.
    entries: dict[str, Entry] = field(default_factory=dict)
    deferred: list[Deferred] = field(default_factory=list)
    #: Whether all that can be chosen is known.
    _listed: bool = False
    #: What was made for a turn, until the tools change: (first, hosted) → the request.
    _seen: dict[tuple[bool, bool], CreateResponse] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.request.tools:
            self._arrange([], set())

    # -- what there is -----------------------------------------------------------------------

    def refresh(self, items: Sequence[Item], *, listed: bool = False) -> None:
        """Look again at what hosted tools offer, and at what `items`, the context, bring. `listed`:
        all of them have said what they offer."""
        self._listed = listed or not self.opened
        brought, found = _brought(items)
        if found or self.opened:
            self._arrange(brought, found)

    def _arrange(self, brought: Sequence[Json], found: Set[_Key]) -> None:
        tools = list(enumerate(self.request.tools or ()))
        can_search = any(tool["type"] == "tool_search" for _, tool in tools)
        self.deferred = [
            Deferred(tool, self._functions(place))
            for place, tool in tools
            if can_search and is_deferred(tool) and key_of(tool) not in found
        ]
        hidden = {id(one.tool) for one in self.deferred}
        known = {key_of(tool) for _, tool in tools}
        tools += [(-1, tool) for tool in brought if key_of(tool) not in known]
        # What is still hidden has its names already: no name changes when it is found.
        own = [tool["name"] for _, tool in tools if tool["type"] in ("function", "custom")]
        names = Names(own, (name for place, tool in tools for name in self._wanted(place, tool)))
        self.entries = {
            entry.name: entry
            for place, tool in tools
            for entry in list(self._entries(place, tool, names))
            if id(tool) not in hidden
        }
        self._seen.clear()

    def _wanted(self, place: int, tool: Json) -> list[str]:
        """What the functions of a tool would like to be called, but for the client's own."""
        inner = [inner["name"] for inner in tool.get("tools") or ()]
        return inner + [function.name for function in self._functions(place)]

    def _functions(self, place: int) -> Sequence[HostedFunction]:
        return self.opened[place].functions if place in self.opened else ()

    def _entries(self, place: int, tool: Json, names: Names) -> Iterator[Entry]:
        type_ = tool["type"]
        if type_ in ("function", "custom"):
            yield _client_entry(tool, tool["name"], (tool["name"], None), tool)
        elif type_ == "namespace":
            for inner in tool["tools"]:
                name = names.give(tool["name"], inner["name"])
                described = {**inner, "description": _in_namespace(tool, inner)}
                yield _client_entry(tool, name, (inner["name"], tool["name"]), described)
        elif type_ in self.theirs:
            yield Entry(names.give("hosted", type_), tool, tool, Theirs())
        elif place in self.opened:
            opened = self.opened[place]
            for function in opened.functions:
                owner = tool.get("server_label") or type_
                name = names.give(owner, function.name)
                yield Entry(name, tool, _described(name, function), Hosted(opened, function))
        elif type_ == "tool_search" and tool.get("execution") != "client":
            name = names.give("tools", "tool_search")
            yield Entry(name, tool, describe_search(name, self.deferred), Search())
        elif type_ in CLIENT_TOOLS:
            described = CLIENT_TOOLS[type_].describe(tool)
            name = names.give("client", described["name"])
            yield Entry(name, tool, {**described, "name": name}, Whole(tool))

    def approved(self, label: str, name: str) -> Entry | None:
        """The function `name` of the MCP server `label`."""
        for entry in self.entries.values():
            match entry.target:
                case Hosted(_, function) if function.name == name:
                    if entry.owner.get("server_label") == label:
                        return entry
        return None

    # -- what the model and the machine get --------------------------------------------------

    def seen_request(self, *, first: bool, hosted: bool = True) -> CreateResponse:
        """The request of one turn: `first`: a forced choice still holds; without `hosted` the model
        has to do with what the client runs. The same object as long as nothing changes."""
        if not (self.request.tools or self.entries):
            return self.request
        seen = self._seen.get((first, hosted))
        if seen is None:
            seen = self._seen[first, hosted] = self._made_request(first=first, hosted=hosted)
        return seen

    def _made_request(self, *, first: bool, hosted: bool) -> CreateResponse:
        entries = [
            entry
            for entry in self.entries.values()
            if hosted or not isinstance(entry.target, Hosted | Search | Theirs)
        ]
        return self.request.model_copy(
            update={
                "tools": [entry.described for entry in entries] or None,
                "tool_choice": self._choice(entries, first=first) if entries else None,
            }
        )

    def checked_request(self) -> CreateResponse:
        """The request for `Backend.check`: one function for each tool, at its place."""
        if not self.request.tools:
            return self.request
        return self.request.model_copy(
            update={"tools": [self._plain(tool) for tool in self.request.tools]}
        )

    def options(self, options: MachineOptions) -> MachineOptions:
        """The same options, with what the machine has to know of the functions."""
        if not (self.entries or self.opened or self.request.tool_choice):
            return options
        entries = self.entries.values()
        held = frozenset(entry.name for entry in entries if entry.target is not None)
        return replace(
            options,
            allowed_tools=self._allowed(),
            # Nobody can run what is not there: the model is told where it is asked again anyway.
            held=AllBut(self.entries.keys() - held) if self.opened else held,
            streamed=dict(_streamed(entries)),
            shown={
                entry.name: entry.known
                for entry in entries
                if entry.target is None and entry.known != (entry.name, None)
            },
        )

    def renamed(self, prompt: Prompt) -> Prompt:
        """The prompt with calls in its items under the names that the model knows now."""
        names = {
            key: entry.name
            for entry in self.entries.values()
            for key in [_call_key(entry)]
            if key is not None and key[2] != entry.name
        }
        if not names:
            return prompt
        items = [
            changed(item, name=names[key]) if (key := _key_of_call(item)) in names else item
            for item in prompt.items
        ]
        return replace(prompt, items=items)

    def _plain(self, tool: Json) -> Json:
        if tool["type"] in self.theirs:
            return tool
        if tool["type"] in ("function", "custom"):
            honoured = any(other["type"] == "tool_search" for other in self.request.tools or ())
            return {**tool, "defer_loading": None} if honoured else tool
        nested = [tool, *(tool.get("tools") or ())]
        hints = {key: one[key] for one in nested for key in _HINTS if one.get(key)}
        return {"type": "function", "name": tool["type"], **hints}

    def _allowed(self) -> frozenset[str] | None:
        choice = self.request.tool_choice
        if choice == "none":
            return frozenset()
        if isinstance(choice, dict) and choice["type"] == "allowed_tools":
            return frozenset(
                entry.name for wanted in choice["tools"] for entry in self._meant(wanted)
            )
        return None

    def _meant(self, wanted: Json) -> list[Entry]:
        """The functions that a tool choice means, the main one first. A name means tools of
        namespaces only where no other tool has it."""
        meant = [entry for entry in self.entries.values() if _means(wanted, entry)]
        named = wanted["type"] in ("function", "custom") and wanted.get("name") is not None
        own = [entry for entry in meant if entry.known[1] is None] if named else []
        return own or meant

    def _choice(self, entries: Sequence[Entry], *, first: bool) -> Any:
        choice = self.request.tool_choice
        if isinstance(choice, str) or choice is None:
            return choice if first or choice != "required" else "auto"
        if choice["type"] != "allowed_tools":
            return self._forced(choice) if first else "auto"
        meant = {entry.name for wanted in choice["tools"] for entry in self._meant(wanted)}
        tools = [_chosen(entry) for entry in entries if entry.name in meant]
        if not tools:
            return "none"
        mode = choice["mode"] if first else "auto"
        return {"type": "allowed_tools", "mode": mode, "tools": tools}

    def _forced(self, choice: Json) -> Any:
        meant = self._meant(choice)
        if not meant and choice["type"] == "mcp" and not self._listed:
            return "required"  # the request is only planned yet
        if not meant:
            wanted = choice.get("name") or choice.get("server_label") or choice["type"]
            raise InvalidRequestError(
                f"Tool choice '{wanted}' not found in 'tools' parameter.", param="tool_choice"
            )
        if choice["type"] == "mcp" and len(meant) > 1:
            tools = [_chosen(entry) for entry in meant]
            return {"type": "allowed_tools", "mode": "required", "tools": tools}
        return _chosen(meant[0])


def key_of(tool: Json) -> _Key:
    """What tells one tool from another."""
    return tool["type"], tool.get("server_label" if tool["type"] == "mcp" else "name")


def is_deferred(tool: Json) -> bool:
    """Whether the model shall look for it first: it says so, or all tools of its namespace do."""
    if tool["type"] == "namespace":
        return all(inner.get("defer_loading") for inner in tool["tools"])
    return bool(tool.get("defer_loading"))


def _brought(items: Iterable[Item]) -> tuple[Sequence[Json], Set[_Key]]:
    """The client's tools in the items of a context, a later one in the place of an earlier one, and
    the keys of all that is in them. What was wrong with those of this request was said before."""
    brought: dict[_Key, Json] = {}
    found: set[_Key] = set()
    for item in items:
        if item["type"] in TOOL_ITEMS:
            try:
                tools, others = loaded(item, "input")
            except InvalidRequestError:
                continue
            brought |= {key_of(tool): tool for tool in tools}
            found |= {key_of(tool) for tool in [*tools, *others]}
    return list(brought.values()), found


def _streamed(entries: Iterable[Entry]) -> Iterator[tuple[str, Streamed]]:
    for entry in entries:
        match entry.target:
            case Hosted(tool, HostedFunction(name=name, streamed=str(argument))):
                yield entry.name, Streamed(tool.item_type, tool.begin(Call(name, "")), argument)


def _client_entry(owner: Json, name: str, known: tuple[str, str | None], tool: Json) -> Entry:
    grammar = (tool.get("format") or {}).get("type") == "grammar"
    target = Whole({**tool, "name": known[0]}) if grammar else None
    described = tool if tool["name"] == name else {**tool, "name": name}
    return Entry(name, owner, described, target, known)


def _in_namespace(namespace: Json, inner: Json) -> str:
    lead = f"[{namespace['name']}: {namespace['description'][:_MOST_LEAD]}]"
    return f"{lead} {inner.get('description') or ''}".strip()


#: Characters of a namespace's description that stand before that of each of its tools.
_MOST_LEAD: Final = 300


def _described(name: str, function: HostedFunction) -> Json:
    return {
        "type": "function",
        "name": name,
        "description": function.description,
        "parameters": function.parameters,
    }


def _chosen(entry: Entry) -> Json:
    if isinstance(entry.target, Theirs):
        return {"type": entry.described["type"]}
    return {"type": entry.described["type"], "name": entry.name}


def _means(wanted: Json, entry: Entry) -> bool:
    type_, owner = wanted["type"], entry.owner
    if type_ in CHOICE_TYPES:
        return owner["type"] in CHOICE_TYPES[type_]
    if type_ == "mcp":
        if owner["type"] != "mcp" or wanted.get("server_label") != owner.get("server_label"):
            return False
        name = entry.target.function.name if isinstance(entry.target, Hosted) else None
        return wanted.get("name") in (None, name)
    if type_ == "namespace":
        return owner["type"] == "namespace" and wanted.get("name") in (None, owner["name"])
    if entry.known[1] is not None or owner["type"] in ("function", "custom"):
        return entry.described["type"] == type_ and wanted.get("name") in (None, entry.known[0])
    return bool(owner["type"] == type_)


#: Type of the item, its server or namespace, its name.
_CallKey: TypeAlias = tuple[str, str | None, str]


def _call_key(entry: Entry) -> _CallKey | None:
    """How calls of it are told in items."""
    if isinstance(entry.target, Hosted):
        label = entry.owner.get("server_label")
        return None if label is None else ("mcp_call", label, entry.target.function.name)
    name, namespace = entry.known
    if namespace is None:
        return None
    kind = "custom_tool_call" if entry.described["type"] == "custom" else "function_call"
    return kind, namespace, name


def _key_of_call(item: Item) -> _CallKey | None:
    match item["type"]:
        case "mcp_call":
            return "mcp_call", item["server_label"], item["name"]
        case "function_call" | "custom_tool_call" if isinstance(item.get("server_label"), str):
            return "mcp_call", item["server_label"], item["name"]
        case "function_call" | "custom_tool_call" if item.get("namespace"):
            return item["type"], item["namespace"], item["name"]
    return None
