"""What apps do with LlamaIndex's `OpenAIResponses`; prints a summary as JSON.

    OPENAI_BASE_URL=… OPENAI_API_KEY=… python llama_index_flows.py [FLOW …]

Rules
1. No pytest and nothing of this repository: it runs with packages that the tests do not have.
2. The upstream answers from `FLOWS` of test_llama_index.py, in the order of `FLOWS` here.
3. A flow asserts what it got and returns what it wants shown.
"""

import json
import os
import sys
from importlib.metadata import version
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAIResponses
from openai import RateLimitError
from pydantic import BaseModel

PNG: Final = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
QUESTION: Final = ChatMessage(role="user", content="Paris and Rome?")


class Person(BaseModel):
    """A structured answer."""

    name: str
    age: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


TOOLS: Final = [FunctionTool.from_defaults(weather)]


def model_of(**more: Any) -> Any:
    """The model of all flows; it has to be told how much a model can read that it does not know."""
    base = os.environ["OPENAI_BASE_URL"]
    common = {"api_base": base, "context_window": 8192, "max_retries": 0, "timeout": 30}
    return OpenAIResponses("m", **common, **more)


def outputs_of(model: Any, turn: Any) -> list[ChatMessage]:
    """What the tools say to the calls of a turn."""
    calls = model.get_tool_calls_from_response(turn)
    assert [(call.tool_id, call.tool_kwargs) for call in calls] == [
        ("call_a", {"city": "Paris"}),
        ("call_b", {"city": "Rome"}),
    ]
    return [
        ChatMessage(
            role="tool",
            content=weather(**call.tool_kwargs),
            additional_kwargs={"call_id": call.tool_id},
        )
        for call in calls
    ]


def chat() -> object:
    """A plain request."""
    made = model_of().chat(
        [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Hi")]
    )
    assert made.message.content == "Hello"
    return made.additional_kwargs["usage"].total_tokens


def complete() -> object:
    """A prompt, streamed."""
    return [part.delta for part in model_of().stream_complete("Hi") if part.delta]


def tools() -> None:
    """The whole history."""
    model = model_of()
    turn = model.chat_with_tools(TOOLS, chat_history=[QUESTION], allow_parallel_tool_calls=True)
    history = [QUESTION, turn.message, *outputs_of(model, turn)]
    made = model.chat_with_tools(TOOLS, chat_history=history)
    assert made.message.content == "Both are sunny."


def tools_streamed() -> None:
    """The same, streamed."""
    model = model_of()
    *_, turn = model.stream_chat_with_tools(
        TOOLS, chat_history=[QUESTION], allow_parallel_tool_calls=True
    )
    history = [QUESTION, turn.message, *outputs_of(model, turn)]
    *_, made = model.stream_chat_with_tools(TOOLS, chat_history=history)
    assert made.message.content == "Both are sunny."


def chained() -> None:
    """LlamaIndex keeps the last response's id."""
    model = model_of(track_previous_responses=True)
    model.chat([ChatMessage(role="user", content="My name is Ada.")])
    made = model.chat([ChatMessage(role="user", content="My name?")])
    assert made.message.content == "Ada."


def structured() -> None:
    """By a schema of the answer."""
    made = model_of().as_structured_llm(Person).complete("Who?")
    assert made.raw == Person(name="Ada", age=36)


def image() -> None:
    """A block of a message."""
    blocks = [TextBlock(text="What is this?"), ImageBlock(image=PNG, image_mimetype="image/png")]
    assert model_of().chat([ChatMessage(role="user", blocks=blocks)]).message.content == "A cat."


def errors() -> object:
    """A limit is the SDK's own exception."""
    try:
        model_of().complete("Hi")
    except RateLimitError as error:
        return error.response.headers["retry-after"]
    raise AssertionError("no RateLimitError")


FLOWS: Final = {
    flow.__name__: flow
    for flow in (chat, complete, tools, tools_streamed, chained, structured, image, errors)
}


def main(names: list[str]) -> None:
    """Run the flows of these names, or all."""
    shown = {name: FLOWS[name]() for name in names or FLOWS}
    print(json.dumps({"version": version("llama-index-llms-openai"), "flows": shown}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
