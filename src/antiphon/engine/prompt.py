"""From a request to its context: history, references, pairs (spec §3.4, §9).

Rules
1. Order: what was said before, oldest first, then this request's input.
2. Only items are carried over: no instructions, tools, sampling or formats.
3. Own input items all get ids, minted here; `item_reference` and bare ids are replaced by what they
   stand for, anywhere in the same project. So are calls of hosted tools that do not say what came
   of them: clients leave out what the server can read itself.
4. An item that is already there is not repeated: the same type under an id that we minted, or the
   same word for word under an id that a client chose (some give all items one id). Another item
   under such an id gets a new one: a list is read on from an id. So does an image that comes with
   its bytes, unless what is there stays as long as what was said before: bytes that a client sends
   are never given up for a reference that may die first (decision 0010).
5. A tool output needs its call, and a call its output (spec §3.4). An output without `call_id`
   belongs to the first call that waits for one, of its `name` if it has one; that of a local shell
   to the call that its `id` names. A call that was cut off needs none, and is shown only if it has
   one.
6. No upstream accepts a call or an output twice, but clients repeat what has no id. All of it is
   kept; of a call that is sent again while it waits, and of the outputs of one call, only the last
   one is shown, and of a call that was cut off nothing where a later one has its id.
7. What of all this a model sees is decided in `carry.py`; pairs are asked for in that.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import orjson

from antiphon.engine.carry import Carrier
from antiphon.engine.history import Past
from antiphon.errors import InvalidRequestError, NotFoundError
from antiphon.protocol.conversations import shown
from antiphon.protocol.ids import Mint, partition_of
from antiphon.protocol.image_references import blob_of
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Call, Item, ItemType, object_text
from antiphon.protocol.items.reading import called
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.told import Told, told_before
from antiphon.protocol.validation import echo
from antiphon.store.base import Store


@dataclass(slots=True)
class Context:
    """What a response is made from."""

    past: Past
    #: This request's own items, all with ids.
    input: list[Item]
    #: Of both, what the model sees.
    shown: list[Item]

    @property
    def stored_input(self) -> list[Item]:
        """What the response itself has to keep: all of it when nobody else keeps the past."""
        return self.past.items + self.input if self.past.unstored else self.input

    @property
    def told_before(self) -> dict[str, Told]:
        """What was told of items that the response has to keep."""
        return told_before(self.stored_input)


async def build_context(
    own: list[Item], past: Past, carrier: Carrier, *, sent: bool = True
) -> Context:
    """The context of a request with its `own_items`; `sent`: a client waits to hear what is wrong
    with them. Raises `InvalidRequestError`."""
    items = past.items + own if past.items else own
    items = await carrier.carry(items, len(own) if sent else 0)
    if {item["type"] for item in items} == {"message"}:
        return Context(past, own, items)  # most histories: there is nothing to pair
    pairs = _pair(items)
    shown = [
        pairs.named.get(id(item), item)
        for item in items
        if id(item) not in pairs.hidden
        and (not _is_cut_off(item) or item.get("call_id") in pairs.answered)
    ]
    return Context(past, [pairs.named.get(id(item), item) for item in own], shown)


async def own_items(
    request: CreateResponse, project: str, store: Store, mint: Mint, past: Past
) -> list[Item]:
    """The request's input with ids and without references. Raises `NotFoundError`."""
    known: dict[str, Item] = {}
    if any("id" in item for item in request.input):  # else none can be a known one
        known = {item["id"]: item for item in past.items if "id" in item}
    asked = {item["id"] for item in request.input if needs_lookup(item) or says_little(item)}
    wanted = asked - known.keys()
    found = await store.items(project, wanted) if wanted else {}
    staying = await _staying(request.input, known, project, store, past)
    own: list[Item] = []
    for sent in request.input:
        item = sent
        item_type = ITEM_TYPES[item["type"]]
        if needs_lookup(item):
            item_id = item["id"]
            item = known.get(item_id) or found.get(item_id) or _unknown(item_id, request)
        elif "id" not in item:
            item = {"id": mint.item_id(item_type.prefix), **item}
        elif (there := found.get(item["id"])) is not None and there["type"] == item["type"]:
            item = there
        earlier = known.get(item["id"])
        is_poorer = _is_poorer(earlier, sent, staying)
        if not is_poorer and _is_same(earlier, item):
            continue
        known[item["id"]] = item  # as it was sent: so is what may repeat it
        if earlier is not None:
            if item["type"] == "local_shell_call_output" and earlier["type"] == "local_shell_call":
                item = {"call_id": earlier["call_id"], **item}
            item = {**item, "id": mint.item_id(ITEM_TYPES[item["type"]].prefix)}
        own.append(item)
    return own


