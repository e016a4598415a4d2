"""A chat over `conversation=` as the official SDKs make it (issue 4/8, must show 2)."""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from agents import Agent, OpenAIConversationsSession, OpenAIResponsesModel, RunConfig, Runner
from openai import AsyncOpenAI

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import CLIENTS, TWO_CALLS, calling, python_client, run_flows
from tests.clients.test_openai_agents import messages_of, weather
from tests.clients.test_openai_versions import VERSIONS
from tests.live import KEY, LiveServer

#: The SDK's tracing would call OpenAI.
CONFIG: Final = RunConfig(tracing_disabled=True)
#: What `conversation_flows` is answered, and the end: one request too many would be seen.
SCRIPT: Final = [
    *(Reply.chat(text) for text in ("1", "2", "3", "4")),
    Reply.chat("5", pause=1.0),
    calling(("call_a", "weather", '{"city":"Paris"}')),
    Reply.chat("It is sunny."),
    Reply.chat("8"),
    Reply.json({"error": {"message": "no flow asks for this"}}, 418),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chat(server: LiveServer, upstream: ChatUpstream, version: str) -> None:
    """In order, once each, and the model has seen the same."""
    upstream.script(*SCRIPT)
    lock = VERSIONS[version]
    env = {} if lock is None else {"PYTHONPATH": str(python_client(lock))}
    command = [sys.executable, "-W", "error", str(CLIENTS / "conversation_flows.py")]
    summary = json.loads(run_flows(command, server, **env))
    assert summary == {"version": version, "items": 17}
    assert len(upstream.requests) == len(SCRIPT) - 1
    so_far = ["zero"]
    for number, (text, shown) in enumerate(
        zip(("one", "two", "three", "four", "five"), messages_of(upstream), strict=False), 1
    ):
        so_far.append(text)
        assert [message["content"] for message in shown] == so_far
        so_far.append(str(number))
    *_, with_output, last = messages_of(upstream)
    assert [message["role"] for message in with_output[-3:]] == ["user", "assistant", "tool"]
    assert [message["content"] for message in last[: len(so_far)]] == so_far
    roles = [message["role"] for message in last[len(so_far) :]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


# -- openai-agents -------------------------------------------------------------------------------


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


async def final_output(streamed: bool, agent: Agent[Any], text: str, **how: Any) -> str:
    """One run of the SDK, in either of its two ways."""
    if not streamed:
        return str((await Runner.run(agent, text, run_config=CONFIG, **how)).final_output)
    result = Runner.run_streamed(agent, text, run_config=CONFIG, **how)
    async for _ in result.stream_events():
        pass
    return str(result.final_output)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("by", ["conversation_id", "session"])
async def test_a_tool_loop_in_a_conversation(
    client: AsyncOpenAI, upstream: ChatUpstream, by: str, streamed: bool
) -> None:
    """The server keeps the history (`conversation_id`), or the SDK does, in a conversation of ours
    (`session`): the model sees the same."""
    upstream.script(TWO_CALLS, Reply.chat("Both are sunny."), Reply.chat("You are welcome."))
    agent = Agent("forecaster", model=OpenAIResponsesModel("m", client), tools=[weather])
    id_ = (await client.conversations.create()).id
    how: dict[str, Any] = {"conversation_id": id_}
    if by == "session":
        session = OpenAIConversationsSession(conversation_id=id_, openai_client=client)
        how = {"session": session}
    assert await final_output(streamed, agent, "Paris and Rome?", **how) == "Both are sunny."
    assert await final_output(streamed, agent, "Thanks", **how) == "You are welcome."
    user, turn, *rest = messages_of(upstream)[2]
    assert user == {"role": "user", "content": "Paris and Rome?"}
    assert [call["id"] for call in turn["tool_calls"]] == ["call_a", "call_b"]
    assert [message["role"] for message in rest] == ["tool", "tool", "assistant", "user"]
    kept = [item async for item in client.conversations.items.list(id_, order="asc")]
    calls = ["function_call"] * 2 + ["function_call_output"] * 2
    assert [item.type for item in kept] == ["message", *calls, *["message"] * 3]
    assert len({item.id for item in kept}) == len(kept)
