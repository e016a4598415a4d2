"""Items keep keys that their type does not have, and nobody is led astray by them (spec §3.4)."""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import Json, client_of
from tests.live import serve

TOML: Final = """
[[backends]]
name = "simulator"
kind = "simulator"
context_window = 400
models = ["simulator"]
"""
LONG: Final = "lorem ipsum " * 60
CALL: Final[Json] = {
    "type": "function_call",
    "call_id": "c1",
    "name": "f",
    "arguments": "{}",
}
OUTPUT: Final[Json] = {"type": "function_call_output", "call_id": "c1", "output": "x"}
ACTION: Final[Json] = {"type": "exec", "command": ["ls"], "env": {}}
DOT: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
    "DwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
STRAYS: Final[list[Json]] = [
    {"call_id": [1]},
    {"call_id": {"a": 1}},
    {"arguments": True},
    {"arguments": 1},
    {"input": 7},
    {"output": [1]},
    {"role": "user", "content": True},
    {"role": 5},
    {"name": [1]},
    {"name": {"a": 1}},
    {"summary": 3},
]


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with serve(tmp_path_factory.mktemp("stray"), TOML) as live, client_of(live) as client:
        yield client


def items(stray: Json) -> list[Json]:
    """Every kind of item with the stray key, where it is not one of its own."""
    kinds: list[Json] = [
        {"type": "message", "role": "user", "content": LONG},
        CALL,
        OUTPUT,
        {"type": "local_shell_call", "call_id": "c2", "status": "completed", "action": ACTION},
        {"type": "local_shell_call_output", "id": "c2", "output": "x"},
        {"type": "reasoning", "summary": []},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "message", "role": "assistant", "content": LONG},
        {"type": "message", "role": "user", "content": "Go"},
    ]
    own = {
        "reasoning": {"content", "summary"},
        "message": {"content", "role"},
        "function_call_output": {"name"},
        "local_shell_call_output": {"call_id"},
    }
    return [
        {key: value for key, value in stray.items() if key not in own.get(kind["type"], ())} | kind
        for kind in kinds
    ]


@pytest.mark.parametrize("stray", STRAYS, ids=str)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"truncation": "auto"},
        {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
    ],
    ids=["plain", "auto", "compacting"],
)
def test_no_stray_key_breaks_a_response(asker: httpx2.Client, stray: Json, more: Any) -> None:
    reply = asker.post("/v1/responses", json={"model": "simulator", "input": items(stray), **more})
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 400:
        assert reply.json()["error"]["code"] == "context_length_exceeded"
    counted = asker.post(
        "/v1/responses/input_tokens", json={"model": "simulator", "input": items(stray)}
    )
    assert counted.status_code == 200, counted.text


def test_a_label_on_a_call_names_no_server(asker: httpx2.Client) -> None:
    """Calls of renamed functions are looked up by what they have."""
    function = {"type": "function", "name": "f"}
    group = {"type": "namespace", "name": "n", "description": "d", "tools": [function]}
    said = [{"role": "user", "content": "x"}, CALL | {"server_label": [1]}, OUTPUT]
    body = {"model": "simulator", "input": said, "tools": [function, group]}
    reply = asker.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": DOT, "file_data": [1]},
        {"type": "input_image", "image_url": DOT, "file_url": "http://127.0.0.1:1/x"},
        {"type": "input_image", "image_url": DOT, "filename": {"a": 1}},
        {"type": "input_file", "file_data": "aGk=", "filename": "a.txt", "image_url": [1]},
    ],
    ids=lambda part: f"{part['type']} {list(part)[-1]}",
)
def test_a_part_is_where_its_type_says(asker: httpx2.Client, part: Json) -> None:
    body = {"model": "simulator", "input": [{"role": "user", "content": [part]}]}
    reply = asker.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_a_role_on_a_call_makes_no_message_of_it(asker: httpx2.Client, role: str) -> None:
    body = {
        "model": "simulator",
        "input": [
            {"role": "user", "content": "one"},
            CALL | {"role": role},
            OUTPUT | {"role": role},
            {"role": "user", "content": "two"},
        ],
    }
    reply = asker.post("/v1/responses/compact", json=body)
    assert reply.status_code == 200, reply.text
    output = reply.json()["output"]
    assert [item["type"] for item in output] == ["message", "message", "compaction"]
    again = asker.post("/v1/responses", json={"model": "simulator", "input": output})
    assert again.status_code == 200, again.text
