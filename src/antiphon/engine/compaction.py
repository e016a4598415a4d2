"""Compaction: a summary takes the place of a long context (spec §1, `context_management`; §9).

Rules
1. What stays word for word: system and developer messages, the current turn, and as many of the
   user's earlier messages as there is room for, newest first. Of a current turn that is itself too
   long, its user message and the newest calls with their outputs stay. A call and its output stay
   or go together.
2. The rest is in a summary that the model itself makes, an assistant message before the current
   turn: what tools and users said must not come back with the authority of the system.
3. The summary names the container that code ran in last, as items of calls do: the next code goes
   on in it. Likewise the newest images that were made here and are stored, for whoever wants to
   change one; none that is older than another image.
4. The outcome is sealed (`sealing.py`); whoever goes on from it needs nothing that was before it.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from antiphon.backends.base import Backend, Prompt
from antiphon.engine.counting import estimate_item
from antiphon.engine.window import Window
from antiphon.errors import ContextLengthExceeded, UpstreamError
from antiphon.protocol.deltas import TextDelta, UsageReport
from antiphon.protocol.image_references import STOOD_FOR
from antiphon.protocol.items.base import Item, Seen, told_of
from antiphon.protocol.items.content import PARTS_IN
from antiphon.protocol.items.image_generation import made_in
from antiphon.protocol.items.reading import (
    call_id_of,
    is_output,
    is_rule,
    last_user_message,
    role_of,
)
from antiphon.protocol.response import Usage
from antiphon.protocol.told import earlier

_ASK: Final = (
    "Your context is about to be cut. Write a handover of this conversation for yourself: what the "
    "user wants and has decided, what was done and found out so far (names, numbers, paths, "
    "results of tools, word for word where it matters), and what is still to be done. Do not "
    "answer the user and do not call tools. Write nothing but the handover."
)
_TITLE: Final = "Summary of the conversation so far:\n\n"
#: Tokens that stay word for word, at most, and as a part of what may be used in all.
_KEPT: Final = 20_000
_PART: Final = 4
#: A compaction is worth its cost when it takes at least this part of what may be used.
_LEAST: Final = 8
#: Bytes of items with images and files that stay, of those that are longer than a text would be.
_MEDIA: Final = 16 * 1024 * 1024
_LIGHT: Final = 64 * 1024
#: Images that the summary names: as many as an edit may take.
_IMAGES: Final = 16
_MEDIA_PARTS: Final = frozenset({"input_audio", "input_file", "input_image", "input_video"})
_GONE: Final = {"type": "input_text", "text": "(An image or a file that was here is gone.)"}


class NoSummary(UpstreamError):
    """The model made no summary of the context."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What takes the place of the context, and what it cost."""

    items: list[Item]
    usage: Usage

    def payload(self) -> dict[str, Any]:
        """What is sealed: the items, and by their places the turn and what the model is told."""
        seen = {
            str(place): [item.turn, item.told]
            for place, item in enumerate(self.items)
            if isinstance(item, Seen)
        }
        return {"items": self.items, **({"seen": seen} if seen else {})}

    def user_messages(self) -> list[Item]:
        """The messages of the user that it keeps."""
        return [item for item in self.items if role_of(item) == "user"]


def kept_items(payload: dict[str, Any], *, is_ours: bool) -> list[Item]:
    """The items of `Compacted.payload`; `is_ours`: it was made in this run."""
    items: list[Item] = payload["items"]
    for place, (turn, told) in payload.get("seen", {}).items():
        item = Seen(items[int(place)], turn, told)
        items[int(place)] = item if is_ours else earlier(item)
    return items


@dataclass(frozen=True, slots=True)
class Division:
    """What of a context stays word for word, and what the summary is made of."""

    rules: list[Item]
    messages: list[Item]
    turn: list[Item]
    told: list[Item]
    #: Whether enough would go; what an earlier summary says stays in the next one.
    gains: bool


