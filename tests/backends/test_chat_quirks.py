"""What a model refuses is made another way: chat templates with turns (Mistral, Gemma), short ids,
another name for a parameter."""

import time
from dataclasses import replace
from itertools import product
from typing import Any, Final

import pytest

from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.chat_completions.turns import alternating
from antiphon.errors import InvalidRequestError
from antiphon.protocol.deltas import Finish
from tests.backends.asking import ask, failed, refusal
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse

Message = dict[str, Any]

#: As llama.cpp says it, with its status, and vLLM.
JINJA: Final = (
    "While executing CallExpression at line 189, column 32 in source:\n"
    "raise_exception('After the optional system message, con...\n"
    "Error: Jinja Exception: After the optional system message, conversation roles must alternate "
    "user and assistant roles except for tool calls and results."
)
MISTRAL: Final = failed(500, JINJA, code=500, type="server_error")
GEMMA: Final = failed(400, "Conversation roles must alternate user/assistant/user/assistant/...")
NO_SYSTEM: Final = failed(400, "System role not supported")
#: Ollama quotes the one that it runs.
OLLAMA: Final = Reply.json({"error": '{"error":{"code":500,"message":"' + JINJA[-90:] + '"}}'}, 500)


#: In the stream, after status 200.
LM_STUDIO: Final = Reply(body=[sse({"error": {"message": f"Error rendering prompt: {JINJA}"}})])


def said(role: str, content: Any) -> Message:
    return {"role": role, "content": content}


USER: Final = said("user", "u")
ASSISTANT: Final = said("assistant", "a")
SYSTEM: Final = said("system", "s")
CALLS: Final[list[Message]] = [
    {**said("assistant", None), "tool_calls": [{"id": "1"}]},
    {**said("tool", "t"), "tool_call_id": "1"},
]


def is_taken(messages: list[Message], *, has_system: bool) -> bool:
    """As the templates of Devstral and Gemma look at it."""
    if has_system and messages and messages[0]["role"] == "system":
        messages = messages[1:]
    spoken = [m["role"] for m in messages if m["role"] != "tool" and not m.get("tool_calls")]
    return all(role == ("assistant", "user")[i % 2 == 0] for i, role in enumerate(spoken))


@pytest.mark.parametrize("has_system", [True, False])
def test_all_histories_are_taken_and_nothing_is_lost(*, has_system: bool) -> None:
    for steps in product([[USER], [ASSISTANT], CALLS], repeat=5):
        messages = [SYSTEM, *(message for step in steps for message in step)]
        shown = alternating(messages, has_system=has_system)
        assert is_taken(shown, has_system=has_system), messages
        words = "".join(m["content"] or "" for m in shown)
        for word in "uat":
            sent = sum(m["content"] == word for m in messages)
            assert words.replace("system_message", "").count(word) == sent
        assert alternating(shown, has_system=has_system) == shown


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([], []),
        ([SYSTEM, USER, ASSISTANT, USER], [SYSTEM, USER, ASSISTANT, USER]),
        ([USER, *CALLS, ASSISTANT], [USER, *CALLS, ASSISTANT]),
        ([USER, said("user", "v")], [said("user", "u\n\nv")]),
        ([USER, said("user", "")], [USER]),
        (
            [said("developer", "s"), ASSISTANT],
            [said("developer", "s"), said("user", "…"), ASSISTANT],
        ),
        (
            [said("user", [{"type": "image_url"}]), USER],
            [said("user", [{"type": "image_url"}, {"type": "text", "text": "u"}])],
        ),
        ([USER, *CALLS, USER], [USER, *CALLS, said("assistant", "…"), USER]),
        ([ASSISTANT, USER], [said("user", "…"), ASSISTANT, USER]),
        (
            [USER, {**ASSISTANT, "reasoning": "r"}, ASSISTANT],
            [USER, {**said("assistant", "a\n\na"), "reasoning": "r"}],
        ),
    ],
)
def test_what_becomes_of_a_history(messages: list[Message], shown: list[Message]) -> None:
    sent = [dict(message) for message in messages]
    assert alternating(messages, has_system=True) == shown
    assert messages == sent, "they were changed"


TWICE: Final = [{"role": "user", "content": "Hello."}, {"role": "user", "content": "Anyone?"}]


@pytest.mark.parametrize(
    "said_no",
    [MISTRAL, GEMMA, OLLAMA, LM_STUDIO],
    ids=["llama.cpp", "vllm", "ollama", "lmstudio"],
)
async def test_a_model_that_refuses_is_asked_as_it_wants(
    backend: ChatCompletions, upstream: ChatUpstream, said_no: Reply
) -> None:
    """Once more, and from then on at once; other models are asked as before."""
    upstream.script(said_no, Reply.chat("Hi."))
    assert (await ask(backend, input=TWICE, instructions="Be kind."))[-1][-1] == Finish()
    await ask(backend, input=TWICE)
    first, second, third = (request.json["messages"] for request in upstream.requests)
    assert [message["role"] for message in first] == ["system", "user", "user"]
    assert second == [said("system", "Be kind."), said("user", "Hello.\n\nAnyone?")]
    assert third == second[1:]


