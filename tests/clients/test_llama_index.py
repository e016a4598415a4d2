"""LlamaIndex's `OpenAIResponses` against a real server."""

from typing import Final

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import (
    ADA,
    LIMITED,
    SUNNY,
    TWO_CALLS,
    Flows,
    assert_both_ran,
    python_lock,
    run_python,
    script_of,
    sent_in,
)
from tests.live import LiveServer

VERSION: Final = "0.8.3"
FLOWS: Final[Flows] = {
    "chat": [Reply.chat("Hello")],
    "complete": [Reply.chat("Hel", "lo")],
    "tools": [TWO_CALLS, SUNNY],
    "tools_streamed": [TWO_CALLS, SUNNY],
    "chained": [Reply.chat("Hello Ada."), Reply.chat("Ada.")],
    "structured": [ADA],
    "image": [Reply.chat("A cat.")],
    "errors": [LIMITED],
}


def test_all_flows(server: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(*script_of(FLOWS))
    summary = run_python(server, "llama_index_flows.py", "clients-llama-index")
    assert summary["version"] == VERSION
    shown = summary["flows"]
    assert list(shown) == list(FLOWS)
    assert (shown["chat"], shown["complete"], shown["errors"]) == (8, ["Hel", "lo"], "7")
    sent = sent_in(FLOWS, upstream.requests)
    assert [message["content"] for message in sent["chat"][0]["messages"]] == ["Be brief.", "Hi"]
    for flow in ("tools", "tools_streamed"):
        assert_both_ran(sent[flow][1]["messages"], "sunny in Paris", "sunny in Rome")
    assert [message["content"] for message in sent["chained"][1]["messages"]] == [
        *("My name is Ada.", "Hello Ada.", "My name?")
    ]
    schema = sent["structured"][0]["response_format"]["json_schema"]
    assert (schema["strict"], schema["schema"]["required"]) == (True, ["name", "age"])
    kinds = [part["type"] for part in sent["image"][0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url"]


def test_the_lock_names_no_address() -> None:
    assert f"\nllama-index-llms-openai=={VERSION} " in python_lock("clients-llama-index")
