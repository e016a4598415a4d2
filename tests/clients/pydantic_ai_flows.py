"""What apps do with pydantic-ai's `OpenAIResponsesModel`; prints a summary as JSON.

    OPENAI_BASE_URL=… OPENAI_API_KEY=… python pydantic_ai_flows.py [FLOW …]

Rules
1. No pytest and nothing of this repository: it runs with packages that the tests do not have.
2. The upstream answers from `FLOWS` of test_pydantic_ai.py, in the order of `FLOWS` here.
3. A flow asserts what it got and returns what it wants shown.
"""

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any, Final

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

PNG: Final = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
QUESTION: Final = "Paris and Rome?"
BRIEF: Final = "Be brief."


class Person(BaseModel):
    """A structured answer."""

    name: str
    age: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent_of(**more: Any) -> Any:
    """The agent of all flows."""
    provider = OpenAIProvider(openai_client=AsyncOpenAI(max_retries=0, timeout=30))
    return Agent(OpenAIResponsesModel("m", provider=provider), retries=0, **more)


def kinds(messages: Any) -> list[str]:
    """What a history is made of."""
    return [part.part_kind for message in messages for part in message.parts]


async def run() -> object:
    """A plain request."""
    result = await agent_of(instructions=BRIEF).run("Hi")
    assert result.output == "Hello"
    assert result.usage.total_tokens == 8
    return kinds(result.all_messages())


async def stream() -> object:
    """The text while it grows."""
    async with agent_of().run_stream("Hi") as result:
        return [text async for text in result.stream_text(debounce_by=None)]


async def tools() -> object:
    """The whole history."""
    result = await agent_of(tools=[weather]).run(QUESTION)
    assert result.output == "Both are sunny."
    return kinds(result.all_messages())


async def tools_streamed() -> object:
    """The same, streamed and unstored."""
    settings = OpenAIResponsesModelSettings(openai_store=False)
    agent = agent_of(tools=[weather], model_settings=settings)
    async with agent.run_stream(QUESTION) as result:
        assert await result.get_output() == "Both are sunny."
    return kinds(result.all_messages())


async def tools_chained() -> object:
    """pydantic-ai finds the last response's id in the messages."""
    settings = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
    agent = agent_of(tools=[weather], model_settings=settings)
    first = await agent.run(QUESTION)
    second = await agent.run("Thanks", message_history=first.all_messages())
    assert second.output == "You are welcome."
    return kinds(second.all_messages())


async def reasoning() -> object:
    """A summary is shown, and what is sealed goes back."""
    settings = OpenAIResponsesModelSettings(
        openai_reasoning_effort="low", openai_reasoning_summary="auto", openai_store=False
    )
    agent = agent_of(tools=[weather], model_settings=settings)
    async with agent.run_stream(QUESTION) as result:
        assert await result.get_output() == "Both are sunny."
    thought = [
        part.content
        for message in result.all_messages()
        for part in message.parts
        if part.part_kind == "thinking"
    ]
    return [kinds(result.all_messages()), thought]


async def structured() -> None:
    """By a function that is forced, and by a schema of the answer."""
    for kind in (Person, NativeOutput(Person)):
        result = await agent_of(output_type=kind).run("Who?")
        assert result.output == Person(name="Ada", age=36)


async def image() -> None:
    """A part of the prompt."""
    picture = BinaryContent(data=PNG, media_type="image/png")
    assert (await agent_of().run(["What is this?", picture])).output == "A cat."


async def errors() -> object:
    """A limit is an exception with its status."""
    try:
        await agent_of().run("Hi")
    except ModelHTTPError as error:
        return error.status_code
    raise AssertionError("no ModelHTTPError")


FLOWS: Final = {
    flow.__name__: flow
    for flow in (
        run,
        stream,
        tools,
        tools_streamed,
        tools_chained,
        reasoning,
        structured,
        image,
        errors,
    )
}


async def main(names: list[str]) -> None:
    """Run the flows of these names, or all."""
    shown = {name: await FLOWS[name]() for name in names or FLOWS}
    print(json.dumps({"version": version("pydantic-ai-slim"), "flows": shown}, indent=1))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
