"""Tools that come in items have the shape of a request's, but for keys that are unknown."""

from typing import Any

import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.loaded_tools import loaded
from tests.protocol.asking import ask

Json = dict[str, Any]

FUNCTION: Json = {"type": "function", "name": "f", "parameters": {"type": "object", "x": 1}}
CUSTOM: Json = {
    "type": "custom",
    "name": "c",
    "format": {"type": "grammar", "syntax": "regex", "definition": "a"},
}
NAMESPACE: Json = {
    "type": "namespace",
    "name": "n",
    "description": "d",
    "tools": [FUNCTION, CUSTOM],
}
SHELL: Json = {
    "type": "shell",
    "environment": {"type": "local", "skills": [{"name": "s", "description": "d", "path": "/s"}]},
}
CLIENT: list[Json] = [
    FUNCTION,
    CUSTOM,
    NAMESPACE,
    {"type": "local_shell"},
    SHELL,
    {"type": "apply_patch", "allowed_callers": ["direct"]},
]
SERVER: list[Json] = [
    {"type": "web_search", "name": "w"},
    {"type": "mcp", "server_label": "s", "authorization": 3},
    {"type": "something_new", "tools": []},
]


def item(*tools: Json) -> Json:
    return {"type": "additional_tools", "role": "developer", "tools": list(tools)}


def test_tools_of_the_client_are_loaded_and_others_are_told_apart() -> None:
    mixed = [CLIENT[0], *SERVER, *CLIENT[1:]]
    assert loaded(item(*mixed), "input[0]") == (CLIENT, SERVER)


@pytest.mark.parametrize("tool", CLIENT, ids=lambda tool: str(tool["type"]))
def test_what_is_loaded_could_have_come_in_the_request(tool: Json) -> None:
    (got,), _ = loaded(item({**tool, "bogus": 1}), "input[0]")
    assert got == tool
    assert ask(tools=[got]).tools == [tool]


def test_unknown_keys_are_left_out_wherever_they_are() -> None:
    """Spec §3.4. A schema is the client's own: nothing is unknown in it."""
    inner = {**FUNCTION, "new": 1}
    (got,), _ = loaded(item({**NAMESPACE, "new": 1, "tools": [inner]}), "input[0]")
    assert got == {**NAMESPACE, "tools": [FUNCTION]}


#: tool, where it is wrong, what is said
WRONG: list[tuple[Json, str, str]] = [
    (
        {"type": "function"},
        "name",
        "Missing required parameter: 'input[3].tools[1].name'.",
    ),
    (
        {"type": "function", "name": "f", "parameters": 3},
        "parameters",
        (
            "Invalid type for 'input[3].tools[1].parameters': expected an object, but got an "
            "integer instead."
        ),
    ),
    (
        {**NAMESPACE, "tools": [FUNCTION, {"type": "function", "name": "f!"}]},
        "tools[1].name",
        (
            "Invalid 'input[3].tools[1].tools[1].name': string does not match pattern. Expected "
            "a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        ),
    ),
    (
        {**NAMESPACE, "tools": []},
        "tools",
        (
            "Invalid 'input[3].tools[1].tools': empty array. Expected an array with minimum "
            "length 1, but got an empty array instead."
        ),
    ),
    (
        {**CUSTOM, "format": {"type": "xml"}},
        "format.type",
        "Invalid value: 'xml'. Supported values are: 'text' and 'grammar'.",
    ),
]


@pytest.mark.parametrize(
    ("tool", "place", "message"), WRONG, ids=[f"{row[0]['type']} {row[1]}" for row in WRONG]
)
def test_an_error_names_the_place_in_the_item(tool: Json, place: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        loaded(item(SERVER[0], tool), "input[3]")
    assert caught.value.param == f"input[3].tools[1].{place}"
    assert caught.value.message == message
    assert caught.value.code
