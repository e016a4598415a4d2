"""Short ways to ask a backend one thing and to see what it says."""

import contextlib
from collections.abc import AsyncIterator

import orjson
import pytest

from antiphon.backends.base import Backend, Prompt
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import APIError
from antiphon.protocol.deltas import Delta
from antiphon.protocol.request import CreateResponse, parse_request
from tests.backends.upstream import Reply

#: The operator's key for the upstream: it may be seen there and nowhere else.
KEY = "operators-own-secret"


@contextlib.asynccontextmanager
async def using(config: UpstreamConfig) -> AsyncIterator[ChatCompletions]:
    made = ChatCompletions(config)
    try:
        yield made
    finally:
        await made.aclose()


def prompt(**parameters: object) -> Prompt:
    request: CreateResponse = parse_request(
        orjson.dumps({"model": "alias", "input": "Hi", **parameters})
    )
    return Prompt(request, "real-name", list(request.input))


async def ask(backend: Backend, **parameters: object) -> list[list[Delta]]:
    async with contextlib.aclosing(backend.generate(prompt(**parameters))) as turn:
        return [deltas async for deltas in turn]


async def refusal(backend: Backend) -> APIError:
    """The error of a turn that never was accepted."""
    with pytest.raises(APIError) as caught:
        await ask(backend)
    return caught.value


def failed(status: int, message: str, **error: object) -> Reply:
    """An error body as OpenAI writes it."""
    return Reply.json({"error": {"message": message, **error}}, status)
