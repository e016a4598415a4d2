"""The items of a prompt as a conversation with turns, for all adapters. Pure.

Rules
1. Everything that the model said before anybody else spoke is one turn: text, reasoning and all
   parallel calls, in their order.
2. The results of a turn's calls belong to it, in the order of the calls, wherever they stood in the
   items. A result without such a call stands alone.
3. What the model says after a call that has its result in itself (a hosted tool) is a new turn.
4. Items that are neither message, reasoning, call nor result are not shown to a model.
5. A call has an id that all servers take, and that no other call has: a long one, and one that was
   there before, gives way to a short one, in the call and in its result. One that Kimi made keeps
   its form, and counts on: of all that is said of a call, its template shows the id and no name. A
   name that no function can have, whoever gave it, gives way, too.
6. A message that is said again between calls and their results stands before these calls: results
   are what the model answers. Clients repeat what was asked with them (Semantic Kernel; the Vercel
   AI SDK with a conversation).
"""

import hashlib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import orjson

from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Call, Item, Result, turn_of
from antiphon.protocol.names import name_of_call

#: Characters of a call's id: OpenAI's chat completions takes no more, and items have ids of 51.
_MOST_ID: Final = 40
#: Those of an id that stands for another one.
_SHORT: Final = 9
#: An id of Kimi, and of vLLM and SGLang for it: the name of the function, and a number.
_KIMI: Final = re.compile(r"(functions\.[a-zA-Z0-9_.-]+:)([0-9]{1,9})")


def short_id(id_: str) -> str:
    """What stands for an id that a server does not take. Mistral takes nothing else."""
    return hashlib.blake2b(id_.encode()).hexdigest()[:_SHORT]


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the user, the system or the developer."""

    item: Item


@dataclass(frozen=True, slots=True)
class Called:
    """A call, and the item that it stands in."""

    item: Item
    call: Call


@dataclass(frozen=True, slots=True)
class Returned:
    """What a call has brought, and the item that it stands in."""

    item: Item
    result: Result


@dataclass(slots=True)
class Turn:
    """What the model said: messages and reasoning as items, and calls; and what came of these."""

    parts: list[Item | Called] = field(default_factory=list)
    results: list[Returned] = field(default_factory=list)

    @property
    def calls(self) -> list[Called]:
        """The calls alone."""
        return [part for part in self.parts if isinstance(part, Called)]


#: `Returned`: nobody knows its call.
Step: TypeAlias = Said | Turn | Returned


def transcript(items: Sequence[Item]) -> list[Step]:
    """The conversation, oldest first."""
    writer = _Writer(items)
    for position, item in enumerate(items):
        writer.take(position, item)
    writer.end_turn()
    return writer.steps


def _words(item: Item) -> bytes:
    return orjson.dumps((item["role"], item["content"]))


class _Writer:
    """Collects the model's turn until somebody else speaks."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.steps: list[Step] = []
        self._turn = Turn()
        self._answered = False  # a call of this turn has its own result
        self._until = -1  # the last place of a result of this turn's calls
        self._is_asked_again = False  # within this turn
        self._number: int | None = None
        self._results: dict[str, deque[tuple[int, Returned]]] = defaultdict(deque)
        self._used: set[int] = set()  # positions of results that belong to a turn
        self._ids: set[str] = set()  # of calls so far
        #: Messages among the steps, as far as those were looked at.
        self._said: set[bytes] = set()
        self._looked_at = 0
        #: Ids that came again, how often; and what Kimi counts, up to where.
        self._numbers: Counter[str] = Counter()
        for position, item in enumerate(items):
            as_result = ITEM_TYPES[item["type"]].as_result
            if as_result:
                result = as_result(item)
                self._results[result.call_id].append((position, Returned(item, result)))

    def take(self, position: int, item: Item) -> None:
        """One item, in order."""
        match item["type"]:
            case "message" if item["role"] != "assistant":
                if self._until > position and self._was_said(item):
                    self._is_asked_again = True
                else:
                    self.end_turn()
                self.steps.append(Said(item))
            case "message" | "reasoning":
                if self._is_asked_again:  # that is the answer
                    self.end_turn()
                self._end_answered_turn()
                self._turn.parts.append(item)
            case _:
                self._take_call(position, item)

    def _take_call(self, position: int, item: Item) -> None:
        item_type = ITEM_TYPES[item["type"]]
        if item_type.as_call:
            self._end_earlier_turn(item)
            call = item_type.as_call(item)
            self._turn.parts.append(Called(item, call._replace(name=name_of_call(call.name))))
            if places := self._results.get(call.call_id):
                self._until = max(self._until, places[0][0])
            self._answered = self._answered or item_type.as_result is not None
        elif item_type.as_result:
            self.end_turn()
            if position not in self._used:
                self.steps.append(Returned(item, item_type.as_result(item)))

    def _was_said(self, item: Item) -> bool:
        for step in self.steps[self._looked_at :]:
            if isinstance(step, Said):
                self._said.add(_words(step.item))
        self._looked_at = len(self.steps)
        return _words(item) in self._said

    def end_turn(self) -> None:
        """Somebody else speaks, or nobody."""
        if not self._turn.parts:
            return
        turn, self._turn, self._answered = self._turn, Turn(), False
        self._until, self._is_asked_again = -1, False
        for place, part in enumerate(turn.parts):
            if isinstance(part, Called):
                turn.parts[place] = self._with_result(part, turn.results)
        self.steps.append(turn)

    def _with_result(self, called: Called, brought: list[Returned]) -> Called:
        """The call under an id of its own, after what it has brought."""
        sent = called.call.call_id
        own = self._own_id(sent)
        results = self._results[sent]
        if results:
            position, returned = results.popleft()
            self._used.add(position)
            if own != sent:
                returned = Returned(returned.item, returned.result._replace(call_id=own))
            brought.append(returned)
        return called if own == sent else Called(called.item, called.call._replace(call_id=own))

    def _own_id(self, sent: str) -> str:
        kimi = _KIMI.fullmatch(sent)
        key = kimi[1] if kimi else sent
        own = sent if kimi or len(sent) <= _MOST_ID else short_id(sent)
        while own in self._ids:
            self._numbers[key] += 1
            number = self._numbers[key]
            own = f"{key}{number}" if kimi else short_id(f"{sent} {number}")
        if kimi:
            self._numbers[key] = max(self._numbers[key], int(kimi[2]))
        self._ids.add(own)
        return own

    def _end_answered_turn(self) -> None:
        if self._answered:
            self.end_turn()

    def _end_earlier_turn(self, item: Item) -> None:
        """Calls that this server answered one after the other are no parallel calls."""
        number = turn_of(item)
        if number is not None and number != self._number:
            self._end_answered_turn()
        self._number = number
