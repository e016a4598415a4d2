"""Tool calls as chat-completions servers really stream them, each with the deltas that it says."""

from antiphon.protocol.deltas import Delta, TextDelta, ToolCallDelta
from tests.backends.chat_corpus import STOP, Stream, completion
from tests.backends.upstream import chunk, sse

CALLS = sse(chunk(finish="tool_calls"))


def call(index: int | None = None, id_: str | None = None, **function: object) -> dict[str, object]:
    """An entry of `tool_calls`."""
    entry: dict[str, object] = {"type": "function", "function": function}
    if index is not None:
        entry["index"] = index
    if id_ is not None:
        entry["id"] = id_
    return entry


def calls(*entries: dict[str, object], content: str | None = None) -> bytes:
    """An event with tool calls."""
    return sse(chunk(content=content, tool_calls=list(entries)))


_FUNCTION = [ToolCallDelta(0, "", "f", "c1")]

_ONE = [ToolCallDelta(0, '{"a":', "f", "c1"), ToolCallDelta(0, "1}")]

TOOLS = [
    Stream(
        "fragments",
        calls(call(0, "c1", name="f", arguments=""))
        + calls(call(0, arguments='{"a":'))
        + calls(call(0, arguments="1}"))
        + CALLS,
        [*_ONE],
    ),
    Stream(
        "text and call in one chunk",
        calls(call(0, "c1", name="f", arguments="{}"), content="Hello") + CALLS,
        [TextDelta("Hello"), ToolCallDelta(0, "{}", "f", "c1")],
    ),
    Stream(
        "call and finish in one chunk",
        sse(chunk(finish="tool_calls", tool_calls=[call(0, "c1", name="f", arguments="{}")])),
        [ToolCallDelta(0, "{}", "f", "c1")],
    ),
    Stream(
        "calls with finish_reason stop",
        calls(call(0, "c1", name="f", arguments="{}")) + STOP,
        [ToolCallDelta(0, "{}", "f", "c1")],
    ),
    Stream(
        "name and id repeated in each fragment",
        calls(call(0, "c1", name="f", arguments='{"a":'))
        + calls(call(0, "c1", name="f", arguments="1}"))
        + CALLS,
        [*_ONE],
    ),
    Stream(
        "name in fragments",
        calls(call(0, "c1", name="get_"))
        + calls(call(0, name="weather"))
        + calls(call(0, arguments="{}"))
        + CALLS,
        [ToolCallDelta(0, "{}", "get_weather", "c1")],
    ),
    Stream(
        "growing name",
        calls(call(0, "c1", name="get"))
        + calls(call(0, name="get_weather"))
        + calls(call(0, arguments="{}"))
        + CALLS,
        [ToolCallDelta(0, "{}", "get_weather", "c1")],
    ),
    Stream(
        "id after the name",
        calls(call(0, name="f")) + calls(call(0, "c1")) + calls(call(0, arguments="{}")) + CALLS,
        [ToolCallDelta(0, "{}", "f", "c1")],
    ),
    Stream(
        "arguments as an object",
        calls(call(0, "c1", name="f", arguments={"a": [1]})) + CALLS,
        [ToolCallDelta(0, '{"a":[1]}', "f", "c1")],
    ),
    *(
        Stream(
            f"arguments {name}",
            calls(call(0, "c1", name="f", **arguments)) + CALLS,
            [*_FUNCTION, ToolCallDelta(0, "{}")],
        )
        for name, arguments in (
            ("missing", {}),
            ("null", {"arguments": None}),
            ("empty", {"arguments": ""}),
        )
    ),
    Stream(
        "no id",
        calls(call(0, name="f", arguments="{}")) + CALLS,
        [ToolCallDelta(0, "{}", "f")],
    ),
    Stream(
        "an id too long for our wire",
        calls(call(0, "x" * 65, name="f", arguments="{}")) + CALLS,
        [ToolCallDelta(0, "{}", "f")],
    ),
    Stream(
        "the same id twice",
        calls(call(0, "c", name="f", arguments="{}"), call(1, "c", name="g", arguments="{}"))
        + CALLS,
        [ToolCallDelta(0, "{}", "f", "c"), ToolCallDelta(1, "{}", "g")],
    ),
    Stream(
        "legacy function_call",
        sse(chunk(function_call={"name": "f", "arguments": '{"a":'}))
        + sse(chunk(function_call={"arguments": "1}"}))
        + sse(chunk(finish="function_call")),
        [ToolCallDelta(0, '{"a":', "f"), ToolCallDelta(0, "1}")],
    ),
    Stream(
        "json body with a call",
        completion(content=None, tool_calls=[call(None, "c1", name="f", arguments="{}")]),
        [ToolCallDelta(0, "{}", "f", "c1")],
    ),
]