def named_items(asked: list[Item], own: list[Item], past: Past) -> list[Item]:
    """The input as it was `asked`, of which `own` is what the past has not: with what it has.
    Nothing where that is nothing."""
    ids = {item["id"] for item in asked if "id" in item} - {item["id"] for item in own}
    known = {item["id"]: item for item in past.items if item.get("id") in ids} if ids else {}
    if not known:
        return []
    again = [known.get(item.get("id", "")) for item in asked]
    rest = iter(own)
    if again.count(None) != len(own):  # an id came twice, or got a new one: nobody knows the places
        return [*filter(None, again), *own]
    return [item or next(rest) for item in again]


def _is_same(earlier: Item | None, item: Item) -> bool:
    if earlier is None:
        return False
    if partition_of(item["id"]) is None:
        return shown(earlier) == shown(item)  # that is how it was listed
    return bool(earlier["type"] == item["type"])


def needs_lookup(item: Item) -> bool:
    """A reference, or an item of which only the id was sent (spec §9)."""
    match item["type"]:
        case "item_reference":
            return True
        case "reasoning":
            return "id" in item and not (
                item.get("summary") or item.get("content") or item.get("encrypted_content")
            )
        case "image_generation_call":
            failed = item.get("status") == "failed" or item.get("error")  # that is all of it
            return "id" in item and item.get("result") is None and not failed
        case _:
            return False


def says_little(item: Item) -> bool:
    """A call of a hosted tool, or a list of tools, that does not say what came of it, under an id
    that we minted."""
    if partition_of(item.get("id") or "") is None:
        return False
    match item["type"]:
        case "web_search_call" | "file_search_call":
            return item.get("results") is None
        case "code_interpreter_call":
            return item.get("outputs") is None
        case "mcp_call":
            return item.get("output") is None and item.get("error") is None
        case "mcp_list_tools":
            return not item["tools"] and item.get("error") is None
        case _:
            return False


def _has_image(item: Item) -> bool:
    """An image with its bytes, as a client sends it."""
    return item["type"] == "image_generation_call" and bool(item.get("result"))


async def _staying(
    sent: list[Item], known: dict[str, Item], project: str, store: Store, past: Past
) -> set[str]:
    """Of images that are `known`, and sent again with their bytes, the blobs of those that no
    deletion takes while what was said before stays."""
    again = [known[item["id"]] for item in sent if _has_image(item) and item.get("id") in known]
    blobs = {blob for item in again if (blob := blob_of(item.get("result"))) is not None}
    rows = await store.images.find(project, blobs) if blobs else {}
    return {blob for blob, row in rows.items() if row.made_for() & past.home}


def _is_poorer(earlier: Item | None, sent: Item, staying: set[str]) -> bool:
    """Whether an image that was sent with its bytes may have less of them if it is `earlier`."""
    if earlier is None or not _has_image(sent):
        return False
    result = earlier.get("result")
    return not result or blob_of(result) not in {None, *staying}


def _unknown(item_id: str, request: CreateResponse) -> NoReturn:
    """Who stores nothing is told why there is nothing (spec §3.4)."""
    text = f"Item with id '{echo(item_id)}' not found."
    if request.store is False:
        text += (
            " Items are not persisted when `store` is set to false. "
            "Try again with `store` set to true, or remove this item from your input."
        )
    raise NotFoundError(text, param="input")


def _is_open_call(item_type: ItemType) -> bool:
    """A call whose output is an item of its own."""
    return item_type.as_call is not None and item_type.as_result is None