@pytest.mark.parametrize("said_no", [[NO_SYSTEM], [GEMMA, GEMMA]], ids=["gemma", "mistral 7b"])
async def test_a_model_without_a_system_role_reads_it_as_the_users(
    backend: ChatCompletions, upstream: ChatUpstream, said_no: list[Reply]
) -> None:
    """One of them says that roles must alternate: the system's is the first."""
    upstream.script(*said_no, Reply.chat("Hi."))
    await ask(backend, input="Hello.", instructions="Be kind.")
    (message,) = upstream.requests[-1].json["messages"]
    marked = "<system_message>\nBe kind.\n</system_message>\n\nHello."
    assert message == said("user", marked)


async def test_who_refuses_that_too_is_not_asked_again_and_has_not_failed(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-50: a history is no fault of the server, although it says 500."""
    upstream.script(MISTRAL)
    for _ in range(6):
        error = await refusal(backend)
        assert type(error).__mro__[1] is InvalidRequestError
        assert (error.status, error.param) == (400, "input")
        assert "Jinja" not in error.message
    assert len(upstream.requests) == 6 * 3, "all ways, and none of them is remembered"
    assert not backend.health().is_resting


async def test_what_has_begun_is_not_asked_again(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(replace(LM_STUDIO, body=[sse(chunk(content="Hel")), *LM_STUDIO.body]))
    with pytest.raises(InvalidRequestError):
        await ask(backend, input=TWICE)
    assert len(upstream.requests) == 1


IDS: Final = failed(
    400, "Tool call id was call_of_another_model but must be a-z, A-Z, 0-9, with a length of 9."
)
IDS_OF_A_TEMPLATE: Final = failed(
    500, "Jinja Exception: Tool call IDs should be alphanumeric strings with length 9!"
)
HISTORY: Final = [
    {"role": "user", "content": "Hello."},
    {"type": "function_call", "call_id": "call_of_another_model", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_of_another_model", "output": "fine"},
    {"role": "user", "content": "Go on."},
]


IDS_OF_KIMI: Final = failed(
    400,
    "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum "
    "length 40, but got a string with length 43 instead.",
    param="messages[1].tool_calls[0].id",
)


@pytest.mark.parametrize(
    "said_no", [IDS, IDS_OF_A_TEMPLATE, IDS_OF_KIMI], ids=["mistral", "template", "openai"]
)
async def test_ids_and_turns_are_learned_one_after_the_other(
    backend: ChatCompletions, upstream: ChatUpstream, said_no: Reply
) -> None:
    order = failed(400, "Unexpected role 'user' after role 'tool'", code="3230")
    upstream.script(said_no, order, Reply.chat("Hi."))
    await ask(backend, input=HISTORY)
    await ask(backend, input=HISTORY)
    assert len(upstream.requests) == 4
    for request in upstream.requests[2:]:
        user, calls, result, wait, again = request.json["messages"]
        assert [each["role"] for each in (user, wait, again)] == ["user", "assistant", "user"]
        id_ = calls["tool_calls"][0]["id"]
        assert id_ == result["tool_call_id"]
        assert len(id_) == 9
        assert id_.isalnum()


async def test_models_that_have_another_name_for_the_limit(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """OpenAI's, behind a gateway."""
    said_no = "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    error = failed(400, said_no + "'max_completion_tokens' instead.", param="max_tokens")
    upstream.script(error, Reply.chat("Hi."))
    await ask(backend, max_output_tokens=50)
    await ask(backend, max_output_tokens=60)
    first, second, third = (request.json for request in upstream.requests)
    assert first["max_tokens"] == 50
    assert (second["max_completion_tokens"], third["max_completion_tokens"]) == (50, 60)
    assert "max_tokens" not in second
    upstream.script(error)
    found = await refusal(backend)
    assert (found.status, found.param) == (400, "max_output_tokens")


def test_many_messages_side_by_side_take_no_time() -> None:
    """R-118."""
    before = time.process_time()
    (one,) = alternating([said("user", "x" * 3_000)] * 10_000, has_system=True)
    assert time.process_time() - before < 5
    assert len(one["content"]) > 30_000_000


async def test_a_schema_that_is_quoted_says_nothing_of_the_model(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """What a client calls its properties may be anything."""
    quoted = "In context=('properties', 'system role not supported'), 'minLength' is not permitted."
    upstream.script(failed(400, quoted, param="tools[0].function.parameters"))
    assert (await refusal(backend)).param == "tools"
    assert len(upstream.requests) == 1
