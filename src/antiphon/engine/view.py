"""What the model of one run sees, turn by turn (design §4, spec §9). See decision 0006.

Rules
1. [instructions] [messages of the template] [what was said before and this input] [output so far].
2. Before each turn: too long for `compact_threshold` → a summary takes its place; then too long for
   the window → turns go, or it is an error (`window.py`).
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Final

from antiphon.backends.base import Prompt, TokenCount
from antiphon.engine.album import Album
from antiphon.engine.attachments import refilled
from antiphon.engine.carry import Carrier
from antiphon.engine.compaction import Compacted, compact, divide
from antiphon.engine.counting import count, estimated, reaches
from antiphon.engine.window import MARGIN, Turns, Window
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.reading import role_of
from antiphon.protocol.request import CreateResponse

#: Without a threshold of its own a context is compacted at this part of the window.
_THRESHOLD: Final = 0.8


@dataclass(frozen=True, slots=True)
class Truncated:
    """How many items of the context the model did not see, and with which one it began."""

    items: int
    first_kept_id: str | None

    def body(self) -> dict[str, Any]:
        """`truncated` of a Response: a field of ours."""
        return {"items": self.items, "first_kept_id": self.first_kept_id}

    def header(self) -> str:
        """``x-antiphon-truncated``."""
        return f"items={self.items}; first-kept={self.first_kept_id}"


@dataclass(slots=True)
class View:
    """The context of one run. `start` has the items that all turns see: history and input."""

    start: Prompt
    window: Window
    carrier: Carrier
    #: Tokens from which on the context is compacted; None: never.
    compact_at: int | None
    #: Shows images that were made here; None: the model is shown none.
    album: Album | None = None
    #: What the last turn did not see.
    truncated: Truncated | None = None
    #: `start` as far as it fits, once that is known.
    _fitted: Prompt | None = field(default=None, repr=False)
    #: Items of the context as the next turn should see it.
    _whole: int = 0
    #: Turns at the front that the backend has found too much: the next turn goes on without them.
    _cut: int = 0

    def __post_init__(self) -> None:
        self._whole = len(self.start.items)

    def equip(self, request: CreateResponse) -> None:
        """What the next turn is asked: its tools may be others."""
        if request is not self.start.request:
            self.start = replace(self.start, request=request)
            self._fitted = None

    async def check(self) -> None:
        """Raise `ContextLengthExceeded` for what will not fit and nothing can be done about."""
        if self.compact_at is None:
            self._fitted = await self._fit(self.start)

    async def tokens(self) -> TokenCount:
        """How long it is before anything goes."""
        return await count(self.window.backend, self.start)

    async def show(self, output: list[Item]) -> Prompt:
        """All that the next turn should see after `output` of this run."""
        if not output:
            return self.start
        front, items = self._parts(self.start)
        shown = front + await self._carried(items, output)
        self._whole = len(shown)
        return replace(self.start, items=shown)

    async def fit(self, prompt: Prompt) -> Prompt:
        """What of it fits. Raises `ContextLengthExceeded`."""
        if prompt is self.start and self._fitted is not None:
            return self._fitted
        if self._cut:
            prompt = replace(prompt, items=self._turns(prompt).without(self._cut))
            self._note(prompt)
        return await self._fit(prompt)

    def shrink(self, prompt: Prompt) -> Prompt | None:
        """Less of it, for a backend that said that it is too long; None: nothing more may go."""
        shorter = self.window.shrink(prompt)
        if shorter is not None:
            self._note(shorter)
            self._cut += self._turns(prompt).count - self._turns(shorter).count
        return shorter

    async def must_compact(self, prompt: Prompt) -> bool:
        """Whether it is time, and something would be gained."""
        limit = self.compact_at
        if limit is None or not reaches(prompt, limit):
            return False
        if await estimated(prompt) * MARGIN < limit:
            return False
        counted = await count(self.window.backend, prompt)
        if counted.tokens < limit:
            return False
        division = await asyncio.to_thread(divide, prompt, self.window.fixed, limit)
        return division.gains

    async def compact(self, output: list[Item]) -> Compacted:
        """A summary of everything, the output of this run included. Raises `APIError`."""
        front, items = self._parts(self.start)
        shown = await self._carried(items, output)
        prompt = replace(self.start, items=front + shown)
        self._cut = 0
        return await compact(prompt, self.window, self.compact_at or self.window.size)

    async def _carried(self, items: list[Item], output: list[Item]) -> list[Item]:
        """What a compaction in `output` keeps has been sealed without the contents of files, and an
        item has a reference to its image."""
        shown = refilled(await self.carrier.carry(items + output), items)
        return shown if self.album is None else await self.album.fill(shown)

    async def _fit(self, prompt: Prompt) -> Prompt:
        fitted = await self.window.fit(prompt)
        if fitted is not prompt:
            self._note(fitted)
        return fitted

    def _note(self, shorter: Prompt) -> None:
        _, kept = self._parts(shorter)
        first = next((item.get("id") for item in kept if role_of(item) == "user"), None)
        self.truncated = Truncated(self._whole - len(shorter.items), first)

    def _turns(self, prompt: Prompt) -> Turns:
        return Turns(prompt.items, self.window.fixed)

    def _parts(self, prompt: Prompt) -> tuple[list[Item], list[Item]]:
        fixed = self.window.fixed
        return prompt.items[:fixed], prompt.items[fixed:]


def threshold(request: CreateResponse, size: int | None) -> int | None:
    """When the request wants its context compacted, in tokens; `size`: of the window. None: never,
    or nobody knows when."""
    for entry in request.context_management or ():
        asked: int | None = entry.get("compact_threshold")
        return asked or (int(size * _THRESHOLD) if size else None)
    return None
