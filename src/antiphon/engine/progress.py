"""How far a background run is: what the next owner needs to go on (decision 0005)."""

from dataclasses import asdict, dataclass, field

import orjson

from antiphon.protocol.machine import HostedCall
from antiphon.protocol.response import Usage


@dataclass(slots=True)
class Progress:
    """Written down after each step, with the events of the step."""

    #: Items that had been announced: they stay, whatever happens, unless they were taken back.
    settled: int = 0
    usage: Usage = field(default_factory=Usage)
    #: Model turns that have ended.
    turns: int = 0
    #: Hosted calls of the last turn that are still to be made, and whether the first of them was
    #: begun, if it must not be made twice.
    pending: list[HostedCall] = field(default_factory=list)
    begun: bool = False
    #: Whether the last turn left calls that the client has to answer.
    waits_for_client: bool = False

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, encoded: bytes) -> "Progress":
        """What `encode` made; the beginning where there is nothing."""
        if not encoded:
            return cls()
        kept = orjson.loads(encoded)
        kept["usage"] = Usage(**kept["usage"])
        kept["pending"] = [HostedCall(**call) for call in kept["pending"]]
        return cls(**kept)
