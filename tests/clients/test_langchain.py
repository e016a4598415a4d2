"""LangChain's `ChatOpenAI(use_responses_api=True)` against a real server."""

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

VERSION: Final = "1.7.4"
FLOWS: Final[Flows] = {
    "invoke": [Reply.chat("Hello")],
    "stream": [Reply.chat("Hel", "lo"), Reply.chat("Hel", "lo")],
    "tools": [TWO_CALLS, SUNNY],
    "tools_streamed": [TWO_CALLS, SUNNY],
    "tools_chained": [TWO_CALLS, SUNNY],
    "reasoning": [THOUGHT, SUNNY],
    "structured": [ADA, calling(("call_p", "Person", '{"name":"Ada","age":36}'))],
    "image": [Reply.chat("A cat.")],
    "previous_response": [Reply.chat("Hello Ada."), Reply.chat("Ada.")],
    "errors": [LIMITED],
}


def test_all_flows(server: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(*script_of(FLOWS))
    summary = run_python(server, "langchain_flows.py", "clients-langchain")
    assert summary["version"] == VERSION
    shown = summary["flows"]
    assert list(shown) == list(FLOWS)
    assert shown["invoke"] == 8
    assert shown["stream"] == ["Hel", "lo"]
    assert shown["reasoning"] == ["I need the weather."]
    assert shown["errors"] == "7"
    sent = sent_in(FLOWS, upstream.requests)
    assert [message["content"] for message in sent["invoke"][0]["messages"]] == ["Be brief.", "Hi"]
    for flow in ("tools", "tools_streamed", "tools_chained"):
        assert_both_ran(sent[flow][1]["messages"], "sunny in Paris", "sunny in Rome")
    roles = [message["role"] for message in sent["reasoning"][1]["messages"]]
    assert roles == ["user", "assistant", "tool"]
    by_schema, by_function = sent["structured"]
    assert by_schema["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]
    assert by_function["tool_choice"] == {"type": "function", "function": {"name": "Person"}}
    kinds = [part["type"] for part in sent["image"][0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url"]
    assert [message["content"] for message in sent["previous_response"][1]["messages"]] == [
        *("My name is Ada.", "Hello Ada.", "My name?")
    ]


def test_the_lock_names_no_address() -> None:
    assert f"\nlangchain-openai=={VERSION} " in python_lock("clients-langchain")
