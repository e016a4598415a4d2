"""``POST /v1/responses/input_tokens`` (spec §2.1): how long the input of a request would be.

Rules
1. Everything is resolved and checked as for ``POST /v1/responses``; nothing is run or stored.
2. ``x-antiphon-token-count`` says who counted: ``backend``, ``tokenizer`` or ``estimate``.
"""

from typing import Final, Protocol

from antiphon.api.auth import Authenticator
from antiphon.api.create import remarks
from antiphon.api.questions import Answer, Question
from antiphon.backends.base import TokenCount
from antiphon.protocol.counting import Counting, parse_counting
from antiphon.protocol.request import CreateResponse

PATH: Final = "/v1/responses/input_tokens"


class Counter(Protocol):
    """What of the engine is needed here."""

    async def count_tokens(
        self, request: CreateResponse, project: str
    ) -> tuple[TokenCount, list[str]]:
        """The tokens that a request would begin with, and the parameters that have no effect.
        Raises `APIError`."""
        ...


def counting_tokens(
    counter: Counter, auth: Authenticator, max_body_bytes: int
) -> Question[Counting]:
    """The endpoint."""

    async def answer(counting: Counting, project: str) -> Answer:
        count, ignored = await counter.count_tokens(counting.request, project)
        headers = [
            (b"x-antiphon-token-count", count.source.encode()),
            *remarks(ignored + counting.ignored, None),
        ]
        return {"object": "response.input_tokens", "input_tokens": count.tokens}, headers

    return Question(auth, max_body_bytes, parse_counting, answer)