def divide(prompt: Prompt, fixed: int, limit: int | None) -> Division:
    """How a compaction would divide what `prompt` shows behind its first `fixed` items; `limit`:
    tokens that may be used in all."""
    budget = _KEPT if limit is None else min(_KEPT, limit // _PART)
    items = prompt.items[fixed:]
    rules = [item for item in items if is_rule(item)]
    said = [item for item in items if not is_rule(item)]
    last = last_user_message(said)
    start = len(said) if last is None else last
    earlier, current = said[:start], said[start:]
    users = [item for item in earlier if role_of(item) == "user"]
    whole = sum(map(estimate_item, current)) <= budget
    turn = _whole_calls(current if whole else current[:1] + _newest(current[1:], budget))
    messages = _newest(users, budget)
    stays = {id(item) for item in turn}
    told = [item for item in said if id(item) not in stays] if whole and earlier else said
    stays.update(map(id, messages))
    goes = (item for item in said if id(item) not in stays and not _is_summary(item))
    gained = sum(map(estimate_item, goes))
    gains = gained > 0 and gained * _LEAST >= (limit or 0)
    return Division(rules, messages, turn, prompt.items[:fixed] + rules + told, gains)


async def compact(prompt: Prompt, window: Window, limit: int | None) -> Compacted:
    """Make a summary of what `prompt` shows, to be used instead of it; `limit`: see `divide`.
    Raises `APIError` when the backend makes none."""
    parts = await asyncio.to_thread(divide, prompt, window.fixed, limit)
    summary, usage = await _summary(replace(prompt, items=parts.told), window)
    message = {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": _TITLE + summary, "annotations": []}],
    }
    named = [item["container_id"] for item in prompt.items if item.get("container_id")]
    if named:
        message["container_id"] = named[-1]
    if images := _last_images(prompt.items, parts.turn):
        message[STOOD_FOR] = images
    # In a thread: the items may be long.
    messages, turn = await asyncio.to_thread(_lighter, parts.messages, parts.turn)
    return Compacted([*parts.rules, *messages, message, *turn], usage)


def _last_images(items: list[Item], turn: list[Item]) -> list[str]:
    """References to the newest images of `items`, oldest first, but for those of the `turn`."""
    stays = {id(item) for item in turn}
    images: list[str] = []
    for item in reversed([item for item in items if id(item) not in stays]):
        made = made_in(item)
        if not made and _has_image(item):  # nothing refers to it: what is older is not the newest
            break
        images += reversed(made)
    return images[:_IMAGES][::-1]


def _has_image(item: Item) -> bool:
    if item["type"] == "image_generation_call":
        return bool(item.get("result"))
    parts = item.get(PARTS_IN.get(item["type"], ""))
    return isinstance(parts, list) and any(part["type"] == "input_image" for part in parts)


def _newest(items: list[Item], budget: int) -> list[Item]:
    """The last ones, as far as there is room for them."""
    start = len(items)
    while start and (budget := budget - estimate_item(items[start - 1])) >= 0:
        start -= 1
    return items[start:]


def _lighter(messages: list[Item], turn: list[Item]) -> tuple[list[Item], list[Item]]:
    """The same with no more images and files than `_MEDIA`, the newest: they are few tokens and
    many bytes, and a seal must not become longer than what may be sent back."""
    room = _MEDIA
    lighter: list[Item] = []
    for item in reversed([*messages, *turn]):
        size = len(orjson.dumps([item, told_of(item)]))
        if size > _LIGHT and (room := room - size) < 0:
            item = _without_media(item)
        lighter.insert(0, item)
    return lighter[: len(messages)], lighter[len(messages) :]


def _without_media(item: Item) -> Item:
    if isinstance(item, Seen):
        return Seen(item, item.turn)
    for key in ("content", "output"):
        if isinstance(parts := item.get(key), list):
            kept = [part if part["type"] not in _MEDIA_PARTS else _GONE for part in parts]
            return {**item, key: kept}
    return item


def _whole_calls(items: list[Item]) -> list[Item]:
    """Without outputs whose calls are not there, before them."""
    calls: set[str | None] = set()
    kept: list[Item] = []
    for item in items:
        if is_output(item):
            if call_id_of(item) not in calls:
                continue
        else:
            calls.add(call_id_of(item))
        kept.append(item)
    return kept


def _is_summary(item: Item) -> bool:
    """One that was made here: it has no id."""
    return role_of(item) == "assistant" and "id" not in item


async def _summary(prompt: Prompt, window: Window) -> tuple[str, Usage]:
    """What the model says; a context that is too long for that loses its oldest turns."""
    ask = {"role": "user", "type": "message", "content": [{"type": "input_text", "text": _ASK}]}
    request = prompt.request.model_copy(update=_PLAIN)
    window = replace(window, auto=True)
    prompt = await window.fit(replace(prompt, request=request, items=[*prompt.items, ask]))
    while True:
        try:
            return await _ask(window.backend, prompt)
        except ContextLengthExceeded:
            shorter = window.shrink(prompt)
            if shorter is None:
                raise
            prompt = shorter


#: The summary is plain text whatever the answer shall be; tools stay, so that the backend finds the
#: same beginning of the prompt in its cache.
_PLAIN: Final[dict[str, Any]] = {
    "tool_choice": "none",
    "text": None,
    "max_output_tokens": None,
    "top_logprobs": None,
    "include": None,
}


async def _ask(backend: Backend, prompt: Prompt) -> tuple[str, Usage]:
    said: list[str] = []
    usage = Usage()
    async with aclosing(backend.generate(prompt)) as turn:
        async for deltas in turn:
            for delta in deltas:
                if isinstance(delta, TextDelta):
                    said.append(delta.text)
                elif isinstance(delta, UsageReport):
                    usage += delta.usage
    if not (text := "".join(said).strip()):
        raise NoSummary(should_retry=False)
    return text, usage
