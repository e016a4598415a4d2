"""What the simulator says to a prompt, before any pacing or failure. Pure.

Rules
1. Order: reasoning, its summary, then one of: calls, refusal, text.
2. Tools are called when a directive says so, when `tool_choice` forces it, or with ``auto`` when
   the last user message has the words of a tool's name in it ("What is the weather?" calls
   ``get_weather``). Once results stand after that message only force calls again: no loop.
3. The text is, first match wins: `say`, `tokens` words, an instance of `text.format`, what the
   tools returned, the echo of the last user message. It always says that it is a simulator, unless
   it was told what to say.
4. A token is a run of blanks with up to eight characters after it.
5. Of a text above 100,000 characters only both ends are read and echoed (R-118).
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

import orjson

from antiphon.backends.base import Prompt
from antiphon.backends.simulator.directives import read_directives
from antiphon.backends.simulator.pattern import UnsupportedPatternError, example
from antiphon.backends.simulator.schema import instance
from antiphon.backends.simulator.values import NoInstanceError
from antiphon.protocol.deltas import (
    Delta,
    Logprob,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
)
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item, Result
from antiphon.protocol.items.content import seen_of
from antiphon.protocol.items.reading import is_rule, last_user_message
from antiphon.protocol.untrusted import unquoted

Json: TypeAlias = dict[str, Any]

_TOKEN: Final = re.compile(r"\s*\S{1,8}|\s+")
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_FILLER: Final = _TOKEN.findall(" This is the simulator of Antiphon counting words.")
_THOUGHT: Final = _TOKEN.findall(" The simulator pretends to think about it.")
#: Words of a tool's name that say what it does, not what it is about.
_VERBS: Final = frozenset(
    {
        *("a", "add", "call", "check", "create", "do", "execute", "fetch", "find", "get", "list"),
        *("load", "look", "lookup", "make", "query", "read", "run", "search", "send", "set"),
        *("show", "tool", "update", "use"),
    }
)
#: Characters of each end of a long text.
_END: Final = 50_000


class Script:
    """One turn: `deltas` gives one per token."""

    def __init__(self, prompt: Prompt) -> None:
        request = prompt.request
        self._prompt = prompt
        turn = _last_turn(prompt.items)
        self.directives, self._said = read_directives(
            [_shortened("\n".join(_defaults(prompt)))], _shortened(_text_of(turn[:1]))
        )
        self._attachments = sum(len(_other_parts(item)) for item in turn[:1])
        answered = [(item, ITEM_TYPES[item["type"]].as_result) for item in turn]
        self._results = [as_result(item) for item, as_result in answered if as_result is not None]
        self._format = (request.text or {}).get("format") or {}
        self._logprobs = "message.output_text.logprobs" in (request.include or ())

    def deltas(self) -> Iterator[Delta]:
        """All that is said, one delta for each token."""
        directives = self.directives
        if directives.reason is not None:
            yield from map(ReasoningDelta, _words(directives.reason, _THOUGHT))
        if directives.summary is not None:
            yield from map(SummaryDelta, _words(directives.summary, _THOUGHT))
        calls = self._calls()
        if calls:
            for index, (tool, arguments) in enumerate(calls):
                yield from _call(index, tool, arguments)
        elif directives.refuse is not None:
            for token in _TOKEN.findall(directives.refuse):
                yield RefusalDelta(token)
        elif self._logprobs:
            count = self._prompt.request.top_logprobs or 0
            for token in self._tokens():
                yield TextDelta(token, [_logprob(token, count)])
        else:
            yield from map(TextDelta, self._tokens())

    def _tokens(self) -> Iterable[str]:
        if self.directives.say is None and self.directives.tokens is not None:
            return _words(self.directives.tokens, _FILLER)
        return _TOKEN.findall(self._text())

    def _text(self) -> str:
        if self.directives.say is not None:
            return self.directives.say
        make = _FORMATS.get(self._format.get("type", "text"))
        if make is not None:
            return make(self._format)
        if self._results:
            made = [(item, ITEM_TYPES[item["type"]].as_call) for item in self._prompt.items]
            calls = [as_call(item) for item, as_call in made if as_call is not None]
            names = {call.call_id: call.name for call in calls}
            return _shortened(
                "Simulator: "
                + "; ".join(
                    f"{names.get(result.call_id, 'the tool')} returned {_output_of(result)}"
                    for result in self._results
                )
            )
        extra = f" (and {self._attachments} attachments)" if self._attachments else ""
        said = f"you said: {self._said}" if self._said else "you said nothing"
        return f"Simulator: {said}{extra}"

    def _calls(self) -> list[tuple[Json, str | None]]:
        """The tools to call, each with its arguments where a directive gives them."""
        request = self._prompt.request
        tools = {tool["name"]: tool for tool in request.tools or () if tool["type"] in _KINDS}
        choice = request.tool_choice or "auto"
        if choice == "none":
            return []
        usable, forced = _choose(choice, tools)
        directed = [] if self._results else self.directives.calls
        calls = [
            (tools.get(name, {"type": "function", "name": name}), arguments)
            for name, arguments in directed
        ]
        if not calls:
            named = [] if self._results else [tool for tool in usable if self._mentions(tool)]
            first = named[:1] or (usable[:1] if forced else [])
            calls = [(tool, None) for tool in first]
        return calls[:1] if request.parallel_tool_calls is False else calls

    def _mentions(self, tool: Json) -> bool:
        """Whether all telling words of the tool's name are in what the user said."""
        words = {word.lower() for word in _WORD.findall(tool["name"])} - _VERBS
        said = self._said[:_SCANNED].lower()
        return bool(words) and all(re.search(rf"\b{word}s?\b", said) for word in words)


