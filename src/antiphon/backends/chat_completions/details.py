"""OpenRouter's `reasoning_details`: streamed in fragments → whole, as it wants them back. Pure.

Rules
1. A fragment continues the last detail when it has the same type and index, no other id, and the
   last one is not signed yet: a signature is the end of what it signs, and says nothing about
   pieces of it. Servers give all details of a turn the index 0, so that alone tells nothing.
2. Encrypted details come whole. What is unknown is kept as it came.
3. The state of a turn is all its details so far: a later state of a turn takes the place of an
   earlier one, wherever in the output they stand.
"""

from typing import Any, Final

from antiphon.backends.values import string_of
from antiphon.protocol.deltas import Delta, ReasoningDelta, ReasoningState, SummaryDelta

Detail = dict[str, Any]

#: The key of the details in a state, and in an assistant's message.
DETAILS: Final = "reasoning_details"
#: Type of a detail → the field that grows.
_GROWING: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}


class _Whole:
    """A detail that may go on."""

    __slots__ = ("detail", "field", "pieces")

    def __init__(self, fragment: Detail) -> None:
        self.detail = dict(fragment)
        self.field = _GROWING.get(fragment.get("type", ""))
        self.pieces: list[str] = []

    def continues(self, fragment: Detail) -> bool:
        """Whether the fragment is more of this."""
        mine = self.detail
        return (
            self.field is not None
            and fragment.get("type") == mine.get("type")
            and fragment.get("index") == mine.get("index")
            and _agree(fragment.get("id"), mine.get("id"))
            and mine.get("signature") in (None, fragment.get("signature"))
        )

    def body(self) -> Detail:
        """The detail as it is now."""
        if self.field is None or not self.pieces:
            return self.detail
        return {**self.detail, self.field: "".join(self.pieces)}


def _agree(one: Any, other: Any) -> bool:
    return one is None or other is None or one == other


class DetailsReader:
    """The details of one turn."""

    __slots__ = ("_changed", "_details", "_summaries", "turn")

    def __init__(self) -> None:
        self._details: list[_Whole] = []
        self._summaries = 0
        self._changed = False
        #: The server's id of the turn.
        self.turn = ""

    def feed(self, fragments: list[Detail], out: list[Delta]) -> bool:
        """Take what a chunk holds; whether some of it is text."""
        said = len(out)
        for fragment in fragments:
            last = self._details[-1] if self._details else None
            if last is None or not last.continues(fragment):
                last = _Whole(fragment)
                self._details.append(last)
                self._summaries += last.field == "summary"
            self._changed = True
            for key, value in fragment.items():
                if value is not None and key != last.field:
                    last.detail[key] = value
            text = fragment.get(last.field) if last.field else None
            if text:
                last.pieces.append(string_of(text))
                out.append(self._told(last, text))
        return len(out) > said

    def tell_state(self, out: list[Delta]) -> None:
        """The state, if it is another one than it was."""
        if self._changed:
            self._changed = False
            details = [detail.body() for detail in self._details]
            out.append(ReasoningState({"turn": self.turn, DETAILS: details}))

    def _told(self, detail: _Whole, text: str) -> Delta:
        if detail.field == "summary":
            return SummaryDelta(text, self._summaries - 1)
        return ReasoningDelta(text)


def details_in(state: Any) -> dict[str, list[Detail]]:
    """The turn of a state → its details; nothing: it is another backend's."""
    if not isinstance(state, dict) or DETAILS not in state:
        return {}
    return {state["turn"]: state[DETAILS]}
