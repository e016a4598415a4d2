"""Request bodies as Codex sends them: namespace, custom with its grammar, web_search, local_shell,
tool_search in one request, streamed and unstored (issue 5/8, must show 5)."""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import Json, client_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import LiveServer

#: The grammar of Codex's own tool.
APPLY_PATCH: Final = r"""start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF

%import common.LF
"""
PATCH: Final = """*** Begin Patch
*** Update File: a.txt
@@ def f():
-old
+new
*** Add File: b.txt
+hello
*** End Patch
"""
FUNCTION: Final[Json] = {
    "type": "function",
    "name": "update_plan",
    "description": "Plan.",
    "strict": False,
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}
CREATE: Final[Json] = {**FUNCTION, "name": "create_issue", "defer_loading": True}
TOOLS: Final[list[Json]] = [
    FUNCTION,
    {"type": "local_shell"},
    {
        "type": "custom",
        "name": "apply_patch",
        "description": "Edits files.",
        "format": {"type": "grammar", "syntax": "lark", "definition": APPLY_PATCH},
    },
    {
        "type": "web_search",
        "external_web_access": False,
        "search_content_types": ["text", "image"],
    },
    {
        "type": "namespace",
        "name": "mcp__github__",
        "description": "Tools of GitHub.",
        "tools": [{**FUNCTION, "name": "list_issues"}],
    },
    {
        "type": "namespace",
        "name": "mcp__linear__",
        "description": "Tools of Linear.",
        "tools": [CREATE],
    },
    {
        "type": "tool_search",
        "execution": "client",
        "description": "Finds tools.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
        },
    },
]
BODY: Final[Json] = {
    "model": "m",
    "instructions": "You are Codex.",
    "tools": TOOLS,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "client_metadata": {"session_id": "0199a213-81c0-7800-8aa1-bbab2a035a53"},
    "text": {"verbosity": "low"},
}


@pytest.fixture
def api(server: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(server) as client:
        yield client


def said(text: str, role: str = "user") -> Json:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


START: Final = [said("<permissions>", "developer"), said("<environment_context>"), said("Fix it.")]


def ask(api: httpx2.Client, items: list[Json], **more: Any) -> tuple[Json, list[Json]]:
    """The final Response and the events."""
    reply = api.post("/v1/responses", json={**BODY, "input": items, **more})
    assert reply.status_code == 200, reply.text
    found = events(reply.text)
    final: Json = found[-1]["response"]
    assert final["status"] == "completed", final["error"]
    return final, found


def test_a_whole_session(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """Every kind of call comes back as Codex knows it, and its output is understood."""
    upstream.script(
        Reply.calls(
            ("local_shell", {"command": ["bash", "-lc", "ls"], "timeout_ms": 1000}),
            ("apply_patch", {"input": PATCH}),
            ("list_issues", {}),
            ("update_plan", {}),
        )
    )
    final, found = ask(api, START)
    calls = {item["type"]: item for item in final["output"]}
    assert [item["type"] for item in final["output"]] == [
        *("function_call", "function_call", "local_shell_call", "custom_tool_call")
    ]
    assert calls["local_shell_call"]["action"]["command"] == ["bash", "-lc", "ls"]
    assert calls["local_shell_call"]["action"]["timeout_ms"] == 1000
    assert calls["custom_tool_call"]["input"] == PATCH
    listing, plan = final["output"][:2]
    assert (listing["name"], listing["namespace"]) == ("list_issues", "mcp__github__")
    assert "namespace" not in plan
    announced = [e["item"] for e in found if e["type"] == "response.output_item.added"]
    assert [item["call_id"] for item in announced] == [i["call_id"] for i in final["output"]]
    names = [tool["function"]["name"] for tool in upstream.requests[0].json["tools"]]
    assert names == [
        *("update_plan", "local_shell", "apply_patch"),
        *("web_search", "open_page", "find_in_page"),
        *("list_issues", "tool_search"),
    ]
    upstream.script(Reply.chat("Done."))
    upstream.requests.clear()
    outputs = [
        {
            "type": "local_shell_call_output",
            "id": calls["local_shell_call"]["id"],
            "call_id": calls["local_shell_call"]["call_id"],
            "output": "a.txt",
        },
        {
            "type": "custom_tool_call_output",
            "call_id": calls["custom_tool_call"]["call_id"],
            "output": "ok",
        },
        *(
            {"type": "function_call_output", "call_id": one["call_id"], "output": "[]"}
            for one in (listing, plan)
        ),
    ]
    final, _ = ask(api, [*START, *final["output"], *outputs])
    assert final["output_text"] == "Done."
    sent = upstream.requests[0].json["messages"]
    assert [message["role"] for message in sent][-5:] == ["assistant", *["tool"] * 4]
    told = [(c["id"], c["function"]["name"]) for c in sent[-5]["tool_calls"]]
    assert {name for _, name in told} == {
        *("local_shell", "apply_patch", "list_issues", "update_plan")
    }
    assert [message["tool_call_id"] for message in sent[-4:]] == [id_ for id_, _ in told]


def test_a_search_of_tools_by_the_client(api: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(Reply.calls(("tool_search", {"query": "issues"})))
    final, _ = ask(api, START)
    (search,) = final["output"]
    assert search["type"] == "tool_search_call"
    assert search["arguments"] == {"query": "issues"}
    assert search["execution"] == "client"
    found: Json = {
        "type": "tool_search_output",
        "call_id": search["call_id"],
        "execution": "client",
        "status": "completed",
        "tools": [{**TOOLS[5], "tools": [{**CREATE, "defer_loading": True}]}],
    }
    upstream.script(Reply.calls(("create_issue", {})))
    upstream.requests.clear()
    final, _ = ask(api, [*START, search, found])
    (call,) = final["output"]
    assert (call["type"], call["name"]) == ("function_call", "create_issue")
    assert call["namespace"] == "mcp__linear__"
    names = [tool["function"]["name"] for tool in upstream.requests[0].json["tools"]]
    assert "create_issue" in names


def test_a_patch_that_is_none_never_reaches_codex(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(
        Reply.calls(("apply_patch", {"input": "please change a.txt"})),
        Reply.calls(("apply_patch", {"input": PATCH})),
    )
    final, _ = ask(api, START)
    assert [item["input"] for item in final["output"]] == [PATCH]
    told = upstream.requests[1].json["messages"][-1]
    assert told["role"] == "tool"
    assert "grammar" in told["content"]


@pytest.mark.parametrize("type_", ["local_shell", "shell", "apply_patch"])
def test_one_tool_alone(api: httpx2.Client, upstream: ChatUpstream, type_: str) -> None:
    """As a named choice, too."""
    upstream.script(Reply.chat("x"))
    made, _ = ask(api, START, tools=[{"type": type_}], tool_choice="required")
    assert made["tools"][0]["type"] == type_
    named = {"type": "function", "function": {"name": type_}}
    if type_ != "local_shell":  # no choice in the types that events are held against
        ask(api, START, tools=[{"type": type_}], tool_choice={"type": type_})
        assert upstream.requests[-1].json["tool_choice"] == named
