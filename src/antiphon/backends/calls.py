"""Fragments of tool calls, as servers stream them → `ToolCallDelta`. Pure.

Rules
1. A fragment belongs to the call of its `index`; without one, to the call of its `id`; with
   neither, a name begins a new call and anything else continues the last one. An `index` that comes
   back with another id *and* a name is a new call (Gemini says index 0 for all).
2. A call is told when its name is whole: at the first fragment of arguments, when the next call
   begins, or at the end. Names may come in fragments, repeated, or growing.
3. A function call without arguments has the arguments ``{}``: clients parse them as JSON.
4. A custom tool was sent as a function with the one parameter `input`; its text is unwrapped as it
   comes. What is not that object is passed on as it is, so is an escape that JSON does not have,
   and so is the input of a call that is `custom` on the wire.
"""

import json
import re
from typing import Any, Literal

import orjson

from antiphon.protocol.deltas import Delta, ToolCallDelta

#: Longer ids are not valid on our wire (spec §1: `call_id` 1 to 64); the machine mints one then.
_ID_LIMIT = 64

#: After this many fragments (one character each at worst) the arguments are no ``{"input": "``.
_HEAD_PIECES = 64
_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
#: An escape that is whole; a surrogate pair is one, half of a pair is none: no JSON can carry it.
_ESCAPE = (
    r'\\["\\/bfnrt]'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
)
#: What may become one with the next fragment.
_OPEN = (
    r"\\(?:u(?:[0-9a-fA-F]{0,3}"
    r"|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?))?\Z"
)
_WHOLE = re.compile(rf'(?:[^"\\]++|{_ESCAPE}|(?!{_OPEN})\\)*+')
_ESCAPES = re.compile(_ESCAPE)
_SIMPLE = {f"\\{char}": json.loads(f'"\\{char}"') for char in '"\\/bfnrt'}


class InputUnwrapper:
    """The string in ``{"input": "…"}`` as text, while the JSON streams in."""

    __slots__ = ("_closed", "_inside", "_pieces", "_raw")

    def __init__(self) -> None:
        self._pieces: list[str] = []  # all that came, until the string has begun
        self._raw = ""  # an escape whose end has not come
        self._inside = False
        self._closed = False

    def feed(self, fragment: str) -> str:
        """The text that is certain with this fragment."""
        if self._closed:
            return ""
        if not self._inside:
            self._pieces.append(fragment)
            if len(self._pieces) > _HEAD_PIECES:
                return ""
            fragment = "".join(self._pieces)
            head = _HEAD.match(fragment)
            if not head:
                return ""
            self._inside = True
            fragment = fragment[head.end() :]
        raw = self._raw + fragment
        whole = _WHOLE.match(raw)
        end = whole.end() if whole else 0
        self._raw = raw[end:]
        self._closed = self._raw.startswith('"')
        return _text_of(raw[:end])

    def close(self) -> str:
        """What is left at the end: the text of any other object with `input`, else as it came."""
        if self._closed:
            return ""
        if self._inside:
            return self._raw
        raw = "".join(self._pieces)
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
        text = parsed.get("input") if isinstance(parsed, dict) else parsed
        return text if isinstance(text, str) else raw


def _text_of(raw: str) -> str:
    """The text that is written as `raw` in a JSON string, or nearly so (rule 4)."""
    if "\\" not in raw:
        return raw
    try:
        text: str = orjson.loads(f'"{raw}"')
    except orjson.JSONDecodeError:
        return _ESCAPES.sub(_unescaped, raw)
    return text


def _unescaped(escape: re.Match[str]) -> str:
    text = escape[0]
    return _SIMPLE.get(text) or str(json.loads(f'"{text}"'))


class _Call:
    __slots__ = ("held", "id", "index", "kind", "name", "said", "told", "unwrap")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id: str | None = None
        self.name = ""
        self.kind: Literal["function", "custom"] = "function"
        self.held: list[str] = []  # arguments, until the call is told
        self.told = False
        self.said = False  # some arguments were passed on
        self.unwrap: InputUnwrapper | None = None


class CallAssembler:
    """The tool calls of one turn."""

    __slots__ = ("_by_key", "_calls", "_custom", "_ids")

    def __init__(self, custom: frozenset[str]) -> None:
        self._custom = custom
        self._calls: list[_Call] = []
        self._by_key: dict[object, _Call] = {}
        self._ids: set[str] = set()

    def feed(self, fragment: dict[str, Any], out: list[Delta]) -> None:
        """Take one entry of `tool_calls`."""
        function = fragment.get("function") or fragment.get("custom") or {}
        name = function.get("name")
        id_ = fragment.get("id")
        call = self._call_of(fragment.get("index"), id_, name, out)
        if call.id is None and isinstance(id_, str):
            call.id = id_ or None
        if isinstance(name, str) and not call.told:
            call.name = _grown(call.name, name)
        if fragment.get("custom") is not None and not call.told:
            call.kind = "custom"
        arguments = function.get("arguments")
        if arguments is None:
            arguments = function.get("input")
        if arguments is None or arguments == "":
            return
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        call.held.append(arguments)
        if call.name:
            self._tell(call, out)

    def close(self, out: list[Delta]) -> bool:
        """Tell what is left. False when a call never got a name."""
        for call in self._calls:
            if not call.name:
                return False
            self._end(call, out)
        return True

    def _call_of(self, index: Any, id_: Any, name: Any, out: list[Delta]) -> _Call:
        key: object = index if index is not None else id_ or None
        if key is None and not name and self._calls:
            return self._calls[-1]
        known = self._by_key.get(key) if key is not None else None
        if known and not (name and id_ and known.id and id_ != known.id):
            return known
        if self._calls and self._calls[-1].name:
            self._tell(self._calls[-1], out)
        call = _Call(len(self._calls))
        self._calls.append(call)
        if key is not None:
            self._by_key[key] = call
        return call

    def _tell(self, call: _Call, out: list[Delta]) -> None:
        if call.kind == "function" and call.name in self._custom:
            call.unwrap, call.kind = InputUnwrapper(), "custom"
        arguments, call.held = "".join(call.held), []
        if call.unwrap:
            arguments = call.unwrap.feed(arguments)
        if not call.told:
            call.told = True
            id_ = self._own_id(call.id)
            out.append(ToolCallDelta(call.index, arguments, call.name, id_, call.kind))
        elif arguments:
            out.append(ToolCallDelta(call.index, arguments, kind=call.kind))
        call.said = call.said or bool(arguments)

    def _end(self, call: _Call, out: list[Delta]) -> None:
        if not call.told:
            self._tell(call, out)
        empty = "" if call.said or call.kind == "custom" else "{}"
        rest = call.unwrap.close() if call.unwrap else empty
        if rest:
            out.append(ToolCallDelta(call.index, rest, kind=call.kind))

    def _own_id(self, id_: str | None) -> str | None:
        if not id_ or len(id_) > _ID_LIMIT or id_ in self._ids:
            return None
        self._ids.add(id_)
        return id_


def _grown(name: str, fragment: str) -> str:
    if fragment.startswith(name):
        return fragment  # first, repeated, or growing
    return name + fragment
