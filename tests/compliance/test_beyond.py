"""What of ours the schema of Open Responses still takes, and what is beyond it (spec §10)."""

import httpx2
import pytest

from tests.api.talk import Json
from tests.compliance.asking import (
    WEATHER,
    answered,
    compacted,
    png,
    post,
    read,
    said,
    streamed,
    text_of,
)
from tests.compliance.schema import EVENT, EVENT_TYPES, RESPONSE, check


def beyond(events: list[Json]) -> set[str]:
    """The events that the union does not know; all others must be valid."""
    known = [event for event in events if event["type"] in EVENT_TYPES]
    assert [problem for event in known for problem in check(EVENT, event)] == []
    return {event["type"] for event in events} - EVENT_TYPES


def thinking(model: str) -> Json:
    """A message that the model thinks about."""
    return said("user", "[[reason=5]] Hi" if model == "simulator" else "Think, then say hi.")


def test_summaries_of_reasoning_are_valid(suite: httpx2.Client, model: str) -> None:
    asked = {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}
    events = streamed(suite, model, thinking(model), **asked)
    assert "response.reasoning_summary_text.delta" in [event["type"] for event in events]
    reasoning, message = events[-1]["response"]["output"]
    assert reasoning["encrypted_content"]
    answered(suite, model, thinking(model), reasoning, message, said("user", "Go on."))


def test_raw_reasoning_is_told_in_the_words_of_openai(suite: httpx2.Client, model: str) -> None:
    """§10: theirs are ``response.reasoning.*``, at which openai-node throws. The item is valid."""
    events = read(suite, model, thinking(model))
    assert beyond(events) == {"response.reasoning_text.delta", "response.reasoning_text.done"}
    assert check(RESPONSE, events[-1]["response"]) == []


def test_a_compaction_within_a_run_is_a_valid_item(suite: httpx2.Client, model: str) -> None:
    """The item passes; the event that says that it is being made is OpenAI's alone. So with
    `compaction_trigger`."""
    history = [said("user", "word " * 3000), said("assistant", "So it is."), said("user", "Go on.")]
    asked = [{"type": "compaction", "compact_threshold": 1000}]
    events = read(suite, model, *history, context_management=asked)
    assert beyond(events) == {"response.compaction.compacting"}
    compaction, message = events[-1]["response"]["output"]
    assert (compaction["type"], message["type"]) == ("compaction", "message")
    answered(suite, model, compaction, message, said("user", "And now?"))
    events = read(suite, model, *history, {"type": "compaction_trigger"})
    assert beyond(events) == {"response.compaction.compacting"}
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["compaction"]


@pytest.mark.parametrize(
    "body",
    [
        {"background": True, "stream": True},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
        {
            "tools": [WEATHER],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "get_weather"}],
            },
        },
        {"instructions": "Be brief.", "metadata": {"k": "v"}, "truncation": "auto"},
        {"stream_options": {"include_obfuscation": False}, "text": {"verbosity": "low"}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_what_parameters_add_stays_valid(suite: httpx2.Client, model: str, body: Json) -> None:
    streamed(suite, model, said("user", "Hello"), **body)


def test_failures_are_valid(suite: httpx2.Client) -> None:
    """Within a run: ``error``, then ``response.failed``; before it: an HTTP error."""
    events = read(suite, "simulator", said("user", "[[tokens=9]] [[fail=error after=3]]"))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert beyond(events) == set()


FORMAT: Json = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": False}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"text": {"format": FORMAT}}, "text.format.schema"),
        ({"reasoning": {"effort": "max"}}, "reasoning.effort"),
        ({"tools": [{"type": "custom", "name": "f"}], "tool_choice": "none"}, "tools[0]"),
        ({"prompt": ["Be brief.", said("user", "Hello")]}, "instructions"),
    ],
)
def test_echoes_beyond_the_schema(suite: httpx2.Client, model: str, body: Json, path: str) -> None:
    """OpenAI's echo stays; all else of the Response is valid."""
    if "prompt" in body:
        instructions, message = body["prompt"]
        template = {"template": {"instructions": instructions, "input": [message]}}
        body = {"prompt": {"id": suite.post("/v1/prompts", json=template).json()["id"]}}
    (problem,) = check(RESPONSE, post(suite, {"model": model, "input": "Hi", **body}))
    assert problem.startswith(f"$.{path}")


def test_a_conversation_is_an_extra_key(suite: httpx2.Client, model: str) -> None:
    made = suite.post("/v1/conversations", json={"items": [said("user", "Hello")]}).json()
    response = answered(suite, model, said("user", "Hi"), conversation=made["id"])
    assert response["conversation"] == {"id": made["id"]}


@pytest.mark.parametrize("status", [None, "completed"])
def test_every_message_that_a_compaction_keeps_is_valid(
    suite: httpx2.Client, model: str, status: str | None
) -> None:
    """Whatever lenient form it was sent in; and it can be compacted again (spec §10.2, 11)."""
    picture = {"type": "input_image", "image_url": png(2, 2), "detail": None}
    history: list[Json] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "The word is opal.", "status": status, "id": None},
        {"role": "assistant", "content": "I see.", "status": status},
        said("user", [{"type": "input_text", "text": "Look:"}, picture], phase=None),
    ]
    first = compacted(suite, model, *history)
    assert [item["type"] for item in first["output"]] == ["message", "message", "compaction"]
    second = compacted(suite, model, *first["output"], said("user", "And this."))
    response = answered(suite, model, *second["output"], said("user", "Which word?"))
    assert model == "simulator" or "opal" in text_of(response)


def test_nulls_of_a_file_are_not_in_what_a_compaction_keeps(suite: httpx2.Client) -> None:
    file = {"type": "input_file", "file_data": "data:text/plain;base64,aGk="}
    sent = said("user", [{**file, "file_url": None, "filename": None}])
    assert compacted(suite, "simulator", sent)["output"][0]["content"] == [file]
