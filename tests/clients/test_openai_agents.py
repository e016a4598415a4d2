"""openai-agents against a real server: tool loops, handoffs, chaining, sessions (must show 2).

Rules
1. The SDK's tracing is off: it would call OpenAI.
2. What the model was shown is read from the upstream, what the SDK made of it from its result.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunResult,
    RunResultStreaming,
    SQLiteSession,
    function_tool,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from pydantic import BaseModel

from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.clients.replies import TWO_CALLS, call, calling, said
from tests.live import KEY, LiveServer

CONFIG: Final = RunConfig(tracing_disabled=True)
ENDING: Final = Reply.chat("Both ", "are sunny.")


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def model(client: AsyncOpenAI) -> OpenAIResponsesModel:
    return OpenAIResponsesModel("m", client)


async def run(
    agent: Agent[Any], text: str, *, streamed: bool, chained: bool = False
) -> RunResult | RunResultStreaming:
    """One run of the SDK, in either of its two ways."""
    if not streamed:
        return await Runner.run(agent, text, run_config=CONFIG, auto_previous_response_id=chained)
    result = Runner.run_streamed(agent, text, run_config=CONFIG, auto_previous_response_id=chained)
    async for _ in result.stream_events():
        pass
    return result


def messages_of(upstream: ChatUpstream) -> list[list[Any]]:
    """What the model was shown, turn by turn."""
    return [request.json["messages"] for request in upstream.requests]


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
@pytest.mark.parametrize("chained", [False, True], ids=["whole history", "chained"])
async def test_a_tool_loop(
    client: AsyncOpenAI,
    model: OpenAIResponsesModel,
    upstream: ChatUpstream,
    streamed: bool,
    chained: bool,
) -> None:
    upstream.script(TWO_CALLS, ENDING)
    agent = Agent("forecaster", instructions="Be brief.", model=model, tools=[weather])
    result = await run(agent, "Paris and Rome?", streamed=streamed, chained=chained)
    assert result.final_output == "Both are sunny."
    system, user, turn, *outputs = messages_of(upstream)[1]
    assert system == {"role": "system", "content": "Be brief."}
    assert user == {"role": "user", "content": "Paris and Rome?"}
    assert [one["id"] for one in turn["tool_calls"]] == ["call_a", "call_b"]
    assert [(out["tool_call_id"], out["content"]) for out in outputs] == [
        ("call_a", "sunny in Paris"),
        ("call_b", "sunny in Rome"),
    ]
    first, last = (response.response_id for response in result.raw_responses)
    assert last is not None
    made = await client.responses.retrieve(last)
    assert made.previous_response_id == (first if chained else None)
    assert result.context_wrapper.usage.requests == 2
    assert result.context_wrapper.usage.total_tokens == 16


@pytest.mark.parametrize("chained", [False, True], ids=["whole history", "chained"])
async def test_reasoning_is_carried_through_a_tool_loop(
    model: OpenAIResponsesModel, upstream: ChatUpstream, chained: bool
) -> None:
    thought = sse(chunk(reasoning_content="I need the weather."))
    asked = sse(chunk(tool_calls=[call(0, "call_a", "weather", '{"city":"Rome"}')]))
    upstream.script(said(thought, asked, finish="tool_calls"), ENDING)
    settings = ModelSettings(
        reasoning=Reasoning(effort="low", summary="auto"),
        response_include=["reasoning.encrypted_content"],
    )
    agent = Agent("thinker", model=model, tools=[weather], model_settings=settings)
    result = await run(agent, "Rome?", streamed=True, chained=chained)
    assert result.final_output == "Both are sunny."
    kinds = [item.type for response in result.raw_responses for item in response.output]
    assert kinds == ["reasoning", "function_call", "message"]
    roles = [message["role"] for message in messages_of(upstream)[1]]
    assert roles == ["user", "assistant", "tool"]


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
@pytest.mark.parametrize("chained", [False, True], ids=["whole history", "chained"])
async def test_a_handoff(
    model: OpenAIResponsesModel, upstream: ChatUpstream, streamed: bool, chained: bool
) -> None:
    upstream.script(calling(("call_h", "transfer_to_spanish", "{}")), Reply.chat("Hola."))
    spanish = Agent("spanish", instructions="Speak Spanish.", model=model)
    triage = Agent("triage", instructions="Choose.", model=model, handoffs=[spanish])
    result = await run(triage, "Hola?", streamed=streamed, chained=chained)
    assert result.final_output == "Hola."
    assert result.last_agent is spanish
    first, second = messages_of(upstream)
    assert first[0] == {"role": "system", "content": "Choose."}
    assert second[0] == {"role": "system", "content": "Speak Spanish."}
    assert [message["role"] for message in second] == ["system", "user", "assistant", "tool"]
    assert second[3]["tool_call_id"] == "call_h"


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
async def test_a_structured_answer(
    model: OpenAIResponsesModel, upstream: ChatUpstream, streamed: bool
) -> None:
    upstream.script(Reply.chat('{"name":"Ada",', '"age":36}'))
    agent = Agent("clerk", model=model, output_type=Person)
    result = await run(agent, "Who?", streamed=streamed)
    assert result.final_output == Person(name="Ada", age=36)
    assert upstream.requests[0].json["response_format"]["json_schema"]["strict"] is True


async def test_a_conversation_by_previous_response_id(
    model: OpenAIResponsesModel, upstream: ChatUpstream
) -> None:
    agent = Agent("friend", instructions="Be kind.", model=model)
    first = await Runner.run(agent, "one", run_config=CONFIG)
    await Runner.run(agent, "two", run_config=CONFIG, previous_response_id=first.last_response_id)
    texts = [message["content"] for message in messages_of(upstream)[1]]
    assert texts == ["Be kind.", "one", "Hello", "two"]


async def test_a_session_replays_what_the_server_said(
    model: OpenAIResponsesModel, upstream: ChatUpstream
) -> None:
    """The SDK stores our items and sends them back whole: each must be valid input."""
    upstream.script(TWO_CALLS, ENDING, Reply.chat("You are welcome."))
    agent = Agent("forecaster", model=model, tools=[weather])
    session = SQLiteSession("one")
    try:
        await Runner.run(agent, "Paris and Rome?", run_config=CONFIG, session=session)
        result = await Runner.run(agent, "Thanks", run_config=CONFIG, session=session)
    finally:
        session.close()
    assert result.final_output == "You are welcome."
    roles = [message["role"] for message in messages_of(upstream)[2]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]


async def test_token_events_reach_the_application(
    model: OpenAIResponsesModel, upstream: ChatUpstream
) -> None:
    upstream.script(ENDING)
    result = Runner.run_streamed(Agent("a", model=model), "Hi", run_config=CONFIG)
    deltas = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert deltas == ["Both ", "are sunny."]


@pytest.mark.parametrize("chained", [False, True], ids=["whole history", "chained"])
async def test_a_streamed_tool_loop_in_the_background(
    client: AsyncOpenAI, model: OpenAIResponsesModel, upstream: ChatUpstream, chained: bool
) -> None:
    """The SDK passes `background` on; it follows streams, and does not poll (so: streamed only).
    Each response of the loop can be streamed again afterwards."""
    upstream.script(TWO_CALLS, ENDING)
    settings = ModelSettings(extra_args={"background": True})
    agent = Agent("forecaster", model=model, tools=[weather], model_settings=settings)
    result = await run(agent, "Paris and Rome?", streamed=True, chained=chained)
    assert result.final_output == "Both are sunny."
    for response in result.raw_responses:
        assert response.response_id is not None
        made = await client.responses.retrieve(response.response_id)
        assert (made.background, made.status) == (True, "completed")
        events = [event async for event in await client.responses.retrieve(made.id, stream=True)]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].type == "response.completed"
        assert events[-1].response.output == made.output
