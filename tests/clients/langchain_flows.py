"""What apps do with LangChain's `ChatOpenAI` on the Responses API; prints a summary as JSON.

    OPENAI_BASE_URL=… OPENAI_API_KEY=… python langchain_flows.py [FLOW …]

Rules
1. No pytest and nothing of this repository: it runs with packages that the tests do not have.
2. The upstream answers from `FLOWS` of test_langchain.py, in the order of `FLOWS` here.
3. A flow asserts what it got and returns what it wants shown.
"""

import base64
import json
import sys
from importlib.metadata import version
from typing import Any, Final

import openai
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

PNG: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 16).decode()
QUESTION: Final = HumanMessage("Paris and Rome?")


class Person(BaseModel):
    """A structured answer."""

    name: str
    age: int


def weather_of(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


weather: Final[Any] = tool("weather", weather_of)


def model_of(**more: Any) -> Any:
    """The chat model of all flows."""
    return ChatOpenAI(model="m", use_responses_api=True, max_retries=0, timeout=30, **more)


def whole(model: Any, messages: Any) -> AIMessageChunk:
    """The sum of the chunks of a stream."""
    first, *rest = model.stream(messages)
    for chunk in rest:
        first += chunk
    assert isinstance(first, AIMessageChunk)
    return first


def loop(model: Any, *, streamed: bool) -> list[Any]:
    """Two calls in one turn, and an answer about their outputs; all messages."""
    with_tools = model.bind_tools([weather])
    ask = (lambda messages: whole(with_tools, messages)) if streamed else with_tools.invoke
    turn = ask([QUESTION])
    assert [(call["id"], call["args"]) for call in turn.tool_calls] == [
        ("call_a", {"city": "Paris"}),
        ("call_b", {"city": "Rome"}),
    ]
    outputs = [weather.invoke(call) for call in turn.tool_calls]
    assert all(isinstance(output, ToolMessage) for output in outputs)
    messages = [QUESTION, turn, *outputs]
    messages.append(ask(messages))
    assert messages[-1].text == "Both are sunny."
    return messages


def invoke() -> object:
    """A plain request."""
    made = model_of().invoke([SystemMessage("Be brief."), HumanMessage("Hi")])
    assert made.text == "Hello"
    assert made.response_metadata["id"].startswith("resp_")
    assert made.response_metadata["status"] == "completed"
    return made.usage_metadata["total_tokens"]


def stream() -> object:
    """Chunks, and their sum."""
    chunks = list(model_of().stream("Hi"))
    assert whole(model_of(), "Hi").usage_metadata is not None
    return [chunk.text for chunk in chunks if chunk.text]


def tools() -> None:
    """The whole history, unstored."""
    loop(model_of(store=False), streamed=False)


def tools_streamed() -> None:
    """The whole history, by the ids of items."""
    loop(model_of(), streamed=True)


def tools_chained() -> None:
    """LangChain finds the last response's id in the messages, and sends what came after it."""
    *_, turn, _, _, last = loop(model_of(use_previous_response_id=True), streamed=False)
    made = openai.OpenAI().responses.retrieve(last.response_metadata["id"])
    assert made.previous_response_id == turn.response_metadata["id"]


def reasoning() -> object:
    """A summary is shown, and what is sealed goes back."""
    model = model_of(
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        store=False,
    ).bind_tools([weather])
    turn = whole(model, [QUESTION])
    shown = [block for block in turn.content_blocks if block["type"] == "reasoning"]
    (call,) = turn.tool_calls
    assert whole(model, [QUESTION, turn, weather.invoke(call)]).text == "Both are sunny."
    return [block["reasoning"] for block in shown if "reasoning" in block]


def structured() -> None:
    """By a schema of the answer, and by a function."""
    for method in ("json_schema", "function_calling"):
        model = model_of().with_structured_output(Person, method=method)
        assert model.invoke("Who?") == Person(name="Ada", age=36)


def image() -> None:
    """A part of a message, as LangChain writes it for all providers."""
    picture = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    made = model_of().invoke([HumanMessage([{"type": "text", "text": "What is this?"}, picture])])
    assert made.text == "A cat."


def previous_response() -> None:
    """By hand."""
    first = model_of().invoke("My name is Ada.")
    bound = model_of().bind(previous_response_id=first.response_metadata["id"])
    assert bound.invoke("My name?").text == "Ada."


def errors() -> object:
    """A limit is the SDK's own exception."""
    try:
        model_of().invoke("Hi")
    except openai.RateLimitError as error:
        return error.response.headers["retry-after"]
    raise AssertionError("no RateLimitError")


FLOWS: Final = {
    flow.__name__: flow
    for flow in (
        invoke,
        stream,
        tools,
        tools_streamed,
        tools_chained,
        reasoning,
        structured,
        image,
        previous_response,
        errors,
    )
}


def main(names: list[str]) -> None:
    """Run the flows of these names, or all."""
    shown = {name: FLOWS[name]() for name in names or FLOWS}
    print(json.dumps({"version": version("langchain-openai"), "flows": shown}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
