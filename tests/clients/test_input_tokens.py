"""``client.responses.input_tokens.count`` of openai-python (issue 4/8, must show 2)."""

from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.live import KEY, LiveServer


@pytest.fixture
def client(server: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def test_count(client: OpenAI) -> None:
    made = client.responses.create(model="simulator", input="Hi", instructions="Be kind.")
    counted = client.responses.input_tokens.count(
        model="simulator", input="Hi", instructions="Be kind."
    )
    assert counted.object == "response.input_tokens"
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens


def test_count_with_every_parameter(client: OpenAI) -> None:
    made = client.responses.create(model="simulator", input="Hi")
    reply = client.responses.input_tokens.with_raw_response.count(
        model="simulator",
        input=[{"role": "user", "content": "And now?"}],
        previous_response_id=made.id,
        conversation=None,
        instructions="Be kind.",
        tools=[
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
        ],
        tool_choice="auto",
        text={"verbosity": "low", "format": {"type": "text"}},
        reasoning={"effort": "low"},
        truncation="auto",
        parallel_tool_calls=False,
        personality="friendly",
    )
    assert reply.parse().input_tokens > 0
    assert reply.headers["x-antiphon-token-count"] == "backend"
    assert "personality" in reply.headers["x-antiphon-ignored"].split(", ")


async def test_count_asynchronously(server: LiveServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        counted = await client.responses.input_tokens.count(model="simulator", input="a" * 400)
    assert counted.input_tokens == 100


def test_errors_are_those_of_the_sdk(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.input_tokens.count(input="Hi")
    assert caught.value.param == "model"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.input_tokens.count(
            model="simulator", input="Hi", previous_response_id="resp_" + "0" * 48
        )
    assert caught.value.code == "previous_response_not_found"
