"""@openai/agents, the JavaScript one, against a real server."""

from pathlib import Path
from typing import Final

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import (
    ADA,
    SUNNY,
    THOUGHT,
    TWO_CALLS,
    Flows,
    assert_both_ran,
    calling,
    needs_node,
    node_lock,
    run_node,
    script_of,
    sent_in,
)
from tests.live import LiveServer

VERSION: Final = "0.20.0"
FLOWS: Final[Flows] = {
    "tools": [TWO_CALLS, SUNNY],
    "tools_streamed": [TWO_CALLS, SUNNY],
    "tools_session": [TWO_CALLS, SUNNY],
    "previous_response": [Reply.chat("Hello Ada."), Reply.chat("Ada.")],
    "reasoning": [THOUGHT, SUNNY],
    "handoff": [calling(("call_h", "transfer_to_spanish", "{}")), Reply.chat("Hola.")],
    "structured": [ADA],
}
LOOP: Final = [
    *("tool_call_item", "tool_call_item", "tool_call_output_item", "tool_call_output_item"),
    "message_output_item",
]

pytestmark = needs_node


def test_all_flows(server: LiveServer, upstream: ChatUpstream, tmp_path: Path) -> None:
    upstream.script(*script_of(FLOWS))
    summary = run_node(tmp_path, server, "agents_js")
    assert summary["version"] == VERSION
    shown = summary["flows"]
    assert list(shown) == list(FLOWS)
    assert shown["tools"] == shown["tools_streamed"] == LOOP
    calls = ["function_call"] * 2 + ["function_call_result"] * 2
    assert shown["tools_session"] == ["message", *calls, "message"]
    assert shown["reasoning"] == ["reasoning_item", *LOOP[1:3], LOOP[-1]]
    sent = sent_in(FLOWS, upstream.requests)
    for flow in ("tools", "tools_streamed", "tools_session"):
        assert_both_ran(sent[flow][1]["messages"], "sunny in Paris", "sunny in Rome")
    assert [message["content"] for message in sent["previous_response"][1]["messages"]] == [
        *("My name is Ada.", "Hello Ada.", "My name?")
    ]
    roles = [message["role"] for message in sent["reasoning"][1]["messages"]]
    assert roles == ["user", "assistant", "tool"]
    assert sent["handoff"][1]["messages"][0]["content"] == "Speak Spanish."
    assert sent["structured"][0]["response_format"]["json_schema"]["strict"] is True


def test_the_lock_names_no_address() -> None:
    assert node_lock("agents_js")["@openai/agents"]["version"] == VERSION
