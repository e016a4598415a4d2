"""Does a prompt fit into the model's context window, and what goes when it does not (spec §1,
`truncation`). See decision 0006.

Rules
1. ``disabled``: what is known to be too long is refused before the backend is asked; what is only
   estimated to be is the backend's to refuse.
2. ``auto``: whole turns go, oldest first; a turn is a user message and all up to the next one. The
   last turn stays, system and developer messages stay, and of a call and its output both go.
3. Nothing is counted while the window is not known, or while the prompt is far from it.
"""

from dataclasses import dataclass, replace
from typing import Final

from antiphon.backends.base import Backend, Prompt
from antiphon.engine.counting import count, estimate_item, estimated, reaches
from antiphon.errors import ContextLengthExceeded
from antiphon.protocol.items.base import Item

#: An estimate may be wrong by this factor.
MARGIN: Final = 2
#: Room for the answer when the request does not say how long it may be: this many tokens, or that
#: part of the window.
_ANSWER: Final = 1024
_PART: Final = 8


class Turns:
    """The items of a context, as far as whole turns of it may go."""

    def __init__(self, items: list[Item], fixed: int) -> None:
        """The first `fixed` items stay whatever they are."""
        self._fixed, self._items = items[:fixed], items[fixed:]
        starts = [index for index, item in enumerate(self._items) if item.get("role") == "user"]
        if starts and any(_may_go(item) for item in self._items[: starts[0]]):
            starts.insert(0, 0)
        #: Where the turns begin that may go, and the one that may not.
        self._starts = starts
        #: How many may go.
        self.count = max(0, len(starts) - 1)

    def without(self, number: int) -> list[Item]:
        """The items without the first `number` turns."""
        start = self._starts[number]
        gone = [item for item in self._items[:start] if _may_go(item)]
        calls = {item["call_id"] for item in gone if "call_id" in item}
        kept = [item for item in self._items[:start] if not _may_go(item)]
        later = self._items[start:]
        later = [item for item in later if item.get("call_id") not in calls]
        return self._fixed + kept + later

    def worth(self, tokens: float) -> int:
        """How many turns are estimated to be that long; one more than there are, when all are not.
        What goes with a turn elsewhere comes on top."""
        for number in range(1, self.count + 1):
            first, beyond = self._starts[number - 1], self._starts[number]
            gone = [item for item in self._items[first:beyond] if _may_go(item)]
            if (tokens := tokens - sum(map(estimate_item, gone))) <= 0:
                return number
        return self.count + 1


def _may_go(item: Item) -> bool:
    return item.get("role") not in ("system", "developer")


@dataclass(frozen=True, slots=True)
class Window:
    """The window of the model behind one request: `size` in tokens, None when it is not known."""

    backend: Backend
    size: int | None
    #: Whether turns may go.
    auto: bool
    #: Items at the start of each prompt that stay: the messages of a template.
    fixed: int = 0

    async def fit(self, prompt: Prompt) -> Prompt:
        """The prompt, or what of it fits. Raises `ContextLengthExceeded`."""
        if self.size is None or not reaches(prompt, self.size):
            return prompt
        guess = await estimated(prompt)
        if guess * MARGIN < self.size:
            return prompt
        counted = await count(self.backend, prompt)
        if not self.auto:
            if counted.source != "estimate" and counted.tokens >= self.size:
                raise ContextLengthExceeded
            return prompt
        room = self.size - self._answer(prompt)
        if counted.tokens <= room:
            return prompt
        scale = counted.tokens / max(1, guess)
        return await self._shortened(prompt, room, (counted.tokens - room) / scale)

    def shrink(self, prompt: Prompt) -> Prompt | None:
        """Half as many turns, for a backend that said that it is too long; None: no more can go."""
        turns = Turns(prompt.items, self.fixed)
        if not self.auto or turns.count == 0:
            return None
        return replace(prompt, items=turns.without((turns.count + 1) // 2))

    def _answer(self, prompt: Prompt) -> int:
        size = self.size or 0
        return prompt.request.max_output_tokens or min(_ANSWER, size // _PART)

    async def _shortened(self, prompt: Prompt, room: int, excess: float) -> Prompt:
        """Without as many turns as `excess` estimated tokens are; then it is counted."""
        turns = Turns(prompt.items, self.fixed)
        number, step = turns.worth(excess), 1
        while number <= turns.count:
            shorter = replace(prompt, items=turns.without(number))
            if (await count(self.backend, shorter)).tokens <= room:
                return shorter
            number += step
            step *= 2
        raise ContextLengthExceeded
