"""Bodies that cost a server much for little: deep, wide, long (R-07, R-09, R-13, R-118).

They are made when they are sent: together they have some hundred MiB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from tests.api.talk import Json
from tests.pace import pace

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Heavy:
    """A body and the statuses that are right for it."""

    name: str
    make: Callable[[], bytes]
    statuses: tuple[int, ...] = (400,)


def longest_wait(body: bytes) -> float:
    """Seconds for which others may have to wait: 0.1 (R-118). A body above 16 MiB is decoded and
    checked by a few calls of libraries that no thread interrupts: 3 ms a MiB on a quiet machine."""
    return max(0.1, len(body) / MIB * 0.006) * pace()


def _with(name: str, key: str, value: Callable[[], bytes], *statuses: int) -> Heavy:
    def make() -> bytes:
        return b'{"model":"m","input":"Hi","%s":%s}' % (key.encode(), value())

    return Heavy(name, make, statuses or (400,))


def _json(name: str, body: Callable[[], Json], *statuses: int) -> Heavy:
    def make() -> bytes:
        return orjson.dumps({"model": "m", "input": "Hi", **body()})

    return Heavy(name, make, statuses or (400,))


def _input(name: str, items: Callable[[], Any], *statuses: int) -> Heavy:
    return _json(name, lambda: {"input": items()}, *statuses)


def _deep(opening: bytes, core: bytes, closing: bytes, levels: int) -> bytes:
    return opening * levels + core + closing * levels


_MESSAGE: Final = {"role": "user", "content": "Hi"}


def _message(part: Json, count: int) -> list[Json]:
    return [{"role": "user", "content": [part] * count}]


def _text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _escapes() -> Json:
    return {"type": "input_image", "image_url": "data:image/png," + "%41" * MIB}


def _image() -> Json:
    url = "data:image/png;base64," + "A" * (19 * MIB)
    return {"type": "input_image", "image_url": url}


def _call(call_id: str) -> Json:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def _mcp_call(output: str) -> Json:
    call = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "n", "arguments": "{}"}
    return {**call, "output": output}


def _loaded(count: int, items: int) -> list[Json]:
    """Tools in items."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [{"type": "function", "name": f"f{i}", "parameters": schema} for i in range(count)]
    return [{"type": "additional_tools", "role": "developer", "tools": tools}] * items


def _nested(levels: int) -> list[Heavy]:
    objects = partial(_deep, b'{"a":', b"1", b"}", levels)
    return [
        Heavy(f"arrays {levels}", partial(_deep, b"[", b"", b"]", levels)),
        Heavy(f"open arrays {levels}", lambda: b"[" * levels),
        _with(f"metadata arrays {levels}", "metadata", partial(_deep, b"[", b"1", b"]", levels)),
        _with(f"metadata objects {levels}", "metadata", objects),
        _with(f"unknown {levels}", "unknown", objects),
        _with(f"input {levels}", "input", partial(_deep, b"[", b'"x"', b"]", levels)),
        _with(f"text {levels}", "text", partial(_deep, b'{"format":', b"1", b"}", levels)),
    ]


_KEYS: Final = [f"k{i}" for i in range(50_000)]
_INCLUDE: Final = "file_search_call.results"

NESTED: Final = [heavy for levels in (129, 20_000, 200_000) for heavy in _nested(levels)]

WIDE: Final = [
    _json("50 k metadata keys", lambda: {"metadata": dict.fromkeys(_KEYS, "v")}),
    _json("50 k unknown keys", lambda: dict.fromkeys(_KEYS, 0)),
    _input(
        "50 k keys of an item", lambda: [{**_MESSAGE, **{f"k{i}": i for i in range(50_000)}}], 200
    ),
    _input("5,000 items", lambda: [_MESSAGE] * 5_000, 200),
    _input("10,001 items", lambda: [_MESSAGE] * 10_001),
    _input("10,000 items, the last is wrong", lambda: [*[_MESSAGE] * 9_999, 7]),
    _input("10,000 wrong messages", lambda: [{"role": 1, "content": 1}] * 10_000),
    _input("1,000,000 numbers", lambda: [1] * 1_000_000),
    _input("20,000 tools in an item", lambda: [*_loaded(20_000, 1), _MESSAGE]),
    _input("1,152 tools in items", lambda: [*_loaded(128, 9), _MESSAGE]),
    _input("1,024 tools in items", lambda: [*_loaded(128, 8), _MESSAGE], 200),
    _input("100,000 parts", lambda: _message(_text("x"), 100_000), 200, 400),
    _input("5,000 calls without outputs", lambda: [_call(f"c{i}") for i in range(5_000)]),
    _json("100,000 includes", lambda: {"include": ["nonsense"] * 100_000}),
    _json(
        "100,000 same includes", lambda: {"include": ["file_search_call.results"] * 100_000}, 200
    ),
    Heavy("8 M numbers", lambda: b"[%s]" % b",".join([b"1"] * (8 * MIB))),
    _with("8 M numbers with spaces", "include", lambda: b"[%s]" % b", ".join([b"1"] * 8 * MIB)),
    _with("5 M empty arrays", "include", lambda: b"[%s]" % b",".join([b"[]"] * 5 * MIB)),
    Heavy("1 M keys", lambda: b"{%s}" % b", ".join(b'"k%d":0' % i for i in range(MIB))),
    _input("300,000 parts", lambda: _message(_text("x"), 300_000)),
    Heavy(
        "a key twice among many",
        lambda: b"{%s}" % b",".join(b'"k%d": 0' % (i % 99_999) for i in range(100_000)),
    ),
]

