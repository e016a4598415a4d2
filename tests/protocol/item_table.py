"""The items of `input`, written from spec §3.4, App. B and App. C by hand (see
`test_request_fields`).
"""

from typing import Any

from tests.protocol.request_table import STATUS, Json, Row


def a_item(**fields: Any) -> Json:
    return {"input": [fields]}


def a_part(**fields: Any) -> Json:
    return {"input": [{"type": "message", "role": "user", "content": [fields]}]}


ROLES = ("assistant", "system", "developer", "user")

#: A valid body, and the fields that are in it.
ITEMS: list[tuple[Json, list[Row]]] = [
    (
        a_item(type="message", role="user", content="x"),
        [
            Row("input[0]", "object", required=True),
            Row(
                "input[0].role", "enum", ("assistant", "system", "developer", "user"), required=True
            ),
            Row("input[0].status", "enum", STATUS),
            Row("input[0].phase", "enum", ("commentary", "final_answer")),
            Row("input[0].id", "string"),
        ],
    ),
    (
        a_part(type="input_text", text="x", prompt_cache_breakpoint={"mode": "explicit"}),
        [
            Row("input[0].content[0]", "object", required=True),
            Row("input[0].content[0].type", "type", ("input_text",), required=True),
            Row("input[0].content[0].text", "string", required=True, high=10_485_760),
            Row("input[0].content[0].prompt_cache_breakpoint", "object"),
            Row(
                "input[0].content[0].prompt_cache_breakpoint.mode",
                "enum",
                ("explicit",),
                required=True,
            ),
            Row("input[0].content[0].prompt_cache_breakpoint.ttl", "enum", ("30m", "12h")),
        ],
    ),
    (
        a_part(type="input_image", image_url="https://x/y.png"),
        [Row("input[0].content[0].detail", "enum", ("low", "high", "auto", "original"))],
    ),
    (
        a_part(type="input_file", file_data="QQ==", filename="a.txt"),
        [
            Row("input[0].content[0].filename", "string"),
            Row("input[0].content[0].detail", "enum", ("auto", "low", "high")),
        ],
    ),
    (
        a_part(type="input_audio", input_audio={"data": "QQ==", "format": "mp3"}),
        [
            Row("input[0].content[0].input_audio", "object", required=True),
            Row("input[0].content[0].input_audio.data", "string", required=True),
            Row("input[0].content[0].input_audio.format", "enum", ("mp3", "wav"), required=True),
        ],
    ),
    (
        a_part(type="output_text", text="x", annotations=[], logprobs=[]),
        [
            Row("input[0].content[0].text", "string", required=True),
            Row("input[0].content[0].annotations", "array"),
            Row("input[0].content[0].logprobs", "array"),
        ],
    ),
    (
        a_part(type="refusal", refusal="no"),
        [Row("input[0].content[0].refusal", "string", required=True)],
    ),
    (
        a_item(
            type="function_call", call_id="c", name="f", arguments="{}", caller={"type": "direct"}
        ),
        [
            Row("input[0].call_id", "string", required=True, low=1, high=64),
            Row("input[0].name", "string", required=True),
            Row("input[0].arguments", "string", required=True),
            Row("input[0].namespace", "string"),
            Row("input[0].status", "enum", STATUS),
            Row("input[0].caller", "object"),
            Row("input[0].caller.type", "type", ("direct",), required=True),
        ],
    ),
    (
        a_item(type="function_call_output", call_id="c", output="x"),
        [
            Row("input[0].call_id", "string", low=1, high=64),
            Row("input[0].name", "string"),
            Row("input[0].status", "enum", STATUS),
        ],
    ),
    (
        a_item(type="custom_tool_call", call_id="c", name="f", input="x"),
        [
            Row("input[0].call_id", "string", required=True, low=1, high=64),
            Row("input[0].input", "string", required=True),
            Row("input[0].name", "string", required=True),
        ],
    ),
    (
        a_item(type="custom_tool_call_output", call_id="c", output="x"),
        [Row("input[0].call_id", "string", required=True, low=1, high=64)],
    ),
    (
        a_item(
            type="reasoning",
            summary=[{"type": "summary_text", "text": "x"}],
            content=[{"type": "reasoning_text", "text": "x"}],
        ),
        [
            Row("input[0].summary", "array"),
            Row("input[0].summary[0].text", "string", required=True),
            Row("input[0].summary[0].type", "enum", ("summary_text",), required=True),
            Row("input[0].content", "array"),
            Row("input[0].content[0].text", "string", required=True),
            Row("input[0].encrypted_content", "string"),
            Row("input[0].status", "enum", STATUS),
        ],
    ),
    (
        a_item(type="web_search_call", action={"type": "find_in_page", "url": "u", "pattern": "p"}),
        [
            Row(
                "input[0].action.type",
                "type",
                ("search", "open_page", "find_in_page"),
                required=True,
            ),
            Row("input[0].action.pattern", "string", required=True),
            Row("input[0].status", "enum", (*STATUS[:1], "searching", "completed", "failed")),
        ],
    ),
    (
        a_item(type="file_search_call", queries=["q"], results=[{}]),
        [
            Row("input[0].queries", "array"),
            Row("input[0].queries[0]", "string", required=True),
            Row("input[0].results", "array"),
            Row("input[0].results[0].score", "decimal"),
            Row("input[0].results[0].attributes", "object"),
        ],
    ),
    (
        a_item(type="code_interpreter_call", code="1", outputs=[{"type": "logs", "logs": "1"}]),
        [
            Row("input[0].code", "string"),
            Row("input[0].container_id", "string"),
            Row("input[0].outputs", "array"),
            Row("input[0].outputs[0].type", "type", ("logs", "image"), required=True),
            Row("input[0].outputs[0].logs", "string", required=True),
        ],
    ),
    (
        a_item(type="image_generation_call", id="ig_1", error={}),
        [
            Row("input[0].result", "string"),
            Row("input[0].error", "object"),
            Row("input[0].error.code", "string"),
            Row("input[0].error.message", "string"),
            Row("input[0].status", "enum", ("in_progress", "completed", "generating", "failed")),
            Row("input[0].output_format", "enum", ("png", "webp", "jpeg", "gif", "svg")),
        ],
    ),
    (
        a_item(type="mcp_call", server_label="l", name="n", arguments="{}"),
        [
            Row("input[0].server_label", "string", required=True),
            Row("input[0].name", "string", required=True),
            Row("input[0].arguments", "string", required=True),
            Row("input[0].output", "string"),
        ],
    ),
    (
        a_item(type="mcp_list_tools", server_label="l", tools=[{"name": "n", "input_schema": {}}]),
        [
            Row("input[0].server_label", "string", required=True),
            Row("input[0].tools", "array", required=True),
            Row("input[0].tools[0].name", "string", required=True),
            Row("input[0].tools[0].input_schema", "object"),
        ],
    ),
    (
        a_item(type="mcp_approval_response", approval_request_id="mcpr_1", approve=True),
        [
            Row("input[0].approval_request_id", "string", required=True),
            Row("input[0].approve", "boolean", required=True),
            Row("input[0].reason", "string"),
        ],
    ),
    (
        a_item(type="shell_call", call_id="c", action={"commands": ["ls"]}),
        [
            Row("input[0].call_id", "string", required=True, low=1, high=64),
            Row("input[0].action", "object", required=True),
            Row("input[0].action.commands", "array", required=True),
            Row("input[0].action.commands[0]", "string", required=True),
            Row("input[0].action.timeout_ms", "integer"),
        ],
    ),
    (
        a_item(
            type="shell_call_output",
            call_id="c",
            output=[{"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        ),
        [
            Row("input[0].output", "array", required=True),
            Row("input[0].output[0].stdout", "string", required=True),
            Row("input[0].output[0].outcome", "object", required=True),
            Row("input[0].output[0].outcome.type", "type", ("exit", "timeout"), required=True),
            Row("input[0].output[0].outcome.exit_code", "integer", required=True),
        ],
    ),
    (
        a_item(type="local_shell_call", call_id="c", action={"type": "exec", "command": ["ls"]}),
        [
            Row("input[0].action.type", "enum", ("exec",), required=True),
            Row("input[0].action.command", "array", required=True),
            Row("input[0].action.env", "object"),
        ],
    ),
    (
        a_item(type="local_shell_call_output", id="call_1", output="x"),
        [Row("input[0].output", "string", required=True)],
    ),
    (
        a_item(
            type="apply_patch_call",
            call_id="c",
            operation={"type": "create_file", "path": "a", "diff": "+x"},
        ),
        [
            Row("input[0].operation", "object", required=True),
            Row("input[0].operation.path", "string", required=True),
            Row("input[0].operation.diff", "string", required=True),
            Row("input[0].status", "enum", ("in_progress", "completed")),
        ],
    ),
    (
        a_item(type="apply_patch_call_output", call_id="c", status="completed"),
        [
            Row("input[0].status", "enum", ("completed", "failed"), required=True),
            Row("input[0].output", "string"),
        ],
    ),
    (
        a_item(
            type="computer_call",
            call_id="c",
            action={"type": "click", "button": "left", "x": 1, "y": 2},
        ),
        [
            Row("input[0].action.x", "integer", required=True),
            Row(
                "input[0].action.button",
                "enum",
                ("left", "right", "wheel", "back", "forward"),
                required=True,
            ),
        ],
    ),
    (
        a_item(type="tool_search_output", tools=[{"type": "function", "name": "f"}]),
        [
            Row("input[0].tools", "array", required=True),
            Row("input[0].tools[0].type", "string", required=True),
            Row("input[0].execution", "enum", ("server", "client")),
        ],
    ),
    (
        a_item(type="additional_tools", role="developer", tools=[]),
        [Row("input[0].tools", "array", required=True)],
    ),
    (
        a_item(type="compaction", encrypted_content="x"),
        [Row("input[0].encrypted_content", "string", required=True)],
    ),
    (
        a_item(type="program", call_id="c", code="x", fingerprint="f"),
        [Row("input[0].code", "string", required=True), Row("input[0].fingerprint", "string")],
    ),
    (
        a_item(type="program_output", call_id="c", result="x"),
        [Row("input[0].result", "string", required=True)],
    ),
    (a_item(id="msg_1"), [Row("input[0].id", "string", required=False)]),
]
