"""``POST /v1/responses/compact``: a context goes in, what stands for it comes out (spec §2.1)."""

from antiphon.api.auth import Authenticator
from antiphon.api.create import remarks
from antiphon.api.questions import Answer, Question
from antiphon.engine.runner import Engine
from antiphon.protocol.compaction import parse_compact
from antiphon.protocol.request import CreateResponse


def compacting(
    engine: Engine, auth: Authenticator, max_body_bytes: int
) -> Question[CreateResponse]:
    """The endpoint."""

    async def answer(request: CreateResponse, project: str) -> Answer:
        body, ignored = await engine.compact(request, project)
        return body, remarks(ignored, None)

    return Question(auth, max_body_bytes, parse_compact, answer)
