"""Item types: what may be sent back, what their events do, and how a chat model reads them."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.protocol.effects import Fold
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Call, Result
from antiphon.protocol.request import parse_request
from antiphon.protocol.untrusted import quoted

Json = dict[str, Any]
#: Output items as OpenAI sent them, one of each shape; long texts are cut.
RECORDED: list[Json] = [
    orjson.loads(line)
    for line in (Path(__file__).parent / "recorded_items.jsonl").read_bytes().splitlines()
]
#: Spec App. B and C.
TYPES = {
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "custom_tool_call",
    "custom_tool_call_output",
    "file_search_call",
    "function_call",
    "function_call_output",
    "image_generation_call",
    "item_reference",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "message",
    "program",
    "program_output",
    "reasoning",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
}


def accept(item: Json) -> Json:
    """The item as the request holds it."""
    [accepted] = parse_request(orjson.dumps({"model": "m", "input": [item]})).input
    return accepted


def test_every_item_type_of_the_spec_is_known() -> None:
    assert set(ITEM_TYPES) == TYPES
    assert all(item_type.type == name for name, item_type in ITEM_TYPES.items())


def test_an_event_belongs_to_one_item_type() -> None:
    events = [event for item_type in ITEM_TYPES.values() for event in item_type.effects]
    assert len(events) == len(set(events))


@pytest.mark.parametrize(
    ("type_", "prefix"),
    [
        ("message", "msg"),
        ("reasoning", "rs"),
        ("function_call", "fc"),
        ("function_call_output", "fc"),
        ("custom_tool_call", "ctc"),
        ("web_search_call", "ws"),
        ("file_search_call", "fs"),
        ("code_interpreter_call", "ci"),
        ("image_generation_call", "ig"),
        ("mcp_call", "mcp"),
        ("mcp_list_tools", "mcpl"),
        ("mcp_approval_request", "mcpr"),
        ("compaction", "cmp"),
        ("tool_search_call", "tsc"),
        ("tool_search_output", "tso"),
        ("shell_call", "sh"),
        ("shell_call_output", "sho"),
        ("local_shell_call", "lsh"),
        ("apply_patch_call", "apc"),
        ("program", "cm"),
        ("computer_call", "cu"),
    ],
)
def test_prefixes(type_: str, prefix: str) -> None:
    """Spec §3.1."""
    assert ITEM_TYPES[type_].prefix == prefix


@pytest.mark.parametrize("item", RECORDED, ids=lambda item: item["type"])
def test_what_openai_sent_may_be_sent_back(item: Json) -> None:
    kept = {key: value for key, value in item.items() if value is not None}
    assert accept(item) == kept


@pytest.mark.parametrize("item", RECORDED, ids=lambda item: item["type"])
def test_ids_and_status_are_optional(item: Json) -> None:
    """Design §5: lenient in."""
    if item["type"] in ("apply_patch_call_output", "local_shell_call_output"):
        return
    bare = {key: value for key, value in item.items() if key not in ("id", "status")}
    assert accept(bare)["type"] == item["type"]


# -- how a chat model reads them -----------------------------------------------------------------

READ: list[tuple[Json, Call | None, Result | None]] = [
    (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
        Call("c", "f", '{"a":1}'),
        None,
    ),
    (
        {"type": "function_call_output", "call_id": "c", "output": "42"},
        None,
        Result("c", "42"),
    ),
    (
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "x"}],
        },
        None,
        Result("c", [{"type": "input_text", "text": "x"}]),
    ),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": 'SELECT "a"'},
        Call("c", "sql", '{"input":"SELECT \\"a\\""}'),
        None,
    ),
    ({"type": "custom_tool_call_output", "call_id": "c", "output": "1"}, None, Result("c", "1")),
    (
        {
            "type": "web_search_call",
            "id": "ws_1",
            "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "u"}]},
        },
        Call("ws_1", "web_search", '{"query":"q"}'),
        Result("ws_1", quoted("web_search", '[{"type":"url","url":"u"}]')),
    ),
    (
        {"type": "web_search_call", "id": "ws_1", "status": "failed"},
        Call("ws_1", "web_search", "{}"),
        Result("ws_1", "failed"),
    ),
    (
        {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "status": "completed"},
        Call("fs_1", "file_search", '{"queries":["q"]}'),
        Result("fs_1", "completed"),
    ),
    (
        {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "results": [{"text": "t"}]},
        Call("fs_1", "file_search", '{"queries":["q"]}'),
        Result("fs_1", quoted("file_search", '[{"text":"t"}]')),
    ),
    (
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "1+1",
            "outputs": [{"type": "logs", "logs": "2"}, {"type": "image", "url": "http://i"}],
        },
        Call("ci_1", "code_interpreter", '{"code":"1+1"}'),
        Result(
            "ci_1",
            [
                {"type": "input_text", "text": quoted("code_interpreter", "2")},
                {"type": "input_image", "image_url": "http://i", "detail": "auto"},
            ],
        ),
    ),
    (
        {"type": "image_generation_call", "id": "ig_1", "result": "QQ==", "output_format": "webp"},
        Call("ig_1", "image_generation", '{"prompt":""}'),
        Result(
            "ig_1",
            [
                {"type": "input_text", "text": "The image was made (webp)."},
                {
                    "type": "input_image",
                    "image_url": "data:image/webp;base64,QQ==",
                    "detail": "auto",
                },
            ],
        ),
    ),
    (
        {"type": "image_generation_call", "id": "ig_1", "status": "failed"},
        Call("ig_1", "image_generation", '{"prompt":""}'),
        Result("ig_1", "failed"),
    ),
    (
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "l",
            "name": "n",
            "arguments": "{}",
            "output": "o",
        },
        Call("mcp_1", "n", "{}"),
        Result("mcp_1", quoted("mcp server l", "o")),
    ),
    (
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "l",
            "name": "n",
            "arguments": "{}",
            "error": {"type": "http_error", "code": 500},
        },
        Call("mcp_1", "n", "{}"),
        Result("mcp_1", quoted("mcp server l", '{"type":"http_error","code":500}')),
    ),
    (
        {
            "type": "mcp_call",
            "server_label": "l",
            "name": "n",
            "arguments": "{}",
            "error": "broken",
        },
        Call("mcp_call", "n", "{}"),
        Result("mcp_call", quoted("mcp server l", "broken")),
    ),
    (
        {
            "type": "mcp_call",
            "id": "mcp_2",
            "server_label": "l",
            "name": "n",
            "arguments": "{oops",
            "output": "See 【1】, and 【中】.",
        },
        Call("mcp_2", "n", '{"input":"{oops"}'),
        Result("mcp_2", quoted("mcp server l", "See [1】, and 【中】.")),
    ),
    (
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"], "timeout_ms": None}},
        Call("c", "shell", '{"commands":["ls"]}'),
        None,
    ),
    (
        {
            "type": "shell_call_output",
            "call_id": "c",
            "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "timeout"}}],
        },
        None,
        Result("c", '[{"stdout":"a","stderr":"","outcome":{"type":"timeout"}}]'),
    ),
    (
        {
            "type": "local_shell_call",
            "call_id": "c",
            "action": {"type": "exec", "command": ["ls"], "env": {}},
        },
        Call("c", "local_shell", '{"type":"exec","command":["ls"],"env":{}}'),
        None,
    ),
    (
        {"type": "local_shell_call_output", "id": "call_1", "output": "a"},
        None,
        Result("call_1", "a"),
    ),
    (
        {
            "type": "apply_patch_call",
            "call_id": "c",
            "operation": {"type": "delete_file", "path": "a"},
        },
        Call("c", "apply_patch", '{"type":"delete_file","path":"a"}'),
        None,
    ),
    (
        {"type": "apply_patch_call_output", "call_id": "c", "status": "failed"},
        None,
        Result("c", "failed"),
    ),
    (
        {
            "type": "computer_call",
            "call_id": "c",
            "actions": [{"type": "wait"}, {"type": "screenshot"}],
        },
        Call("c", "computer", '{"actions":[{"type":"wait"},{"type":"screenshot"}]}'),
        None,
    ),
    (
        {
            "type": "computer_call_output",
            "call_id": "c",
            "output": {"type": "computer_screenshot", "image_url": "data:,", "file_id": None},
        },
        None,
        Result("c", [{"type": "input_image", "detail": "auto", "image_url": "data:,"}]),
    ),
    (
        {"type": "tool_search_call", "call_id": None, "arguments": {"q": "x"}},
        Call("tool_search", "tool_search", '{"q":"x"}'),
        None,
    ),
    (
        {"type": "tool_search_call", "call_id": "c", "arguments": "{}"},
        Call("c", "tool_search", "{}"),
        None,
    ),
    (
        {"type": "tool_search_output", "call_id": "c", "tools": [{"type": "function"}]},
        None,
        Result("c", '[{"type":"function"}]'),
    ),
    (
        {"type": "program", "call_id": "c", "code": "x()"},
        Call("c", "programmatic_tool_calling", '{"code":"x()"}'),
        None,
    ),
    ({"type": "program_output", "call_id": "c", "result": "1"}, None, Result("c", "1")),
    ({"type": "compaction", "encrypted_content": "x"}, None, None),
    ({"type": "mcp_list_tools", "server_label": "l", "tools": []}, None, None),
    ({"type": "reasoning", "summary": []}, None, None),
]


@pytest.mark.parametrize(("item", "call", "result"), READ)
def test_how_a_chat_model_reads_an_item(
    item: Json, call: Call | None, result: Result | None
) -> None:
    accepted, item_type = accept(item), ITEM_TYPES[item["type"]]
    assert (item_type.as_call(accepted) if item_type.as_call else None) == call
    assert (item_type.as_result(accepted) if item_type.as_result else None) == result


# -- their events --------------------------------------------------------------------------------


def play(item: Json, *events: Json) -> Json:
    """What the events make of the item, the only one of its response."""
    fold = Fold()
    fold.replace({"output": [item]})
    for event in events:
        effect = ITEM_TYPES[item["type"]].effects[event.pop("type")]
        effect(fold, {"output_index": 0, **event})
    [changed] = fold.snapshot()["output"]
    assert isinstance(changed, dict)
    return changed


def test_text_grows_in_its_part() -> None:
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = play(
        {"type": "message", "content": []},
        {"type": "response.content_part.added", "content_index": 0, "part": part},
        {"type": "response.output_text.delta", "content_index": 0, "delta": "a", "logprobs": []},
        {"type": "response.output_text.delta", "content_index": 0, "delta": "b", "logprobs": []},
        {
            "type": "response.output_text.annotation.added",
            "content_index": 0,
            "annotation_index": 0,
            "annotation": {"type": "file_path"},
        },
        {"type": "response.content_part.added", "content_index": 1, "part": {"refusal": ""}},
        {"type": "response.refusal.delta", "content_index": 1, "delta": "no"},
    )
    assert item["content"][0]["text"] == "ab"
    assert item["content"][0]["annotations"] == [{"type": "file_path"}]
    assert item["content"][1] == {"refusal": "no"}


def test_reasoning_and_its_summary_grow_apart() -> None:
    item = play(
        {"type": "reasoning", "summary": [], "content": [{"text": ""}]},
        {"type": "response.reasoning_text.delta", "content_index": 0, "delta": "raw"},
        {
            "type": "response.reasoning_summary_part.added",
            "summary_index": 0,
            "part": {"type": "summary_text", "text": ""},
        },
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "short"},
        {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": "shorter"},
    )
    assert item["content"] == [{"text": "raw"}]
    assert item["summary"] == [{"type": "summary_text", "text": "shorter"}]


@pytest.mark.parametrize(
    ("type_", "field", "event"),
    [
        ("function_call", "arguments", "response.function_call_arguments"),
        ("custom_tool_call", "input", "response.custom_tool_call_input"),
        ("mcp_call", "arguments", "response.mcp_call_arguments"),
        ("code_interpreter_call", "code", "response.code_interpreter_call_code"),
    ],
)
def test_strings_of_calls_grow(type_: str, field: str, event: str) -> None:
    deltas = [{"type": f"{event}.delta", "delta": fragment} for fragment in ("{", "}")]
    assert play({"type": type_, field: ""}, *deltas)[field] == "{}"
    assert play({"type": type_, field: ""}, {"type": f"{event}.done", field: "x"})[field] == "x"


@pytest.mark.parametrize(
    ("type_", "steps"),
    [
        ("web_search_call", ["in_progress", "searching", "completed"]),
        ("file_search_call", ["in_progress", "searching", "completed"]),
        ("code_interpreter_call", ["in_progress", "interpreting", "completed"]),
        ("image_generation_call", ["in_progress", "generating", "completed"]),
        ("mcp_call", ["in_progress", "completed"]),
        ("mcp_call", ["in_progress", "failed"]),
    ],
)
def test_progress_of_hosted_tools(type_: str, steps: list[str]) -> None:
    for step in steps:
        assert play({"type": type_}, {"type": f"response.{type_}.{step}"})["status"] == step


def test_shell_commands_grow_one_after_the_other() -> None:
    item = {"type": "shell_call", "action": {"commands": []}}
    changed = play(
        item,
        {"type": "response.shell_call_command.added", "command_index": 0, "command": ""},
        {"type": "response.shell_call_command.delta", "command_index": 0, "delta": "l"},
        {"type": "response.shell_call_command.delta", "command_index": 0, "delta": "s"},
        {"type": "response.shell_call_command.done", "command_index": 0, "command": "ls"},
        {"type": "response.shell_call_command.added", "command_index": 1, "command": ""},
        {"type": "response.shell_call_command.delta", "command_index": 1, "delta": "pwd"},
    )
    assert changed["action"]["commands"] == ["ls", "pwd"]
    gap = {"type": "response.shell_call_command.added", "command_index": 2, "command": ""}
    with pytest.raises(IndexError):
        play({"type": "shell_call", "action": {"commands": []}}, gap)


def test_shell_output_grows_by_stream() -> None:
    output = {"stdout": "ab", "stderr": "e", "outcome": {"type": "exit", "exit_code": 3}}
    deltas: list[Json] = [
        {
            "type": "response.shell_call_output_content.delta",
            "command_index": 0,
            "delta": {"stdout": "a"},
        },
        {
            "type": "response.shell_call_output_content.delta",
            "command_index": 0,
            "delta": {"stdout": "b", "stderr": "e"},
        },
    ]
    item = play({"type": "shell_call_output", "output": []}, *[dict(delta) for delta in deltas])
    assert (item["output"][0]["stdout"], item["output"][0]["stderr"]) == ("ab", "e")
    done = {
        "type": "response.shell_call_output_content.done",
        "command_index": 0,
        "output": [output],
    }
    assert play({"type": "shell_call_output", "output": []}, *deltas, done)["output"] == [output]


def test_the_diff_of_a_patch_grows() -> None:
    item = {"type": "apply_patch_call", "operation": {"type": "create_file", "diff": ""}}
    event = "response.apply_patch_call_operation_diff"
    deltas = [{"type": f"{event}.delta", "delta": text} for text in ("+a", "\n")]
    assert play(item, *deltas)["operation"]["diff"] == "+a\n"
    done = {"type": f"{event}.done", "diff": "+b"}
    assert play(item, done)["operation"]["diff"] == "+b"


def test_some_events_change_nothing() -> None:
    for type_, event in [
        ("mcp_list_tools", "response.mcp_list_tools.completed"),
        ("compaction", "response.compaction.compacting"),
        ("image_generation_call", "response.image_generation_call.partial_image"),
    ]:
        assert play({"type": type_}, {"type": event}) == {"type": type_}
