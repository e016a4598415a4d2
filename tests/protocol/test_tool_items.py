"""Tools in items at the door: without secrets (R-91), and not too many (R-118)."""

from typing import Any, Final

import orjson
import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.bodies import parse_body
from antiphon.protocol.conversations import NewItems
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.request import parse_request
from antiphon.protocol.tool_secrets import public, public_url

Json = dict[str, Any]
MESSAGE: Final[Json] = {"role": "user", "content": "Hi"}
MCP: Final[Json] = {
    "type": "mcp",
    "server_label": "z",
    "server_url": "https://me:s3cret@x/mcp?k=s3cret#s3cret",
    "authorization": "s3cret",
    "headers": {"a": "s3cret"},
    "require_approval": "never",
}
NETWORK: Final[Json] = {
    "type": "allowlist",
    "allowed_domains": ["x"],
    "domain_secrets": [{"domain": "x", "name": "n", "value": "s3cret"}],
}
SHOWN: Final[Json] = {
    "type": "mcp",
    "server_label": "z",
    "server_url": "https://x/mcp",
    "require_approval": "never",
}


def items(*tools: Json) -> list[Json]:
    """The tools in an item of each kind."""
    return [
        {"type": "additional_tools", "role": "developer", "tools": list(tools)},
        {"type": "tool_search_call", "call_id": "c", "arguments": {}},
        {"type": "tool_search_output", "call_id": "c", "tools": list(tools)},
    ]


def asked(items: list[Json]) -> bytes:
    return orjson.dumps({"model": "m", "input": [*items, MESSAGE]})


def functions(count: int) -> list[Json]:
    return [{"type": "function", "name": f"f{i}"} for i in range(count)]


@pytest.mark.parametrize("type_", ["mcp", "another"])
def test_secrets_of_tools_in_items_go_at_the_door(type_: str) -> None:
    """R-91: by key, whatever the type says."""
    tool = {**MCP, "type": type_}
    sent = items(tool, {"type": "namespace", "name": "n", "tools": [tool]})
    shown = {**SHOWN, "type": type_}
    request = parse_request(asked(sent))
    kept = parse_body(orjson.dumps({"items": sent}), NewItems)
    for item in (*request.input[::2][:2], *kept.items[::2]):
        assert item["tools"] == [shown, {"type": "namespace", "name": "n", "tools": [shown]}]


@pytest.mark.parametrize(
    ("tool", "shown"),
    [
        (MCP, SHOWN),
        ({"type": "mcp", "server_url": {"url": "s3cret"}}, {"type": "mcp", "server_url": None}),
        (
            {"type": "shell", "environment": {"type": "container_auto", "network_policy": NETWORK}},
            {
                "type": "shell",
                "environment": {
                    "type": "container_auto",
                    "network_policy": {"type": "allowlist", "allowed_domains": ["x"]},
                },
            },
        ),
        (
            {"type": "code_interpreter", "container": {"network_policy": NETWORK}},
            {
                "type": "code_interpreter",
                "container": {"network_policy": {"type": "allowlist", "allowed_domains": ["x"]}},
            },
        ),
        ({"type": "code_interpreter", "container": "cntr_1"},) * 2,
        ({"type": "x", "tools": [5, MCP]}, {"type": "x", "tools": [5, SHOWN]}),
        # a parameter of a function is none of its secrets
        ({"type": "function", "name": "f", "parameters": {"authorization": {}, "headers": {}}},)
        * 2,
    ],
)
def test_a_tool_without_its_secrets(tool: Json, shown: Json) -> None:
    before = orjson.dumps(tool)
    assert public(tool) == shown
    assert orjson.dumps(tool) == before


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x", "https://x"),
        ("https://x:8/a/b?c#d", "https://x:8/a/b"),
        ("https://x#d?c", "https://x"),
        ("https://u:p@x/a@b", "https://x/a@b"),
        ("https://u@p@x", "https://x"),
        ("https://x?a@b", "https://x"),
    ],
)
def test_a_url_without_its_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_a_model_sees_no_secret_of_a_tool_that_was_found() -> None:
    """Also not in an item that is older than this rule, and not where the server is."""
    as_result = ITEM_TYPES["tool_search_output"].as_result
    assert as_result is not None
    result = as_result({"type": "tool_search_output", "call_id": "c", "tools": [MCP]})
    assert result.output == '{"type":"mcp","server_label":"z","require_approval":"never"}'.join(
        "[]"
    )


def test_an_item_has_as_many_tools_as_a_request() -> None:
    parse_request(asked(items(*functions(128))))
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(asked(items(*functions(129))))
    assert caught.value.param == "input[0].tools"
    assert caught.value.code == "array_above_max_length"
    space = {"type": "namespace", "name": "n", "tools": functions(129)}
    with pytest.raises(InvalidRequestError) as caught:
        parse_body(orjson.dumps({"items": items(space)}), NewItems)
    assert caught.value.param == "items[0].tools[0].tools"


def test_all_items_together_have_1024_tools_at_most() -> None:
    """Those in namespaces too."""
    space = {"type": "namespace", "name": "n", "tools": functions(127)}
    [item, *_] = items(*[space] * 4)
    parse_request(asked([item, item]))
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(asked([item, item, *items(*functions(1))]))
    assert caught.value.param == "input[2].tools"
    assert caught.value.code == "array_above_max_length"
    assert "1024" in caught.value.message