LONG: Final = [
    _with("integer of 4,301 digits", "max_output_tokens", lambda: b"9" * 4301),
    _with("integer of a million digits", "max_output_tokens", lambda: b"9" * 1_000_000),
    _with("number of a million digits", "temperature", lambda: b"0." + b"1" * 1_000_000, 200, 400),
    _with("2^63", "max_tool_calls", lambda: b"%d" % 2**63),
    _with("2^64", "max_tool_calls", lambda: b"%d" % 2**64),
    _input("10 MiB of text", lambda: "x" * (10 * MIB), 200),
    _input("10 MiB of text and a character", lambda: "x" * (10 * MIB + 1)),
    _input("5 MiB of escapes", lambda: "\n" * (5 * MIB), 200),
    _input("10 MiB of commas", lambda: ", " * (5 * MIB), 200),
    _input("3 MiB of quotes and commas", lambda: '", ' * MIB, 200),
    _input("an image of 19 MiB", lambda: _message(_image(), 1), 200),
    _input("images of escapes", lambda: _message(_escapes(), 5), 200),
    _input("9 MiB of < from a tool", lambda: [_MESSAGE, _mcp_call("<" * (9 * MIB))], 200),
    _input("9 MiB from a tool", lambda: [_MESSAGE, _mcp_call("the quick fox " * 674_000)], 200),
    _input("three images of 19 MiB", lambda: _message(_image(), 3), 200),
    _input("40 MiB of text", lambda: "x" * (40 * MIB)),
    _json("40 MiB of model", lambda: {"model": "x" * (40 * MIB)}),
    _json("1 MiB of unknown key", lambda: {"k" * MIB: 1}),
    Heavy("over the limit", lambda: b'{"model":"%s"}' % (b"x" * (64 * MIB)), (413,)),
    Heavy("spaces", lambda: b" " * (10 * MIB) + b'{"model":"m","input":"Hi"}', (200,)),
    _with("duplicate at the end", "user", lambda: b'"%s", "model":"m"' % (b"x" * 5 * MIB)),
]


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _strings(count: int, name: str = "p") -> Json:
    return _object({f"{name}{i}": {"type": "string"} for i in range(count)})


def _nest(levels: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(levels):
        schema = _object({"a": schema})
    return schema


def _schema(name: str, schema: Callable[[], Json], *statuses: int, strict: bool = True) -> Heavy:
    def body() -> Json:
        form = {"type": "json_schema", "name": "n", "schema": schema(), "strict": strict}
        return {"text": {"format": form}}

    return _json(f"schema of {name}", body, *statuses)


def _pattern(pattern: str) -> Heavy:
    """A pattern that is fine is answered with "Hello", which does not match: 502."""
    schema = partial(_object, {"a": {"type": "string", "pattern": pattern}})
    return _schema(f"pattern {pattern[:12]}", schema, 400, 502)


def _tool(index: int, properties: int) -> Json:
    name = f"f{index}_"
    return {"type": "function", "name": name, "parameters": _strings(properties, name)}


def _ring() -> Json:
    null = {"type": "null"}
    definitions = {
        "a": {"anyOf": [{"$ref": "#/$defs/b"}, null]},
        "b": {"anyOf": [{"$ref": "#/$defs/a"}, null]},
    }
    return {**_object({"a": {"$ref": "#/$defs/a"}}), "$defs": definitions}


_PATTERNS: Final = ("(a+)+$", "(a|a)*b", "foo**", "(?=a)", "a{1000}{1000}", "[" * 5000, "(" * 5000)

SCHEMAS: Final = [
    _schema("11 levels", lambda: _nest(11)),
    _schema("65 loose levels", lambda: _nest(65), strict=False),
    _schema("40 levels", lambda: _nest(40)),
    _schema("5,001 properties", lambda: _strings(5_001)),
    _schema("1,001 words", lambda: _object({"e": {"enum": [f"v{i}" for i in range(1_001)]}})),
    _schema("1 MiB", lambda: {"type": "object", "description": "x" * MIB}, strict=False),
    *map(_pattern, _PATTERNS),
    _schema("references in a ring", _ring, 400, 502),
    _json(
        "128 tools of 500 properties", lambda: {"tools": [_tool(i, 500) for i in range(128)]}, 200
    ),
]

HEAVY: Final = [*NESTED, *WIDE, *LONG, *SCHEMAS]
