"""What a request becomes when it is set going, and how."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from antiphon.engine.compaction import Compacted
from antiphon.engine.journal import Passing
from antiphon.engine.log import EventLog
from antiphon.engine.mint import SystemMint
from antiphon.engine.plan import Plan
from antiphon.engine.run import Run
from antiphon.engine.secrets import has_secrets, hide
from antiphon.engine.view import Truncated
from antiphon.errors import IdempotencyKeyReused
from antiphon.protocol.emitter import exact
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Response, new_response
from antiphon.protocol.told import recalled
from antiphon.store.base import RUNNING, IdempotencyKey, Kept, ResponseRow, Twin

#: Bytes above which a body is read again in a thread (R-118).
_LARGE: Final = 128 * 1024


@dataclass(slots=True)
class Foreground:
    """A run that belongs to its connection."""

    run: Run
    task: asyncio.Task[None]
    log: EventLog
    journal: Passing
    plan: Plan

    def is_stored(self) -> bool:
        """Whether its row says that it is being made here."""
        return self.journal.begun and self.run.machine.status in RUNNING

    def items(self) -> list[Item]:
        """What a continuation of it sees: all that was said before, its input, its output."""
        context = self.plan.context
        output = recalled(self.run.machine.output, self.run.told())
        return [*context.past.items, *context.input, *output]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A durable response, which is followed by its id."""

    id: str
    background: bool
    #: It was made for an earlier request with the same Idempotency-Key.
    replayed: bool
    ignored: list[str]
    truncated: Truncated | None = None
    #: What makes it, if that happens here and for a foreground request.
    run: Run | None = None
    #: The queued Response, if this request made it.
    body: bytes = b""


def replay(twin: Twin, key: IdempotencyKey, request: CreateResponse) -> Admitted:
    """What the earlier request with the same key has made. Raises `IdempotencyKeyReused`."""
    if twin.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    return Admitted(twin.response_id, bool(request.background), True, [])


def row_of(plan: Plan, response: Response, kept: Kept, body: bytes) -> ResponseRow:
    """What is stored of a new response."""
    request = plan.request
    conversation = request.conversation_id
    needed = kept != "replayed" or conversation is not None
    return ResponseRow(
        id=response["id"],
        project=plan.project,
        status=response["status"],
        created_at=response["created_at"],
        expires_at=None,
        previous_response_id=plan.context.past.parent,
        body=body,
        input=exact(orjson.dumps(plan.context.stored_input)) if needed else b"",
        kept=kept,
        conversation=conversation,
        metadata=orjson.dumps(request.metadata).decode() if request.metadata else None,
    )


def response_of(plan: Plan, mint: SystemMint, status: Literal["queued", "in_progress"]) -> Response:
    """The Response before its first event."""
    response = new_response(
        plan.request,
        id=plan.response_id,
        created_at=mint.now(),
        status=status,
        front=plan.front,
    )
    if "service_tier" in plan.ignored:  # the answer says which tier it was (spec §1)
        response["service_tier"] = "auto"
    if plan.view.truncated is not None:
        response["truncated"] = plan.view.truncated.body()
    return response


def compaction_of(plan: Plan, mint: SystemMint, compacted: Compacted) -> dict[str, Any]:
    """The answer of ``/v1/responses/compact``: messages of the user for whoever wants to read them,
    and the item that is all that the next request needs."""
    payload = plan.sealer.seal("compaction", plan.project, compacted.payload())
    item = {"id": mint.item_id("cmp"), "type": "compaction", "encrypted_content": payload}
    messages = [{"status": "completed", **message} for message in compacted.user_messages()]
    return {
        "id": mint.item_id("resp"),
        "object": "response.compaction",
        "created_at": mint.now(),
        "output": [*messages, item],
        "usage": compacted.usage.body(),
    }


async def pinned(plan: Plan, raw: bytes) -> bytes:
    """The body of a POST for whoever makes it later: with the version of the template that it was
    accepted with, and without secrets in the clear."""
    prompt, hidden = plan.request.prompt, has_secrets(plan.request)
    if prompt is None and not hidden:
        return raw

    def work() -> bytes:
        body = orjson.loads(raw)
        if prompt is not None:
            body["prompt"]["version"] = prompt["version"]
        if hidden:
            hide(body, plan.project, plan.sealer)
        return orjson.dumps(body)

    return await asyncio.to_thread(work) if len(raw) > _LARGE else work()


async def fingerprint(raw: bytes) -> str:
    """The same for bodies that say the same."""

    def work() -> str:
        canonical = orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(canonical).hexdigest()

    return await asyncio.to_thread(work) if len(raw) > _LARGE else work()
