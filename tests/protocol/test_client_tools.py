"""Tools that the client runs: how a model sees them, and what it may write (spec §1.2, App. B)."""

import json
from typing import Any

import jsonschema_rs
import orjson
import pytest
from agents.apply_diff import apply_diff
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem, Tool
from pydantic import TypeAdapter

from antiphon.protocol.client_tools import CLIENT_TOOLS, BadCall
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.tools import FunctionTool

Json = dict[str, Any]

OFFICIAL: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
OFFICIAL_TOOL: TypeAdapter[Any] = TypeAdapter(Tool)
FUNCTION: TypeAdapter[Any] = TypeAdapter(FunctionTool)
#: What a model may write: no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def parse(type_: str, arguments: Any) -> Json:
    """The fields of a call; they are those of the item here and at OpenAI."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    tool = CLIENT_TOOLS[type_]
    fields = tool.parse(text)
    item = {"id": "x", "type": tool.item_type, "call_id": "c", "status": "completed", **fields}
    TypeAdapter(ITEM_TYPES[tool.item_type].shape).validate_python(item)
    OFFICIAL.validate_python(item)
    return fields


def complaint(type_: str, arguments: Any) -> str:
    with pytest.raises(BadCall) as caught:
        parse(type_, arguments)
    return str(caught.value)


# -- what a model sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("type_", CLIENT_TOOLS)
def test_a_tool_is_described_as_a_function(type_: str) -> None:
    described = CLIENT_TOOLS[type_].describe({"type": type_})
    assert described["name"] == type_
    assert described["strict"] is False
    FUNCTION.validate_python(described)
    OFFICIAL_TOOL.validate_python(described)
    jsonschema_rs.validator_for(described["parameters"])


CALLS: dict[str, list[Json]] = {
    "local_shell": [
        {"command": ["ls"]},
        {"command": ["a"], "env": {"A": "b"}, "timeout_ms": 1, "working_directory": "/"},
    ],
    "shell": [{"commands": ["ls"]}, {"commands": ["a"], "timeout_ms": 9, "max_output_length": 2}],
    "apply_patch": [
        {"type": "create_file", "path": "a", "diff": "+x"},
        {"type": "delete_file", "path": "a"},
    ],
    "tool_search": [{"query": "weather"}],
}


@pytest.mark.parametrize("type_", CLIENT_TOOLS)
def test_what_the_description_asks_for_is_understood(type_: str) -> None:
    """And it is what the model reads of its call afterwards, so that it goes on in the same way."""
    schema = CLIENT_TOOLS[type_].describe({"type": type_})["parameters"]
    item_type = CLIENT_TOOLS[type_].item_type
    as_call = ITEM_TYPES[item_type].as_call
    assert as_call
    for arguments in CALLS[type_]:
        assert jsonschema_rs.is_valid(schema, arguments)
        fields = parse(type_, arguments)
        call = as_call({"type": item_type, "call_id": "c", **fields})
        assert call.name == type_
        assert parse(type_, call.arguments) == fields


def test_a_model_hears_of_the_skills_of_a_local_environment() -> None:
    skill = {"name": "island", "description": "How to be rescued.", "path": "/skills/island"}
    shell = {"type": "shell", "environment": {"type": "local", "skills": [skill]}}
    described = CLIENT_TOOLS["shell"].describe(shell)["description"]
    assert "\n- island: How to be rescued. (in /skills/island)" in described
    assert "SKILL.md" in described
    for none in (None, {"type": "local"}, {"type": "local", "skills": []}):
        plain = CLIENT_TOOLS["shell"].describe({"type": "shell", "environment": none})
        assert "skill" not in plain["description"]


def test_a_tool_search_has_the_words_of_the_request() -> None:
    own = {"type": "object", "properties": {"goal": {"type": "string"}}}
    described = CLIENT_TOOLS["tool_search"].describe(
        {"type": "tool_search", "execution": "client", "description": "Find.", "parameters": own}
    )
    assert (described["description"], described["parameters"]) == ("Find.", own)
    assert parse("tool_search", {"goal": "x"})["arguments"] == {"goal": "x"}


def test_the_diffs_in_the_description_are_diffs_that_clients_apply() -> None:
    """The example is V4A: what openai-agents makes of it is what it says."""
    lines = CLIENT_TOOLS["apply_patch"].describe({})["description"].splitlines()
    start = lines.index("+first line")
    assert apply_diff("", "\n".join(lines[start : start + 2]), "create").splitlines() == [
        *("first line", "second line")
    ]
    start = lines.index("@@ def greet(name):")
    old = 'import os\n\n\ndef greet(name):\n    text = "Hello"\n    print(text)\n    return text\n'
    assert "    print(text, name)\n" in apply_diff(old, "\n".join(lines[start : start + 5]))


# -- what a call means ---------------------------------------------------------------------------

EXEC: Json = {"type": "exec", "command": ["ls", "-la"], "env": {}}


def ran(*commands: str, **more: Any) -> Json:
    limits = {"max_output_length": None, "timeout_ms": None, **more}
    return {"action": {"commands": list(commands), **limits}}


#: name, tool, arguments, fields
UNDERSTOOD: list[tuple[str, str, Any, Json]] = [
    ("words", "local_shell", {"command": ["ls", "-la"]}, {"action": EXEC}),
    (
        "a command line",
        "local_shell",
        {"command": "ls | wc"},
        {"action": {**EXEC, "command": ["bash", "-lc", "ls | wc"]}},
    ),
    (
        "nothing but a command line",
        "local_shell",
        '"ls | wc"',
        {"action": {**EXEC, "command": ["bash", "-lc", "ls | wc"]}},
    ),
    (
        "all that there is",
        "local_shell",
        {
            "command": ["sleep", 5],
            "env": {"A": 1, "B": "b", "C": None},
            "timeout_ms": "1000",
            "user": "u",
            "working_directory": "/tmp",  # noqa: S108
        },
        {
            "action": {
                "type": "exec",
                "command": ["sleep", "5"],
                "env": {"A": "1", "B": "b"},
                "timeout_ms": 1000,
                "user": "u",
                "working_directory": "/tmp",  # noqa: S108
            }
        },
    ),
    (
        "nulls and what is empty",
        "local_shell",
        {
            "command": ["ls", "-la"],
            "env": None,
            "timeout_ms": None,
            "user": "",
            "working_directory": None,
        },
        {"action": EXEC},
    ),
    ("the item itself", "local_shell", {"action": EXEC}, {"action": EXEC}),
    (
        "JSON within JSON",
        "local_shell",
        '"{\\"command\\": [\\"ls\\", \\"-la\\"]}"',
        {"action": EXEC},
    ),
    ("commands", "shell", {"commands": ["a", "b c"]}, ran("a", "b c")),
    ("one command", "shell", {"commands": "a b"}, ran("a b")),
    ("another name", "shell", {"command": "a b"}, ran("a b")),
    ("another name, a list", "shell", {"command": ["a b"]}, ran("a b")),
    ("the shortest name", "shell", {"cmd": "a b"}, ran("a b")),
    ("nothing but a command", "shell", '"a b"', ran("a b")),
    ("a line break that is not escaped", "shell", '{"commands": ["a\nb"]}', ran("a\nb")),
    (
        "limits",
        "shell",
        {"commands": ["a"], "timeout_ms": 5.0, "max_output_length": "7"},
        ran("a", timeout_ms=5, max_output_length=7),
    ),
    ("limits that are none", "shell", {"commands": ["a"], "timeout_ms": ""}, ran("a")),
    (
        "flat",
        "apply_patch",
        {"type": "update_file", "path": "a", "diff": "@@\n-x\n+y"},
        {"operation": {"type": "update_file", "diff": "@@\n-x\n+y", "path": "a"}},
    ),
    (
        "nested",
        "apply_patch",
        {"operation": {"type": "create_file", "path": "a", "diff": ""}},
        {"operation": {"type": "create_file", "diff": "", "path": "a"}},
    ),
    (
        "the operation by its name",
        "apply_patch",
        {"operation": "add", "file_path": "a", "patch": "+x"},
        {"operation": {"type": "create_file", "diff": "+x", "path": "a"}},
    ),
    (
        "a deletion has no diff",
        "apply_patch",
        {"type": "delete", "path": "a", "diff": "-x"},
        {"operation": {"type": "delete_file", "path": "a"}},
    ),
    ("a search", "tool_search", {"q": [1]}, {"arguments": {"q": [1]}, "execution": "client"}),
    ("a search for all", "tool_search", " ", {"arguments": {}, "execution": "client"}),
]


@pytest.mark.parametrize(
    ("type_", "arguments", "fields"),
    [row[1:] for row in UNDERSTOOD],
    ids=[r[0] for r in UNDERSTOOD],
)
def test_what_has_one_meaning_is_understood(type_: str, arguments: Any, fields: Json) -> None:
    assert parse(type_, arguments) == fields
    assert orjson.dumps(parse(type_, arguments)) == orjson.dumps(fields)  # the order of the wire


#: name, tool, arguments, what the model is told
REFUSED: list[tuple[str, str, Any, str]] = [
    ("no JSON", "shell", '{"commands": ["a"', "not valid JSON. Expected"),
    ("no JSON at all", "shell", "ls -la", "not valid JSON"),
    ("half of a surrogate pair", "shell", '{"commands": ["\\ud800"]}', "not valid JSON"),
    ("too deep", "shell", "[" * 100_000, "not valid JSON"),
    ("a number that is none", "tool_search", '{"a": 1' + "0" * 5_000 + "}", "not valid JSON"),
    ("a list", "shell", ["a", "b"], "must be a JSON object"),
    ("a string", "apply_patch", '"x"', "must be a JSON object"),
    ("a number", "tool_search", "1", "must be a JSON object"),
    ("nothing", "shell", "", "'commands' must be a list of strings"),
    ("no commands", "shell", {"commands": []}, "'commands' must be a list of strings"),
    ("a blank command", "shell", {"command": " "}, "'commands' must be a list of strings"),
    ("no strings", "shell", {"commands": [["a"]]}, "'commands' must be a list of strings"),
    ("words or commands?", "shell", {"command": ["ls", "-la"]}, "a list of command lines"),
    ("commands or words?", "local_shell", {"commands": ["ls", "pwd"]}, "'command' must be a list"),
    ("no command", "local_shell", {"command": ""}, "'command' must be a list"),
    ("no time", "shell", {"commands": ["a"], "timeout_ms": 0}, "'timeout_ms' must be a positive"),
    (
        "half a time",
        "shell",
        {"commands": ["a"], "timeout_ms": 0.5},
        "'timeout_ms' must be a posit",
    ),
    ("true is no time", "shell", {"commands": ["a"], "timeout_ms": True}, "'timeout_ms' must be"),
    (
        "a time in words",
        "local_shell",
        {"command": ["a"], "timeout_ms": "1 s"},
        "'timeout_ms' must",
    ),
    (
        "no length",
        "shell",
        {"commands": ["a"], "max_output_length": 2**60},
        "'max_output_length' must be a positive integer",
    ),
    (
        "no environment",
        "local_shell",
        {"command": ["a"], "env": ["A=b"]},
        "'env' must be an object",
    ),
    ("no value", "local_shell", {"command": ["a"], "env": {"A": []}}, "'env' must be an object"),
    ("no user", "local_shell", {"command": ["a"], "user": 3}, "'user' must be a string"),
    (
        "no directory",
        "local_shell",
        {"command": ["a"], "working_directory": []},
        "'working_directory' must be a string",
    ),
    (
        "no operation",
        "apply_patch",
        {"path": "a"},
        "'type' must be one of create_file, update_file",
    ),
    ("an unknown one", "apply_patch", {"type": "move", "path": "a"}, "'type' must be one of"),
    ("no name of one", "apply_patch", {"type": ["a"], "path": "a"}, "'type' must be one of"),
    ("no path", "apply_patch", {"type": "delete_file"}, "'path' must be the path"),
    (
        "an empty path",
        "apply_patch",
        {"type": "delete_file", "path": ""},
        "'path' must be the path",
    ),
    ("a long one", "apply_patch", {"type": "delete_file", "path": "a" * 4_097}, "'path' must be"),
    ("no diff", "apply_patch", {"type": "create_file", "path": "a"}, "for create_file. Expected"),
    ("diffs", "apply_patch", {"type": "update_file", "path": "a", "diff": []}, "for update_file"),
]


@pytest.mark.parametrize(
    ("type_", "arguments", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_the_model_is_told_what_is_wrong_and_what_is_expected(
    type_: str, arguments: Any, told: str
) -> None:
    assert told in complaint(type_, arguments)


@given(st.lists(TEXT, min_size=1))
def test_any_commands_come_through_as_they_are(commands: list[str]) -> None:
    assert parse("shell", {"commands": commands}) == ran(*commands)


@given(st.lists(TEXT, min_size=1), st.dictionaries(TEXT, TEXT))
def test_any_words_and_variables_come_through_as_they_are(
    words: list[str], variables: dict[str, str]
) -> None:
    action = {"type": "exec", "command": words, "env": variables}
    assert parse("local_shell", {"command": words, "env": variables}) == {"action": action}


@given(TEXT, TEXT.filter(bool))
def test_any_diff_comes_through_as_it_is(diff: str, path: str) -> None:
    operation = {"type": "update_file", "diff": diff, "path": path}
    assert parse("apply_patch", operation) == {"operation": operation}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = ["command", "commands", "cmd", "env", "timeout_ms", "user", "action", "operation", "type"]


@given(
    st.sampled_from(sorted(CLIENT_TOOLS)),
    st.text() | st.dictionaries(st.sampled_from([*KEYS, "path", "diff"]), JSON),
)
def test_whatever_a_model_writes_is_an_item_or_a_complaint(type_: str, said: str | Json) -> None:
    text = said if isinstance(said, str) else json.dumps(said)
    try:
        fields = parse(type_, text)
    except BadCall:
        return
    assert orjson.dumps(fields)
