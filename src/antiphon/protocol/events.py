"""A Response is the fold of its events (design §1; decision record 0001).

Rules
1. `EFFECTS` is the whole list of events that a server may send (spec App. E). An event type that
   is not in it is a KeyError: no invented types, official clients throw on them (spec §4.3).
2. It is assembled from the item records; what concerns every item or the response as a whole
   stands here.
3. The machine that makes events and everybody who replays them use the same table.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from antiphon.protocol import effects
from antiphon.protocol.effects import Effect, Event, Fold, Json, clone
from antiphon.protocol.items import ITEM_TYPES

#: Exactly one of these is in a stream, as its last event (spec §4.1).
TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})

_RESPONSE_EVENTS: Mapping[str, Effect] = {
    "response.created": effects.replace_response,
    "response.queued": effects.replace_response,
    "response.in_progress": effects.replace_response,
    "response.completed": effects.end_response,
    "response.incomplete": effects.end_response,
    "response.failed": effects.end_response,
    "response.output_item.added": effects.add_item,
    "response.output_item.done": effects.set_item,
    "response.audio.delta": effects.nothing,
    "response.audio.done": effects.nothing,
    "response.audio.transcript.delta": effects.nothing,
    "response.audio.transcript.done": effects.nothing,
    "response.steer.accepted": effects.nothing,
    "response.steer.pending": effects.nothing,
    "response.steer.failed": effects.nothing,
    "error": effects.nothing,
    "keepalive": effects.nothing,
}

EFFECTS: Final[Mapping[str, Effect]] = {
    **_RESPONSE_EVENTS,
    **{
        event: effect
        for item_type in ITEM_TYPES.values()
        for event, effect in item_type.effects.items()
    },
}


def apply(fold: Fold, event: Event) -> None:
    """Apply one event, whose objects stay the caller's."""
    EFFECTS[event["type"]](fold, clone(event))


def fold(log: Iterable[Event]) -> Json:
    """The Response that a log of events amounts to."""
    state = Fold()
    for event in log:
        apply(state, event)
    return state.snapshot()
