"""How far a run is: what the next owner of a background run needs to go on (decision 0005), and
what the model knows of the run that its output does not say (decision 0007).

Rules
1. The next owner may be of an older version or a newer one (R-74). A field that has its default is
   not written: so a run that uses nothing new can be read by versions that refuse what they do not
   know. Those insist on `usage` and `pending`, which are always there.
2. What a newer version has written beside what is known here is left out.
"""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import orjson

from antiphon.protocol.image_usage import UNKNOWN, ImageUsage
from antiphon.protocol.response import Usage

_Kept = TypeVar("_Kept", "Progress", "PendingCall", "Note", Usage, ImageUsage)


@dataclass(slots=True, eq=False)
class PendingCall:
    """A call that is still to be answered: the name of the function for the model, and what the
    model wrote."""

    name: str
    arguments: str
    call_id: str | None = None
    #: The id of the request that the user has approved.
    approval: str | None = None
    #: The place of its item in the output; None: it is not announced.
    index: int | None = None
    #: It must not be made twice, and was begun.
    begun: bool = False


@dataclass(slots=True)
class Note:
    """A call that became no item, and what the model is told of it. `after`: the id of the item
    before it, once its turn is over; empty: there is none."""

    name: str
    arguments: str
    text: str
    turn: int
    after: str | None = None


@dataclass(slots=True)
class Progress:
    """Written down after each step, with the events of the step."""

    #: Items that had been announced: they stay, whatever happens, unless they were taken back.
    settled: int = 0
    usage: Usage = field(default_factory=Usage)
    #: Model turns that have ended with calls, and the tokens that the model wrote in them.
    turns: int = 0
    spent: int = 0
    #: Calls of the last turn, or that the user has approved, that are still to be answered.
    pending: list[PendingCall] = field(default_factory=list)
    #: Whether the last turn left calls that the client has to answer.
    waits_for_client: bool = False
    #: Whether what the user has approved is among what was pending.
    ready: bool = False
    #: Turns in a row with nothing but calls that may not be made any more.
    refused: int = 0
    notes: list[Note] = field(default_factory=list)
    #: Id of an item → the turn that it belongs to, and what the model is told beside it.
    turn_of: dict[str, int] = field(default_factory=dict)
    told: dict[str, str | list[Any]] = field(default_factory=dict)
    #: What the model may cite, in the order of their numbers (`protocol/sources.py`).
    sources: list[list[str]] = field(default_factory=list)
    #: Tokens of the images that were made.
    image_usage: ImageUsage = UNKNOWN

    def encode(self) -> bytes:
        """As JSON; what the version before did not know only where there is something to say."""
        later = {
            "spent": self.spent,
            "ready": self.ready,
            "refused": self.refused,
            "notes": self.notes,
            "turn_of": self.turn_of,
            "told": self.told,
            "sources": self.sources,
            "image_usage": self.image_usage,
        }
        return orjson.dumps(
            {
                "settled": self.settled,
                "usage": self.usage,
                "turns": self.turns,
                "pending": [_call(call) for call in self.pending],
                "waits_for_client": self.waits_for_client,
                **{name: value for name, value in later.items() if value},
            }
        )

    @classmethod
    def decode(cls, encoded: bytes) -> "Progress":
        """What `encode` made, of whatever version; the beginning where there is nothing."""
        if not encoded:
            return cls()
        kept = orjson.loads(encoded)
        kept["usage"] = _known(Usage, kept["usage"])
        kept["image_usage"] = _known(ImageUsage, kept.get("image_usage", {}))
        kept["pending"] = [_known(PendingCall, call) for call in kept["pending"]]
        kept["notes"] = [_known(Note, note) for note in kept.get("notes", ())]
        if kept.get("begun") and kept["pending"]:  # the version before said it of the first only
            kept["pending"][0].begun = True
        return _known(cls, kept)


def told_in(encoded: bytes) -> dict[str, str | list[Any]]:
    """What the model was told so far; nothing where that cannot be read."""
    try:
        return Progress.decode(encoded).told
    except (LookupError, TypeError, ValueError):
        return {}


def _call(call: PendingCall) -> dict[str, Any]:
    later = {
        "call_id": call.call_id,
        "approval": call.approval,
        "index": call.index,
        "begun": call.begun or None,
    }
    known = {name: value for name, value in later.items() if value is not None}
    return {"name": call.name, "arguments": call.arguments, **known}


def _known(kind: type[_Kept], written: dict[str, Any]) -> _Kept:
    """An object of this kind, of those fields that it has."""
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in written.items() if name in names})
