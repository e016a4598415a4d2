"""What a model must see, as plainly as it can be said: spec §9 and decision 0006, none of our code.

A history is a list of `Said`. Everything in it has a label of its own, by which it is known again
in a prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["message", "call", "output", "reasoning", "compaction", "trigger"]


@dataclass(frozen=True)
class Said:
    """One item. `call_id` is None in an output that does not name its call."""

    kind: Kind
    label: str
    role: str | None = None
    call_id: str | None = None
    id: str | None = None
    #: Of a call: its arguments may be half.
    cut_off: bool = False
    #: Of a thought: what the backend wants back with it.
    state: int | None = None
    #: Of a compaction of ours: what is in it.
    inside: "tuple[Said, ...] | None" = None

    @property
    def is_rule(self) -> bool:
        """A system or developer message."""
        return self.role in ("system", "developer")

    @property
    def is_user(self) -> bool:
        """A message of the user."""
        return self.role == "user"

    def face(self) -> tuple[object, ...]:
        """What a model sees of it."""
        return self.kind, self.label, self.role, self.call_id, self.state


History: TypeAlias = list[Said]


def carried(items: History, *, all_turns: bool) -> History:
    """The last compaction of ours stands for all before it; thoughts are shown after the last user
    message, or everywhere."""
    shown = items
    for index, said in enumerate(items):
        if said.inside is not None:
            shown = [*said.inside, *items[index + 1 :]]
    shown = [said for said in shown if said.kind not in ("compaction", "trigger")]
    users = [index for index, said in enumerate(shown) if said.is_user]
    last = users[-1] if users else -1
    return [
        said
        for index, said in enumerate(shown)
        if said.kind != "reasoning" or all_turns or index > last
    ]


def pending(items: History) -> list[str]:
    """The ids of calls that no output has answered, oldest first."""
    return [call.call_id for call in unanswered(items) if call.call_id is not None]


def unanswered(items: History) -> History:
    """Those calls."""
    waiting: History = []
    for said in items:
        if said.kind == "call" and said.call_id is not None:
            waiting.append(said)
        elif said.kind == "output":
            answered = [call for call in waiting if call.call_id == said.call_id][:1]
            waiting = [call for call in waiting if not any(call is one for one in answered)]
    return waiting


def paired(items: History) -> History | None:
    """Outputs know their calls, and of those of one call the last one is there; calls that were cut
    off and not answered are not. None: a call or an output is alone."""
    named: History = []
    for said in items:
        known = said
        if said.kind == "output" and said.call_id is None:
            waiting = pending(named)
            known = replace(said, call_id=waiting[0] if waiting else "null")
        named.append(known)
    calls = {i: call_of(named, i) for i, said in enumerate(named) if said.kind == "output"}
    if None in calls.values():
        return None
    last = {call: index for index, call in calls.items()}
    left = unanswered(named)
    if any(not call.cut_off for call in left):
        return None
    return [
        said
        for index, said in enumerate(named)
        if not any(said is call for call in left) and last.get(calls.get(index), index) == index
    ]


def call_of(items: Sequence[Said], index: int) -> int | None:
    """Where the call stands that the output at `index` answers: the nearest one before it."""
    found = [
        earlier
        for earlier in range(index)
        if items[earlier].kind == "call" and items[earlier].call_id == items[index].call_id
    ]
    return found[-1] if found else None


def without_lonely(items: History, kept: set[int]) -> History:
    """Of `items` those at the indices `kept`, but no output without its call."""
    return [
        items[index]
        for index in sorted(kept)
        if items[index].kind != "output" or call_of(items, index) in kept
    ]


# -- truncation ----------------------------------------------------------------------------------


def beginnings(items: History) -> list[int]:
    """Where turns begin: with each user message, and with what stands before the first."""
    users = [index for index, said in enumerate(items) if said.is_user]
    if users and any(not said.is_rule for said in items[: users[0]]):
        users.insert(0, 0)
    return users


def turns_that_may_go(items: History) -> int:
    """All but the last."""
    return max(0, len(beginnings(items)) - 1)


def dropped(items: History, turns: int) -> History:
    """Without the first `turns` turns: rules stay, and no output outlives its call."""
    if turns == 0:
        return items
    start = beginnings(items)[turns]
    return without_lonely(
        items, {index for index, said in enumerate(items) if index >= start or said.is_rule}
    )


def halved(items: History, times: int) -> History:
    """What is left when half of the turns that may go, rounded up, go again and again."""
    for _ in range(times):
        items = dropped(items, (turns_that_may_go(items) + 1) // 2)
    return items


def may_have_gone(
    items: History, asked: Sequence[int], tokens: Callable[[History], int], room: int
) -> bool:
    """Whether `asked`, the numbers of turns without which was counted, are right: nothing goes that
    need not, the first guess apart; then 1, 2, 4 … more, never more than may go."""
    most = turns_that_may_go(items)
    if asked[0] != 0 or any(tokens(dropped(items, turns)) <= room for turns in asked[:-1]):
        return False
    steps = [later - earlier for earlier, later in pairwise(asked[1:])]
    expected = [2**number for number in range(len(steps))]
    if steps and asked[-1] == most:
        return steps[:-1] == expected[:-1] and 0 < steps[-1] <= expected[-1]
    return steps == expected and (tokens(dropped(items, asked[-1])) <= room or asked[-1] == most)


# -- compaction ----------------------------------------------------------------------------------


def compacted(items: History, summary: Said) -> tuple[History, History]:
    """(what the summary is made of, what the compaction holds), where there is room for everything
    that shall stay: rules, questions, the current turn."""
    rules = [said for said in items if said.is_rule]
    rest = [said for said in items if not said.is_rule]
    users = [index for index, said in enumerate(rest) if said.is_user]
    start = users[-1] if users else len(rest)
    current = [
        index
        for index in range(start, len(rest))
        if rest[index].kind != "output" or (call_of(rest, index) or -1) >= start
    ]
    turn = [rest[index] for index in current]
    told = [said for index, said in enumerate(rest) if index not in current] if start else rest
    questions = [said for said in rest[:start] if said.is_user]
    return rules + told, [*rules, *questions, summary, *turn]
