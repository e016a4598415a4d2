"""pydantic-ai's `OpenAIResponsesModel` against a real server."""

from typing import Final

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import (
    ADA,
    LIMITED,
    SUNNY,
    THOUGHT,
    TWO_CALLS,
    Flows,
    assert_both_ran,
    calling,
    python_lock,
    run_python,
    script_of,
    sent_in,
)
from tests.live import LiveServer

VERSION: Final = "2.68.0"
FLOWS: Final[Flows] = {
    "run": [Reply.chat("Hello")],
    "stream": [Reply.chat("Hel", "lo")],
    "tools": [TWO_CALLS, SUNNY],
    "tools_streamed": [TWO_CALLS, SUNNY],
    "tools_chained": [TWO_CALLS, SUNNY, Reply.chat("You are welcome.")],
    "reasoning": [THOUGHT, SUNNY],
    "structured": [calling(("call_p", "final_result", '{"name":"Ada","age":36}')), ADA],
    "image": [Reply.chat("A cat.")],
    "errors": [LIMITED],
}
LOOP: Final = [
    *("user-prompt", "tool-call", "tool-call", "tool-return", "tool-return"),
    "text",
]


def test_all_flows(server: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(*script_of(FLOWS))
    summary = run_python(server, "pydantic_ai_flows.py", "clients-pydantic-ai")
    assert summary["version"] == VERSION
    assert summary["flows"] == {
        "run": ["user-prompt", "text"],
        "stream": ["Hel", "Hello"],
        "tools": LOOP,
        "tools_streamed": LOOP,
        "tools_chained": [*LOOP, "user-prompt", "text"],
        "reasoning": [
            [*("user-prompt", "thinking", "tool-call", "tool-return", "text")],
            ["I need the weather."],
        ],
        "structured": None,
        "image": None,
        "errors": 429,
    }
    sent = sent_in(FLOWS, upstream.requests)
    assert [message["content"] for message in sent["run"][0]["messages"]] == ["Be brief.", "Hi"]
    for flow in ("tools", "tools_streamed", "tools_chained"):
        assert_both_ran(sent[flow][1]["messages"], "sunny in Paris", "sunny in Rome")
    *before, answer, thanks = sent["tools_chained"][2]["messages"]
    assert_both_ran(before, "sunny in Paris", "sunny in Rome")
    assert (answer["content"], thanks["content"]) == ("Both are sunny.", "Thanks")
    roles = [message["role"] for message in sent["reasoning"][1]["messages"]]
    assert roles == ["user", "assistant", "tool"]
    by_function, by_schema = sent["structured"]
    assert by_function["tool_choice"] == "required"
    assert by_schema["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]
    kinds = [part["type"] for part in sent["image"][0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url"]


def test_the_lock_names_no_address() -> None:
    assert f"\npydantic-ai-slim=={VERSION} " in python_lock("clients-pydantic-ai")