_TWO: list[Delta] = [ToolCallDelta(0, "{}", "f", "a"), ToolCallDelta(1, "{}", "f", "b")]

PARALLEL = [
    Stream(
        "parallel calls",
        calls(call(0, "a", name="f", arguments="{}"))
        + calls(call(1, "b", name="f", arguments="{}"))
        + CALLS,
        _TWO,
    ),
    Stream(
        "parallel calls in one chunk",
        calls(call(0, "a", name="f", arguments="{}"), call(1, "b", name="f", arguments="{}"))
        + CALLS,
        _TWO,
    ),
    Stream(
        "parallel calls without index",
        calls(call(None, "a", name="f", arguments="{}"), call(None, "b", name="f", arguments="{}"))
        + CALLS,
        _TWO,
    ),
    Stream(
        "parallel calls, each with index 0",
        calls(call(0, "a", name="f", arguments="{}"))
        + calls(call(0, "b", name="f", arguments="{}"))
        + CALLS,
        _TWO,
    ),
    Stream(
        "parallel calls without index and id",
        calls(call(name="f", arguments="{"))
        + calls(call(arguments="}"))
        + calls(call(name="g", arguments="{}"))
        + CALLS,
        [ToolCallDelta(0, "{", "f"), ToolCallDelta(0, "}"), ToolCallDelta(1, "{}", "g")],
    ),
    Stream(
        "interleaved",
        calls(call(0, "a", name="f", arguments=""), call(1, "b", name="g", arguments=""))
        + calls(call(1, arguments='{"x":'), call(0, arguments="{"))
        + calls(call(0, arguments="}"), call(1, arguments="2}"))
        + CALLS,
        [
            ToolCallDelta(0, "", "f", "a"),
            ToolCallDelta(1, '{"x":', "g", "b"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(0, "}"),
            ToolCallDelta(1, "2}"),
        ],
    ),
]


def _custom(name: str, fragments: list[str], *said: str) -> Stream:
    """A custom tool's call: the first text comes with the name."""
    body = b"".join(calls(call(0, arguments=fragment)) for fragment in fragments)
    first, *rest = said
    return Stream(
        f"custom: {name}",
        calls(call(0, "c1", name="t")) + body + CALLS,
        [
            ToolCallDelta(0, first, "t", "c1", "custom"),
            *(ToolCallDelta(0, text, kind="custom") for text in rest),
        ],
        custom=frozenset({"t"}),
    )


CUSTOM = [
    _custom("whole", ['{"input": "a\\nb"}'], "a\nb"),
    _custom("fragments", ['{"inp', 'ut":"a', "b\\", 'nc"', "}"], "", "a", "b", "\nc"),
    _custom("surrogate pair cut", ['{"input":"\\ud83d', '\\ude00"}'], "", "😀"),
    _custom("half a surrogate pair", ['{"input":"a\\udc00b"}'], "a\\udc00b"),
    _custom("line break not escaped", ['{"input":"a\nb"}'], "a\nb"),
    _custom("another object", ['{"why":1,"input":"a"}'], "", "a"),
    _custom("no object", ["just text"], "", "just text"),
    _custom("a string", ['"text"'], "", "text"),
    _custom("an object without input", ['{"a":1}'], "", '{"a":1}'),
    _custom("not closed", ['{"input":"abc'], "abc"),
    _custom("bad escape", ['{"input":"a\\d"}'], "a\\d"),
]

STREAMS = [*TOOLS, *PARALLEL, *CUSTOM]
