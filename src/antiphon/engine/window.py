"""Does a prompt fit into the model's context window, and what goes when it does not (spec §1,
`truncation`). See decision 0006.

Rules
1. ``disabled``: what is known to be too long is refused before the backend is asked; what is only
   estimated to be is the backend's to refuse.
2. ``auto``: whole turns go, oldest first; a turn is a user message and all up to the next one. The
   last turn stays, system and developer messages stay, and of a call and its output both go. What
   is too long without them is refused as in rule 1.
3. Nothing is counted while the window is not known, or while the prompt is far from it.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from antiphon.backends.base import Backend, Prompt, TokenCount
from antiphon.engine.counting import count, estimate_item, estimated, reaches
from antiphon.errors import ContextLengthExceeded
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.reading import call_id_of, is_output, is_rule, role_of

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
        starts = [index for index, item in enumerate(self._items) if role_of(item) == "user"]
        if starts and any(not is_rule(item) for item in self._items[: starts[0]]):
            starts.insert(0, 0)
        #: Where the turns begin that may go, and the one that may not.
        self._starts = starts
        #: How many may go.
        self.count = max(0, len(starts) - 1)

    def without(self, number: int) -> list[Item]:
        """The items without the first `number` turns."""
        start = self._starts[number]
        gone = [item for item in self._items[:start] if not is_rule(item)]
        kept = [item for item in self._items[:start] if is_rule(item)]
        return self._fixed + kept + _not_answering(gone, self._items[start:])

    def worth(self, tokens: float) -> int:
        """How many turns are estimated to be that long; all, when they are not. What goes with a
        turn elsewhere comes on top."""
        for number in range(1, self.count):
            first, beyond = self._starts[number - 1], self._starts[number]
            gone = [item for item in self._items[first:beyond] if not is_rule(item)]
            if (tokens := tokens - sum(map(estimate_item, gone))) <= 0:
                return number
        return self.count


def _not_answering(gone: list[Item], items: list[Item]) -> list[Item]:
    """`items`, but for the outputs of calls that are `gone`. A later call may have the same id:
    some models count theirs anew in each answer."""
    calls = {call_id for item in gone if (call_id := call_id_of(item)) is not None}
    kept: list[Item] = []
    for item in items:
        if calls and (call_id := call_id_of(item)) in calls:
            if is_output(item):
                continue
            calls.discard(call_id)
        kept.append(item)
    return kept


@dataclass(slots=True)
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
        room = self.size - self._answer(prompt)
        if self.auto and counted.tokens > room:
            excess = (counted.tokens - room) * guess / max(1, counted.tokens)
            prompt, counted = await self._shortened(prompt, counted, room, excess)
        if counted.source == "backend" and counted.tokens >= self.size:
            raise ContextLengthExceeded
        return prompt

    def shrink(self, prompt: Prompt) -> Prompt | None:
        """Half as many turns, for a backend that said that it is too long; None: no more can go."""
        turns = Turns(prompt.items, self.fixed)
        if not self.auto or turns.count == 0:
            return None
        return replace(prompt, items=turns.without((turns.count + 1) // 2))

    def _answer(self, prompt: Prompt) -> int:
        size = self.size or 0
        asked = prompt.request.max_output_tokens or min(_ANSWER, size // _PART)
        return min(asked, size // 2)  # what was said is worth as much as what may be said

    async def _shortened(
        self, prompt: Prompt, counted: TokenCount, room: int, excess: float
    ) -> tuple[Prompt, TokenCount]:
        """Without as many turns as `excess` estimated tokens are, and more until there is room or
        no more may go; how long that is."""
        turns = Turns(prompt.items, self.fixed)
        if turns.count == 0:
            return prompt, counted
        # In a thread: the items may be long.
        number, step = await asyncio.to_thread(turns.worth, excess), 1
        while True:
            shorter = replace(prompt, items=turns.without(number))
            counted = await count(self.backend, shorter)
            if counted.tokens <= room or number == turns.count:
                return shorter, counted
            number = min(number + step, turns.count)
            step *= 2
