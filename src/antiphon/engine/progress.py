"""How far a run is: what the next owner of a background run needs to go on (decision 0005), and
what the model knows of the run that its output does not say (decision 0007)."""

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from antiphon.protocol.response import Usage


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
    #: Model turns that have ended with calls.
    turns: int = 0
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
    #: URL and title of what the model may cite, in the order of their numbers.
    sources: list[list[str]] = field(default_factory=list)

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, encoded: bytes) -> "Progress":
        """What `encode` made, of this version or the one before; the beginning where there is
        nothing."""
        if not encoded:
            return cls()
        kept = orjson.loads(encoded)
        begun = kept.pop("begun", False)
        kept["usage"] = Usage(**kept["usage"])
        kept["pending"] = [PendingCall(**call) for call in kept["pending"]]
        kept["notes"] = [Note(**note) for note in kept.get("notes", ())]
        if begun:
            kept["pending"][0].begun = True
        return cls(**kept)
