"""What a user has said to calls of MCP tools (spec §3.3; reliability R-124, R-125).

Rules
1. The id of a request holds a code that only this server can make, over project, server, tool, the
   exact arguments and the definition of the tool. What does not fit is no approval: the user is
   asked again. So nothing need be stored until an answer comes, and `store: false` works as well.
2. An approval is good for one response, which the store remembers, and for `VALID` seconds.
3. Who has answered was heard: what is in the context as a call is not run again.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
import structlog

from antiphon.engine.history import Past
from antiphon.errors import InvalidRequestError, NotFoundError
from antiphon.protocol.ids import make_id, partition_of
from antiphon.protocol.items.base import Item
from antiphon.protocol.validation import echo
from antiphon.store.base import Store

log = structlog.get_logger(__name__)

#: Seconds in which a request can be answered.
VALID: Final = 30 * 86_400
#: Hex digits of an id behind its partition: Unix seconds, chance, code.
_TIME, _CHANCE, _CODE = 8, 4, 20


class Codes(Protocol):
    """What makes codes: `engine.sealing.Sealer`."""

    def code(self, project: str, text: bytes) -> str:
        """Hex digits that only this server can make for this text, with its newest key."""
        ...

    def is_code(self, project: str, text: bytes, code: str) -> bool:
        """Whether `code` is, or begins, the code of the text, with any key."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer of the user to an ``mcp_approval_request``."""

    request: Item
    approve: bool
    #: Whether the user was asked the same again later: then that answer counts.
    asked_again: bool = False


@dataclass(frozen=True, slots=True)
class Approvals:
    """The approvals of this server."""

    codes: Codes
    store: Store

    def new_id(self, project: str, partition: str, label: str, call: Sequence[str]) -> str:
        """The id of a request for a call: name, arguments and fingerprint of the function."""
        head = f"{int(time.time()):0{_TIME}x}{secrets.token_hex(_CHANCE // 2)}"
        code = self.codes.code(project, _text(partition, head, label, call))
        return make_id("mcpr", partition, head + code[:_CODE])

    def fits(self, project: str, request_id: str, label: str, call: Sequence[str]) -> bool:
        """Whether it was for exactly this call, as its function is described now, and not long
        ago."""
        partition = partition_of(request_id)
        tail = request_id[-(_TIME + _CHANCE + _CODE) :]
        if partition is None or len(tail) != _TIME + _CHANCE + _CODE:
            return False
        head, code = tail[: _TIME + _CHANCE], tail[_TIME + _CHANCE :]
        if not self.codes.is_code(project, _text(partition, head, label, call), code):
            return False
        return time.time() - int(head[:_TIME], 16) <= VALID

    async def use(self, project: str, request_id: str, response_id: str) -> bool:
        """Use it up for a response; False: another one has."""
        until = int(time.time()) + VALID
        user = await self.store.approvals.use(project, request_id, response_id, until)
        log.info("approval_used", approval=request_id, response_id=response_id, by=user)
        return user == response_id


async def read_decisions(
    own: list[Item], past: Past, project: str, store: Store, response: str
) -> list[Decision]:
    """What the client's new items say to requests that have not been run. `response`: the one that
    goes on with it, and as a job may have begun with it. Raises `NotFoundError` for an unknown
    request, `InvalidRequestError` for one that another response has answered."""
    answers: dict[str, bool] = {}
    for item in own:
        if item["type"] == "mcp_approval_response":
            request_id = item["approval_request_id"]
            answers[request_id] = answers.get(request_id, True) and item["approve"]
    if not answers:
        return []
    context = [*past.items, *own]
    done = {item.get("approval_request_id") for item in context if item["type"] == "mcp_call"}
    asked = {item["id"]: item for item in context if item["type"] == "mcp_approval_request"}
    missing = answers.keys() - asked.keys()
    if missing:
        asked |= await store.items(project, missing)
    decisions = []
    for request_id, approve in answers.items():
        request = asked.get(request_id)
        if request is None or request["type"] != "mcp_approval_request":
            raise NotFoundError(
                f"Approval request with id '{echo(request_id)}' not found.", param="input"
            )
        if request_id in done:
            continue
        if approve and not await _is_unused(store, project, request_id, response):
            if _was_heard(request, own):
                continue
            raise InvalidRequestError(
                f"Approval request '{echo(request_id)}' was answered before, in another response.",
                param="input",
                code="invalid_value",
            )
        decisions.append(Decision(request, approve, _is_asked_again(request, own)))
    return decisions


def _is_asked_again(request: Item, own: list[Item]) -> bool:
    """Whether a later item asks for the same call; who stores nothing sends all of them again."""
    return any(
        item["type"] == request["type"] and all(item[key] == request[key] for key in _SAME)
        for item in _behind_answer(request, own)
    )


def _was_heard(request: Item, own: list[Item]) -> bool:
    """Whether a model spoke since the answer: then that is history. Not every client says with a
    call which request it was for (Microsoft Agent Framework), or sends it again."""
    return any(
        item["type"].endswith("_call") or item.get("role") == "assistant"
        for item in _behind_answer(request, own)
    )


def _behind_answer(request: Item, own: list[Item]) -> list[Item]:
    places = [place for place, item in enumerate(own) if _is_answer(item, request["id"])]
    return own[places[-1] + 1 :]


_SAME: Final = ("server_label", "name", "arguments")


def _is_answer(item: Item, request_id: str) -> bool:
    if item["type"] != "mcp_approval_response":
        return False
    return bool(item["approval_request_id"] == request_id)


async def _is_unused(store: Store, project: str, request_id: str, response: str) -> bool:
    return await store.approvals.user(project, request_id) in (None, response)


def _text(partition: str, head: str, label: str, call: Sequence[str]) -> bytes:
    return orjson.dumps([partition, head, label, *call])
