"""The Vercel AI SDK with its OpenAI provider against a real server."""

from pathlib import Path
from typing import Any, Final

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import (
    ADA,
    CUT,
    HALF,
    LIMITED,
    SUNNY,
    THOUGHT,
    TWO_CALLS,
    Flows,
    assert_both_ran,
    needs_node,
    node_lock,
    run_node,
    script_of,
    sent_in,
)
from tests.live import LiveServer

VERSIONS: Final = {"@ai-sdk/openai": "4.0.118", "ai": "7.0.173"}
NAMED: Final = [Reply.chat("Hello Ada."), Reply.chat("Ada.")]
FLOWS: Final[Flows] = {
    "text": [Reply.chat("Hello")],
    "text_streamed": [Reply.chat("Hel", "lo")],
    "tools": [TWO_CALLS, SUNNY],
    "tools_unstored": [TWO_CALLS, SUNNY],
    "tools_streamed": [TWO_CALLS, SUNNY],
    "tools_streamed_unstored": [TWO_CALLS, SUNNY],
    "reasoning": [THOUGHT, SUNNY],
    "reasoning_unstored": [THOUGHT, SUNNY],
    "object": [ADA, ADA],
    "object_streamed": [ADA],
    "image": [Reply.chat("A cat.")],
    "multi_turn": NAMED,
    "previous_response": NAMED,
    "incomplete": [HALF],
    "errors": [LIMITED],
    "failed": [CUT],
}

pytestmark = needs_node


def test_all_flows(server: LiveServer, upstream: ChatUpstream, tmp_path: Path) -> None:
    upstream.script(*script_of(FLOWS))
    summary = run_node(tmp_path, server, "ai_sdk")
    assert summary["versions"] == VERSIONS
    assert_shown(summary["flows"])
    sent = sent_in(FLOWS, upstream.requests)
    for flow in FLOWS:
        if flow.startswith("tools"):
            assert_both_ran(sent[flow][1]["messages"], "sunny in Paris", "sunny in Rome")
    for flow in ("reasoning", "reasoning_unstored"):
        roles = [message["role"] for message in sent[flow][1]["messages"]]
        assert roles == ["user", "assistant", "tool"]
    for body in (*sent["object"], *sent["object_streamed"]):
        schema = body["response_format"]["json_schema"]
        assert schema["strict"] is True
        assert schema["schema"]["required"] == ["name", "age"]
    kinds = [part["type"] for part in sent["image"][0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url"]
    for flow in ("multi_turn", "previous_response"):
        assert [message["content"] for message in sent[flow][1]["messages"]] == [
            *("My name is Ada.", "Hello Ada.", "My name?")
        ]


def assert_shown(shown: dict[str, Any]) -> None:
    assert list(shown) == list(FLOWS)
    assert shown["text_streamed"] == [
        *("start", "start-step", "text-start", "text-delta", "text-delta", "text-end"),
        *("finish-step", "finish"),
    ]
    assert shown["tools_streamed"] == shown["tools_streamed_unstored"]
    assert shown["tools_streamed"] == [
        ["call_a", '{"city"'],
        ["call_a", ':"Paris"}'],
        ["call_b", '{"city":"Rome"}'],
    ]
    for flow in ("reasoning", "reasoning_unstored"):
        assert shown[flow] == ["reasoning-start", "reasoning-delta", "reasoning-end"]
    assert shown["object_streamed"] == [{"name": "Ada"}, {"name": "Ada", "age": 36}]
    assert "error" in shown["failed"]


def test_the_lock_names_no_address() -> None:
    locked = node_lock("ai_sdk")
    assert {name: locked[name]["version"] for name in VERSIONS} == VERSIONS
