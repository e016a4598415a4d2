"""The birthplace of events (design §1, decision 0001).

Rules
1. `emit` makes an event: it stamps `sequence_number`, encodes the event once and applies it to the
   Response with the effect that replay uses. Deltas, of which an answer has hundreds, are made by
   `grow`, which does the same with what they have in common encoded beforehand. Nobody else does.
2. The Response is changed by events only. Growing strings in it lag behind until `settle`.
3. Events are kept as bytes only, so what an event carried may be changed by later events.
4. Where nobody reads the events (`unread`), those that carry the whole Response are
   not encoded. The others are: what cannot be encoded must not get into the Response.
"""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from antiphon.protocol.effects import Fold, Json, Path
from antiphon.protocol.events import EFFECTS
from antiphon.protocol.ids import PADDED_TO, Mint
from antiphon.protocol.response import Response

#: One event: its type and its JSON, encoded once.
Frame: TypeAlias = tuple[str, bytes]

_BODY: Final = itemgetter(1)


def size_of(frames: Iterable[Frame]) -> int:
    """Bytes of the bodies. Without a step of Python's for each: there are hundreds an answer."""
    return sum(map(len, map(_BODY, frames)))


def exact(raw: bytes) -> bytes:
    """A copy of what orjson made, for who keeps it: the original keeps 4 KiB, however short it is,
    and up to twelve times what is in it."""
    return b"".join((raw, b""))


class Growing(NamedTuple):
    """A string that grows by deltas, and what is the same in all of their events."""

    type: str
    path: Path
    #: Lacks the number of the event, the delta, and the padding if there is any.
    template: bytes


class Emitter:
    """Makes the events of one response and holds what they amount to."""

    def __init__(
        self,
        response: Response | Fold,
        mint: Mint,
        *,
        obfuscation: bool,
        unread: bool = False,
        first: int = 0,
    ) -> None:
        self.mint = mint
        if isinstance(response, Fold):
            self.fold = response
        else:
            self.fold = Fold()
            self.fold.replace(response)
        self._obfuscation = obfuscation
        self._unread = unread
        self._frames: list[Frame] = []
        #: The number of the next event.
        self.next_number = first

    def take(self) -> list[Frame]:
        """The frames emitted since the last call, in order."""
        frames, self._frames = self._frames, []
        return frames

    def retract(self) -> None:
        """The last event was taken but shown to nobody: its number is free again."""
        self.next_number -= 1

    def emit(self, type_: str, fields: Json) -> None:
        """One event of `type_` with `fields` beside its number."""
        event = {"type": type_, "sequence_number": self.next_number, **fields}
        frame = type_, exact(orjson.dumps(event))  # frames wait for slow readers
        EFFECTS[type_](self.fold, event)
        # What cannot be written, or means nothing, has no number and is shown to nobody.
        self.next_number += 1
        self._frames.append(frame)

    def emit_delta(self, type_: str, fields: Json) -> None:
        """An event with a `delta`, padded if the client asked for it (spec §4)."""
        if self._obfuscation:
            padding = self.mint.paddings[len(fields["delta"]) % PADDED_TO]
            fields["obfuscation"] = padding.decode()
        self.emit(type_, fields)

    def growing(self, type_: str, place: Json, path: Path, rest: Json) -> Growing:
        """The string at `path`, whose deltas are events of `type_` with the fields `place` before
        the delta and `rest` behind it."""
        if type_ not in EFFECTS:
            raise KeyError(type_)
        parts = [
            b'{"type":"%b","sequence_number":%%d' % type_.encode(),
            orjson.dumps(place)[1:-1].replace(b"%", b"%%"),
            b'"delta":%b',
            orjson.dumps(rest)[1:-1].replace(b"%", b"%%"),
            b'"obfuscation":"%b"' if self._obfuscation else b"",
        ]
        return Growing(type_, path, b",".join(filter(None, parts)) + b"}")

    def grow(self, string: Growing, delta: str) -> None:
        """One event: `string` grows by `delta`."""
        type_, path, template = string
        number = self.next_number
        if self._obfuscation:
            padding = self.mint.paddings[len(delta) % PADDED_TO]
            body = template % (number, orjson.dumps(delta), padding)
        else:
            body = template % (number, orjson.dumps(delta))
        self.fold.append(path, delta)
        self.next_number = number + 1
        self._frames.append((type_, body))

    def emit_response(self, type_: str, **changes: Any) -> None:
        """An event that carries the whole Response, with `changes`."""
        self.fold.settle()
        event = {"response": {**self.fold.response, **changes}}
        if self._unread:
            EFFECTS[type_](self.fold, event)
            self.next_number += 1
        else:
            self.emit(type_, event)

    def add_item(self, item: Json) -> int:
        """``output_item.added``; returns the item's `output_index`."""
        output_index = self.fold.next_index
        self.emit("response.output_item.added", {"output_index": output_index, "item": item})
        return output_index
