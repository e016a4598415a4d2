"""Gemini's thought signatures: kept with the reasoning, given back on their parts. Pure.

Rules
1. A signature may stand on a thought, on a call, or on text. It belongs to its part: it must not
   come back on another one.
2. The state of a turn is all its signatures so far, in order, and Gemini's id of the turn: a later
   state of a turn takes the place of an earlier one, wherever in the output they stand.
3. What is signed on a call or a thought is told at once, a call's before the call, so that the
   reasoning stands before it. What is signed on text is told with the next call, or at the end if
   later turns will see it: else nobody would ever ask for it.
4. A call is known by its place among the calls of its turn; text is the text before the reasoning.
"""

from typing import Any, Final, Literal, TypeAlias

from antiphon.backends.origins import Origin
from antiphon.protocol.deltas import Delta, ReasoningState
from antiphon.protocol.items.base import Item

Json: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["thought", "call", "text"]

#: The key of a signature in a part of a content.
SIGNATURE: Final = "thoughtSignature"


class SignatureReader:
    """The signatures of one turn, as they come."""

    __slots__ = ("_origin", "_signed", "_told", "turn")

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._signed: list[Json] = []
        self._told = 0
        #: Gemini's id of the turn.
        self.turn = ""

    def take(self, kind: Kind, signature: str, call: int = 0) -> None:
        """A signature; `call`: the place of the call."""
        place = {"index": call} if kind == "call" else {}
        self._signed.append({"part": kind, **place, "signature": signature})

    def tell(self, out: list[Delta]) -> None:
        """The state, if it is another one than it was."""
        if len(self._signed) > self._told:
            self._told = len(self._signed)
            kept = {"turn": self.turn, "signed": list(self._signed)}
            out.append(ReasoningState(self._origin.state(kept)))


class Signatures:
    """The signatures of one content of the model, as they go back."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._turn: str | None = None
        self._seen = 0  # of the turn's signatures
        self._calls: dict[int, str] = {}
        self._call = 0

    def read(self, item: Item, parts: list[Json]) -> None:
        """A reasoning item, after `parts`: signed thoughts and text go there."""
        kept = self._origin.kept(item)
        if kept is None:
            return
        if kept["turn"] != self._turn:
            if self._turn is not None:
                self._call = 0
            self._turn, self._seen, self._calls = kept["turn"], 0, {}
        thought = _text_of(item)
        for signed in kept["signed"][self._seen :]:
            match signed["part"]:
                case "thought":
                    part = {"text": thought, "thought": True, SIGNATURE: signed["signature"]}
                    parts.append(part)
                    thought = ""
                case "call":
                    self._calls[signed["index"]] = signed["signature"]
                case _ if parts and parts[-1].keys() == {"text"}:
                    parts[-1][SIGNATURE] = signed["signature"]
                case _:
                    parts.append({"text": "", SIGNATURE: signed["signature"]})
        self._seen = len(kept["signed"])

    def sign_call(self, part: Json) -> Json:
        """The part of the next call, with its signature if it has one."""
        signature = self._calls.pop(self._call, None)
        self._call += 1
        return part if signature is None else {**part, SIGNATURE: signature}


def _text_of(item: Item) -> str:
    """What was thought: all of it, else its summary."""
    text = "".join(part["text"] for part in item.get("content") or ())
    return text or "\n\n".join(part["text"] for part in item.get("summary") or ())