def _is_cut_off(item: Item) -> bool:
    return item.get("status") == "incomplete" and _is_open_call(ITEM_TYPES[item["type"]])


class _Waiting:
    """Calls that no output has answered yet, oldest first."""

    def __init__(self) -> None:
        self.calls: dict[str, Item] = {}
        #: The same by name, and all of them under None; who was answered is dropped when met.
        self._queues: dict[str | None, deque[tuple[str, Item]]] = {}

    def add(self, call_id: str, call: Item) -> None:
        """One more call."""
        self.calls[call_id] = call
        for name in {called(call), None}:
            self._queues.setdefault(name, deque()).append((call_id, call))

    def first(self, name: str | None) -> str | None:
        """The id of the oldest one with this name; of the oldest one at all when it is None."""
        queue = self._queues.get(name, deque())
        while queue:
            call_id, call = queue[0]
            if self.calls.get(call_id) is call:
                return call_id
            queue.popleft()
        return None


@dataclass(slots=True)
class _Pairs:
    """The call ids that have both; by the `id()` of what was sent, outputs that got theirs here and
    what others stand for: items are shared with what is remembered, and nobody changes them."""

    answered: set[str] = field(default_factory=set)
    named: dict[int, Item] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)


def _pair(items: Iterable[Item]) -> _Pairs:
    """Calls and outputs belong together by `call_id`, the call first."""
    waiting = _Waiting()
    pairs = _Pairs()
    answered = pairs.answered
    #: Calls without an output by their ids: some have one id. The last output of each id.
    lacking: Counter[str] = Counter()
    outputs: dict[str, Item] = {}
    for item in items:
        item_type = ITEM_TYPES[item["type"]]
        if _is_open_call(item_type):
            if (call_id := item.get("call_id")) is None:
                continue
            earlier = waiting.calls.get(call_id)
            if earlier is not None and (_is_cut_off(earlier) or _is_repeated(earlier, item)):
                pairs.hidden.add(id(earlier))
                lacking[call_id] -= 1
            waiting.add(call_id, item)
            lacking[call_id] += 1
        elif item_type.as_result is not None and item_type.as_call is None:
            call_id = item.get("call_id") or _first(waiting, item) or "null"
            if waiting.calls.pop(call_id, None) is None and call_id not in answered:
                kind = _words(item["type"].removesuffix("_output"))
                raise InvalidRequestError(
                    f"No tool call found for {kind} output with call_id {call_id}.", param="input"
                )
            if item.get("call_id") is None:
                pairs.named[id(item)] = {**item, "call_id": call_id}
            if not lacking[call_id]:
                pairs.hidden.add(id(outputs[call_id]))
            lacking[call_id] = max(0, lacking[call_id] - 1)
            outputs[call_id] = item
            answered.add(call_id)
    for call_id, call in waiting.calls.items():
        if not _is_cut_off(call):
            raise InvalidRequestError(
                f"No tool output found for {_words(call['type'])} {call_id}.", param="input"
            )
    return pairs


def _is_repeated(earlier: Item, call: Item) -> bool:
    """Whether a call is the one that waits under its id, sent again."""
    as_call = ITEM_TYPES[call["type"]].as_call
    if as_call is None or earlier["type"] != call["type"]:
        return False
    first, again = as_call(earlier), as_call(call)
    return first.name == again.name and _is_alike(first, again)


def _is_alike(first: Call, again: Call) -> bool:
    """Whether the arguments say the same: clients write them anew (JavaScript makes 1 of 1.0)."""
    texts = object_text(first.arguments), object_text(again.arguments)
    try:
        return bool(orjson.loads(texts[0]) == orjson.loads(texts[1]))
    except RecursionError:
        return texts[0] == texts[1]


def _first(waiting: _Waiting, item: Item) -> str | None:
    """The call that an output without `call_id` belongs to. That of a search has got its id, if it
    is there (`carry.py`)."""
    match item["type"]:
        case "tool_search_output":
            return None
        case "local_shell_call_output" if item["id"] in waiting.calls:
            id_: str = item["id"]
            return id_
        case _:
            return waiting.first(called(item))


def _words(type_: str) -> str:
    return type_.replace("_", " ")
