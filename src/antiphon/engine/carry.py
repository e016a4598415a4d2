"""From the items of a history to those that a model sees (spec §9). See decision 0006.

Rules
1. The last `compaction` item of ours stands for everything before it: what is in it takes that
   place. Foreign ones are left out, and what is before them stays.
2. Reasoning is shown after the last user message only, in front of it only where the request wants
   `all_turns` (`reasoning.context`).
3. Sealed reasoning gets back what the backend had said. What a client sends must open (400); what
   was stored here and does not open any more is shown as far as it is in the clear.
4. What a user was asked about a call, and approved, is seen in the call itself. A call that was
   denied is shown as one that was answered so; a request without an answer is not shown.
5. A search for tools on this server has no `call_id`: here it gets one, as has what it found. One
   that was cut off is not shown.
"""

from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from antiphon.engine.compaction import kept_items
from antiphon.engine.sealing import OURS, Kind, Unverifiable
from antiphon.errors import InvalidEncryptedContent
from antiphon.protocol.items.base import Item, changed, turn_of
from antiphon.protocol.items.reading import last_user_message
from antiphon.protocol.items.reasoning import is_restored, restored
from antiphon.protocol.request import CreateResponse

Json: TypeAlias = dict[str, Any]
_SEALED: Final = ("reasoning", "compaction")
#: Characters of a `call_id` (spec §1, other limits).
_MAX_CALL_ID: Final = 64


class Seals(Protocol):
    """What opens seals: `engine.sealing.Sealer`."""

    async def unseal(self, kind: Kind, project: str, text: str) -> Json | None:
        """What is in it; None: it is not of ours. Raises `Unverifiable`."""
        ...

    async def unseal_all(
        self, kind: Kind, project: str, texts: Sequence[str]
    ) -> list[Json | Unverifiable | None]:
        """The same of many, with what `unseal` raises in its place."""
        ...


@dataclass(slots=True)
class Carrier:
    """The rules for the runs of one request."""

    seals: Seals
    project: str
    all_reasoning: bool = False

    async def carry(self, items: list[Item], own: int = 0) -> list[Item]:
        """What of `items`, oldest first, a model sees; the last `own` of them were sent by the
        client. Raises `InvalidEncryptedContent`."""
        types = {item["type"] for item in items}
        if not types & _MATTERS:
            return items
        sent = {id(item) for item in items[len(items) - own :]}
        if types & _APPROVALS:
            items = list(_answered(items))
        if "tool_search_call" in types:
            items = list(_with_call_ids(items))
        shown = await self._since_compaction(items, sent)
        last = None if self.all_reasoning else last_user_message(shown)
        current = -1 if last is None else last
        sealed = [
            item
            for index, item in enumerate(shown)
            if item["type"] == "reasoning"
            and (index > current or id(item) in sent)
            and item.get("encrypted_content")
            and not is_restored(item)
        ]
        back = await self._restored(sealed, sent) if sealed else {}
        return [
            back.get(id(item), item)
            for index, item in enumerate(shown)
            if index > current or item["type"] != "reasoning"
        ]

    async def _since_compaction(self, items: list[Item], sent: Set[int]) -> list[Item]:
        marked = [index for index, item in enumerate(items) if item["type"] in _MARKS]
        if not marked:
            return items
        shown = items
        for index in reversed(marked):
            item = items[index]
            if item["type"] == "compaction":
                opened = await self._opened(item, strict=id(item) in sent)
                if opened is not None:
                    is_ours = turn_of(item) is not None
                    shown = kept_items(opened, is_ours=is_ours) + items[index + 1 :]
                    break
        return [item for item in shown if item["type"] not in _MARKS]

    async def _restored(self, sealed: list[Item], sent: Set[int]) -> dict[int, Item]:
        """By the `id()` of the item, as far as they open. Many are opened together (R-118)."""
        texts = [item["encrypted_content"] for item in sealed]
        outcomes = await self.seals.unseal_all("reasoning", self.project, texts)
        back: dict[int, Item] = {}
        for item, opened in zip(sealed, outcomes, strict=True):
            if isinstance(opened, Unverifiable):
                if id(item) in sent:
                    raise _refusal(item)
            elif opened is not None:
                back[id(item)] = restored(item, opened)
        return back

    async def _opened(self, item: Item, *, strict: bool) -> Json | None:
        try:
            return await self.seals.unseal(item["type"], self.project, item["encrypted_content"])
        except Unverifiable:
            if strict:
                raise _refusal(item) from None
            return None


#: Items that say something about the context and nothing to the model.
_MARKS: Final = frozenset({"compaction", "compaction_trigger"})
#: What a user was asked, and said.
_APPROVALS: Final = frozenset({"mcp_approval_request", "mcp_approval_response"})
_MATTERS: Final = _MARKS | _APPROVALS | {"reasoning", "tool_search_call"}
_DENIED: Final = "The user did not approve this call, so it was not run."


def foreign_seals(request: CreateResponse) -> list[str]:
    """Where the request has `encrypted_content` that is not of ours, as parameter paths."""
    return [
        f"input[{index}].encrypted_content"
        for index, item in enumerate(request.input)
        if item["type"] in _SEALED
        and (text := item.get("encrypted_content")) is not None
        and not text.startswith(OURS)
    ]


def _answered(items: list[Item]) -> Iterator[Item]:
    """The items without approvals; calls that were denied in their places."""
    reasons = {
        item["approval_request_id"]: item.get("reason")
        for item in items
        if item["type"] == "mcp_approval_response" and not item["approve"]
    }
    for item in items:
        if item["type"] not in _APPROVALS:
            yield item
        elif item["type"] == "mcp_approval_request" and item.get("id") in reasons:
            reason = reasons[item["id"]]
            keys = ("name", "arguments", "server_label")
            call = {"type": "function_call", "call_id": item["id"][-_MAX_CALL_ID:]}
            yield {**call, **{key: item[key] for key in keys}}
            told = f"{_DENIED} Reason: {reason}" if reason else _DENIED
            yield {
                "type": "function_call_output",
                "call_id": call["call_id"],
                "output": told,
            }


def _with_call_ids(items: list[Item]) -> Iterator[Item]:
    open_calls: deque[int] = deque()
    ids: dict[int, str] = {}
    cut_off: set[int] = set()
    for place, item in enumerate(items):
        if item.get("call_id") is not None:
            continue
        if item["type"] == "tool_search_call" and item.get("status") == "incomplete":
            cut_off.add(place)
        elif item["type"] == "tool_search_call":
            open_calls.append(place)
        elif item["type"] == "tool_search_output" and open_calls:
            call = open_calls.popleft()
            ids[place] = ids[call] = (items[call].get("id") or "tool_search")[-_MAX_CALL_ID:]
    cut_off.update(open_calls)
    for place, item in enumerate(items):
        if place in ids:
            yield changed(item, call_id=ids[place])
        elif place not in cut_off:
            yield item


def _refusal(item: Item) -> InvalidEncryptedContent:
    return InvalidEncryptedContent(item.get("id") or item["type"])
