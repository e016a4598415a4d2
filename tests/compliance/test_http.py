"""The cases of the Open Responses compliance suite that go over HTTP (spec §10.2: 1, 2, 4, 12 to
17, and ``tool-calling-streaming``), on the simulator and through the chat-completions backend."""

import httpx2
import orjson

from tests.api.talk import error_of
from tests.compliance.asking import WEATHER, answered, compacted, png, said, streamed, text_of


def test_basic_response(suite: httpx2.Client, model: str) -> None:
    """Case 1."""
    response = answered(suite, model, said("user", "Greet me in three words."))
    assert "Greet me in three words." in text_of(response)


def test_assistant_phase(suite: httpx2.Client, model: str) -> None:
    """Case 2."""
    answered(
        suite,
        model,
        said("assistant", "I will look the number up.", phase="commentary"),
        said("assistant", "It is four.", phase="final_answer"),
        said("user", "Which number?"),
    )


def test_streaming_response(suite: httpx2.Client, model: str) -> None:
    """Case 4."""
    events = streamed(suite, model, said("user", "Count to five."))
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text_of(events[-1]["response"])
    assert len(deltas) > 1


def test_system_prompt(suite: httpx2.Client, model: str) -> None:
    """Case 12."""
    answered(suite, model, said("system", "You are a pirate."), said("user", "Say hello."))


def test_tool_calling(suite: httpx2.Client, model: str) -> None:
    """Case 13."""
    question = said("user", "What is the weather in San Francisco?")
    response = answered(suite, model, question, tools=[WEATHER])
    (call,) = [item for item in response["output"] if item["type"] == "function_call"]
    assert call["name"] == "get_weather"
    assert orjson.loads(call["arguments"]).keys() == {"location"}


def test_tool_calling_streaming(suite: httpx2.Client, model: str) -> None:
    """The newer case: a call is announced, its arguments come in pieces, and it is closed."""
    question = said("user", "What is the weather in San Francisco?")
    events = streamed(suite, model, question, tools=[WEATHER])
    of_call = [
        event["type"]
        for event in events
        if event.get("item", {}).get("type") == "function_call"
        or event["type"].startswith("response.function_call_arguments.")
    ]
    assert list(dict.fromkeys(of_call)) == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]


def test_image_input(suite: httpx2.Client, model: str) -> None:
    """Case 14: without `detail`."""
    parts = [
        {"type": "input_text", "text": "What is on this picture?"},
        {"type": "input_image", "image_url": png(8, 8)},
    ]
    response = answered(suite, model, said("user", parts))
    assert "1 " in text_of(response).partition("(")[2], "the model was not shown the picture"


def test_multi_turn(suite: httpx2.Client, model: str) -> None:
    """Case 15."""
    response = answered(
        suite,
        model,
        said("user", "I am called Alice."),
        said("assistant", "Hello Alice!"),
        said("user", "What am I called?"),
    )
    assert "What am I called?" in text_of(response)


def test_compact_response(suite: httpx2.Client, model: str) -> None:
    """Case 16."""
    compacted(
        suite,
        model,
        said("user", "We launch on Tuesday."),
        said("assistant", "On Tuesday, then."),
        prompt_cache_key="compliance",
    )


def test_compact_missing_model(suite: httpx2.Client) -> None:
    """Case 17."""
    reply = suite.post("/v1/responses/compact", json={"input": [said("user", "Compact this.")]})
    assert reply.status_code in (400, 422)
    assert error_of(reply)["param"] == "model"
