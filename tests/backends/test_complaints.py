"""What servers say when they fail, in all shapes; names that clients chose mean nothing."""

from typing import Any

import orjson
import pytest

from antiphon.backends.anthropic import faults as anthropic
from antiphon.backends.chat_completions import faults as chat
from antiphon.backends.complaints import complaint
from antiphon.backends.gemini import faults as gemini
from antiphon.backends.responses import faults as responses
from antiphon.errors import APIError, InvalidRequestError, UnsupportedParameter

#: Messages of a 400 with the names of tools and properties in them.
NAMED = [
    "Invalid schema for function 'billing': 'context window' is not of type 'string'.",
    "Invalid value at 'tools[0].name' (context_size): content_filter",
    "Property 'maximum context length' has no type, nor has 'API key'.",
    "Function name 'context window' exceeds the limit of 64 characters.",
    "Tool choice 'data_model' specified, but function not found in tools",
    "Tool 'image exceeds' has no 'credit balance'; property invalid_encrypted_content is wrong",
    "Tool 'model_not_found' needs insufficient_quota and invalid_image_url",
]


def body(message: str, **more: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize("message", NAMED)
@pytest.mark.parametrize("faults", [anthropic, chat, gemini, responses])
def test_names_that_clients_chose_mean_nothing(faults: Any, message: str) -> None:
    """R-41, R-43: they make a 400 neither the operator's fault nor a prompt that is too long."""
    error = faults.error_for_status(400, body(message), "alias")
    assert type(error) is InvalidRequestError
    assert (error.param, error.code) == (None, None)


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (
            gemini.error_for_status(
                400,
                body(
                    "* GenerateContentRequest.tools[0].function_declarations[0].parameters"
                    ".properties[temperature].type: Invalid billing of the API key."
                ),
                "alias",
            ),
            "tools",
        ),
        (
            anthropic.error_for_status(
                400, body("tools.0.custom.name: 'billing', content filter, image exceeds"), "alias"
            ),
            "tools",
        ),
        (chat.error_for_status(400, body("content_filter", param="tools"), "alias"), "tools"),
        (responses.error_for_status(400, body("bio_policy", param="tools"), "alias"), "tools"),
    ],
)
def test_what_it_is_about_is_found_all_the_same(error: APIError, param: str) -> None:
    assert type(error) is UnsupportedParameter
    assert error.param == param


SHAPES: list[Any] = [
    {"error": {"message": "m", "code": "c", "type": "t", "param": "p"}},
    {"message": "m", "code": "c", "type": "t", "param": "p", "object": "error"},
    {"code": "c", "type": "t", "detail": "m", "param": "p"},
    [{"error": {"message": "m", "code": "c", "status": "t", "param": "p"}}],
    {
        "error": {
            "code": "c",
            "metadata": {"raw": '{"error":{"message":"m","type":"t","param":"p"}}'},
        }
    },
]


@pytest.mark.parametrize("said", SHAPES)
def test_every_shape(said: Any) -> None:
    for given in (said, orjson.dumps(said)):
        found = complaint(given)
        assert (found.message, found.param) == ("m", "p")
        assert found.codes == frozenset({"c", "t"})


@pytest.mark.parametrize("said", ["m", b"m", b'"m"', {"error": "m"}, {"metadata": {"raw": "m"}}])
def test_words_alone(said: Any) -> None:
    found = complaint(said)
    assert (found.message, found.codes, found.param) == ("m", frozenset(), "")


@pytest.mark.parametrize("said", [[], {}, None, 5, b"", b"\xff", {"message": 5, "metadata": 5}])
def test_what_is_no_complaint_says_nothing_that_matters(said: Any) -> None:
    found = complaint(said)
    assert not any((found.is_too_long, found.is_no_model, found.is_no_credit))
    assert found.codes == frozenset()


@pytest.mark.parametrize(
    "message",
    [
        "Your input exceeds the context window of this model. Please adjust your input.",
        "Input tokens exceed the configured limit of 272000 tokens.",
        "The decoder prompt (length 9) is longer than the maximum model length of 8.",
        "Requested token count exceeds the model's maximum context length of 8 tokens.",
        "Input length (9 tokens) exceeds the maximum allowed length (8 tokens).",
        "request (9 tokens) exceeds the available context size (8 tokens), try increasing it",
        "The number of tokens to keep is greater than the context length.",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8. Given: 9",
        "Prompt contains 9 tokens, too large for model with 8 maximum context length",
        "This model's maximum prompt length is 8 but the request contains 9 tokens.",
        "Input is too long for requested model.",
        "Unable to submit request because the input token count is 9 but model only supports 8",
        "input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000",
        "OpenAIException - {'message': \"This model's maximum context length is 8 tokens.\"}",
    ],
)
def test_a_prompt_that_does_not_fit(message: str) -> None:
    """R-43: as servers without a code for it say it."""
    assert complaint(message).is_too_long
