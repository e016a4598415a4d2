"""The judge itself (spec §10.1, and case 3 of §10.2): what it lets pass, and what it does not."""

from typing import Any, Final

import pytest

from tests.api.talk import Json
from tests.compliance.schema import COMPACTION, EVENT, EVENT_TYPES, ITEM, RESPONSE, check

#: Keys that must be there and hold something.
HELD: Final = (
    *("id", "created_at", "status", "background", "frequency_penalty", "presence_penalty"),
    *("model", "output", "parallel_tool_calls", "service_tier", "store", "temperature", "text"),
    *("tool_choice", "tools", "top_logprobs", "top_p", "truncation"),
)
#: Keys that must be there.
SHOWN: Final = (
    *("completed_at", "error", "incomplete_details", "instructions", "max_output_tokens"),
    *("max_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning"),
    *("safety_identifier", "usage"),
)
FREE: Final = (*("object", "metadata", "user", "prompt_cache_retention", "output_text", "billing"),)


def message(text: str, **more: object) -> Json:
    part = {"type": "output_text", "text": text, "annotations": []}
    base = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    return {**base, "content": [part], **more}


def response(**changes: Any) -> Json:
    """A valid Response, with all that may be null being null."""
    return {
        "object": "response",
        **dict.fromkeys(SHOWN),
        "id": "resp_1",
        "created_at": 1_764_967_971,
        "status": "completed",
        "background": False,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "model": "m",
        "output": [message("Hello")],
        "parallel_tool_calls": True,
        "service_tier": "default",
        "store": True,
        "temperature": 1,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1,
        "truncation": "disabled",
        **changes,
    }


USAGE: Final = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 3,
}


def test_response_output_phase_schema() -> None:
    """Case 3."""
    output = [message("I look.", phase="commentary"), message("Four.", phase="final_answer")]
    assert check(RESPONSE, response(output=output, usage=USAGE)) == []
    assert check(RESPONSE, response(output=[message("Four.", phase=None)])) != []


@pytest.mark.parametrize("key", [*HELD, *SHOWN])
def test_keys_that_must_be_there(key: str) -> None:
    without = {name: value for name, value in response().items() if name != key}
    assert check(RESPONSE, without) == [f"$.{key}: missing"]


@pytest.mark.parametrize("key", HELD)
def test_keys_that_may_not_be_null(key: str) -> None:
    (problem,) = check(RESPONSE, response(**{key: None}))
    assert problem.startswith(f"$.{key}: ")


@pytest.mark.parametrize("key", FREE)
def test_keys_that_may_be_null_or_absent(key: str) -> None:
    assert check(RESPONSE, response(**{key: None})) == []
    assert check(RESPONSE, {k: v for k, v in response().items() if k != key}) == []


FUNCTION: Final[Json] = {
    "type": "function",
    "name": "f",
    "description": None,
    "parameters": None,
    "strict": None,
}
ALLOWED: Final = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": 1_764_967_971.0},
        {"created_at": True},
        {"error": {"code": None, "message": "m"}},
        {"reasoning": {"effort": None}},
        {"reasoning": {"effort": "max", "summary": None}},
        {"reasoning": {"effort": "minimal", "summary": None}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "name": "f"}]},
        {"tool_choice": {"type": "web_search"}},
        {"tool_choice": "any"},
        {"instructions": [message("Be brief.")]},
        {"usage": {**USAGE, "total_tokens": None}},
        {"output": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]},
        {"output": [{**message("a"), "content": [{"type": "output_text", "text": "a"}]}]},
        {
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "n",
                    "description": None,
                    "schema": {},
                    "strict": True,
                }
            }
        },
    ],
    ids=repr,
)
def test_what_does_not_pass(changes: Json) -> None:
    assert check(RESPONSE, response(**changes)) != []


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "anything", "service_tier": "anything"},
        {"error": {"code": "server_error", "message": "m"}},
        {"incomplete_details": {"reason": "anything"}},
        {"reasoning": {"effort": "xhigh", "summary": "auto", "context": "auto"}},
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [{**FUNCTION, "parameters": {}, "strict": True}], "tool_choice": ALLOWED},
    ],
    ids=repr,
)
def test_what_passes(changes: Json) -> None:
    assert check(RESPONSE, response(**changes)) == []


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
        {"type": "reasoning", "id": "rs_1"},
        {"type": "compaction", "id": "cmp_1"},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        {**message("a"), "status": None},
        {**message("a"), "id": None},
    ],
    ids=repr,
)
def test_items_that_do_not_pass(item: Json) -> None:
    assert len(check(ITEM, item)) == 1


def test_compactions() -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    made = {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 1,
        "output": [item],
        "usage": USAGE,
    }
    assert check(COMPACTION, made) == []
    assert check(COMPACTION, {**made, "usage": None}) != []
    assert check(COMPACTION, {**made, "object": "response"}) != []


def test_events() -> None:
    delta = {
        "type": "response.output_text.delta",
        "sequence_number": 4,
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "He",
    }
    assert len(EVENT_TYPES) == 24
    assert check(EVENT, delta) == []
    assert check(EVENT, {**delta, "logprobs": None}) != []
    assert check(EVENT, {**delta, "sequence_number": "4"}) != []
    assert check(EVENT, {**delta, "type": "response.web_search_call.searching"}) != []
    failed = {"type": "response.failed", "sequence_number": 5}
    assert check(EVENT, {**failed, "response": response(status="failed")}) == []
    assert check(EVENT, {**failed, "response": response(status=None)}) != []