#: Characters of the user's message that are searched for tool names.
_SCANNED: Final = 10_000


def _choose(choice: Any, tools: dict[str, Json]) -> tuple[list[Json], bool]:
    """The tools that `tool_choice` leaves, and whether one must be called."""
    if isinstance(choice, str):
        return list(tools.values()), choice == "required"
    if choice["type"] == "allowed_tools":
        named = [tools[one["name"]] for one in choice["tools"] if one.get("name") in tools]
        return named, choice["mode"] == "required"
    return [tools[choice["name"]]] if choice.get("name") in tools else [], True


def _call(index: int, tool: Json, arguments: str | None) -> Iterator[Delta]:
    kind = _KINDS[tool["type"]]
    if arguments is None:
        arguments = _ARGUMENTS[kind](tool)
    tokens = _TOKEN.findall(arguments) or [""]
    yield ToolCallDelta(index, tokens[0], name=tool["name"], kind=kind)
    for token in tokens[1:]:
        yield ToolCallDelta(index, token, kind=kind)


def _json_of(schema: Any) -> str:
    try:
        return orjson.dumps(instance(schema)).decode()
    except (NoInstanceError, orjson.JSONEncodeError):
        return '{"simulator": "found no instance of this schema"}'


def _free_text(name: str, form: Json) -> str:
    """The input of a custom tool; of a regular expression, what it matches."""
    if form.get("syntax") == "regex":
        try:
            return example(form["definition"])
        except UnsupportedPatternError:
            pass
    return f"Simulated input for {name}"


_Kind: TypeAlias = Literal["function", "custom"]
_KINDS: Final[dict[str, _Kind]] = {"function": "function", "custom": "custom"}
_ARGUMENTS: Final[dict[str, Callable[[Json], str]]] = {
    "function": lambda tool: _json_of(tool["parameters"]) if tool.get("parameters") else "{}",
    "custom": lambda tool: _free_text(tool["name"], tool.get("format") or {}),
}
#: `text.format` → the answer.
_FORMATS: Final[dict[str, Callable[[Json], str]]] = {
    "json_schema": lambda form: _json_of(form["schema"]),
    "json_object": lambda _: '{"simulator": true, "message": "This is a simulated JSON object."}',
}


def _words(what: str | int, filler: list[str]) -> Iterable[str]:
    if isinstance(what, str):
        return _TOKEN.findall(what)
    first = [filler[0].lstrip()] if what else []
    return itertools.chain(first, itertools.islice(itertools.cycle(filler), 1, what or 1))


def _logprob(token: str, count: int) -> Logprob:
    """Made up: the token itself is nearly certain, each alternative less likely than the last."""
    top = [_alternative(token if rank == 0 else f"{token}{rank}", rank) for rank in range(count)]
    return {**_alternative(token, 0), "top_logprobs": top}


def _alternative(token: str, rank: int) -> Logprob:
    return {"token": token, "bytes": list(token.encode()), "logprob": -0.01 - rank}


# -- reading the prompt --------------------------------------------------------------------------


def _last_turn(items: list[Item]) -> list[Item]:
    """The last user message and all after it; from the start when there is none."""
    last = last_user_message(items)
    if last is None:
        return [{"type": "message", "role": "user", "content": []}, *items]
    return items[last:]


def _defaults(prompt: Prompt) -> Iterator[str]:
    if prompt.request.instructions:
        yield prompt.request.instructions
    for item in prompt.items:
        if is_rule(item):
            yield _text_of([item])


def _parts(item: Item) -> list[Any]:
    """What a message, a thought or a tool's output holds, as a list of parts."""
    as_result = ITEM_TYPES[item["type"]].as_result
    if as_result is not None:
        return _listed(as_result(item).output)
    return _listed(item.get("content") or []) if item["type"] in ("message", "reasoning") else []


def _listed(held: str | list[Any]) -> list[Any]:
    if isinstance(held, str):
        return [{"type": "input_text", "text": held}]
    return [seen_of(part) for part in held]


def _other_parts(item: Item) -> list[Any]:
    return [part for part in _parts(item) if "text" not in part]


def _output_of(result: Result) -> str:
    """What a tool returned, without the marks of what is untrusted."""
    return unquoted(_texts(_listed(result.output)))


def _text_of(items: list[Item]) -> str:
    return _texts([part for item in items for part in _parts(item)])


def _texts(parts: list[Any]) -> str:
    return "\n".join(part["text"] for part in parts if "text" in part)


def _shortened(text: str) -> str:
    """The text, or both its ends and how much was between them."""
    left_out = len(text) - 2 * _END
    if left_out <= 0:
        return text
    return f"{text[:_END]} [{left_out} characters left out] {text[-_END:]}"


def count_input(prompt: Prompt) -> int:
    """Tokens of the prompt, as an estimate: a quarter of its characters, rounded up."""
    request = prompt.request
    size = len(request.instructions or "")
    for item in prompt.items:
        size += sum(len(part["text"]) for part in _parts(item) if "text" in part)
        as_call = ITEM_TYPES[item["type"]].as_call
        size += len(as_call(item).arguments) if as_call is not None else 0
    if request.tools:
        size += len(orjson.dumps(request.tools))
    return -(-size // 4)
