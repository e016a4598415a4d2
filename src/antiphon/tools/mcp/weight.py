"""How much JSON of a server is read (reliability R-118).

Rules
1. What a parser costs is not the bytes but the values, and while it runs nothing else does, in a
   thread neither. So values are counted first, which costs a hundredth of it.
2. A value is counted by what stands before it: ``[``, ``{`` or ``,``. What stands in strings is
   text and does not count.
3. Time for an integer grows with the square of its digits, so there may only be so many.
"""

from typing import Final

from antiphon.tools.mcp.faults import TooLarge

#: Values of one message. Reading so many takes up to 90 ms, with all that is done with them.
MOST_VALUES: Final = 50_000
#: Two of a string, and a value may have one as its key.
_MOST_QUOTES: Final = 4 * MOST_VALUES
#: An integer that is too long, when all digits are zeros.
_TOO_LONG: Final = b"0" * 300
_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)


def check_weight(message: bytes) -> None:
    """Raise `TooLarge` for JSON that would hold everybody up."""
    if _is_light(message):
        return
    plain = message.replace(rb"\\", b"").replace(rb"\"", b"")  # every quote begins or ends a string
    if plain.count(b'"') > _MOST_QUOTES:
        raise TooLarge
    if not _is_light(b"".join(plain.split(b'"')[::2])):
        raise TooLarge


class Events:
    """Weighs the events of a stream, as its pieces come."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self._last = self._held = b""

    def check(self, piece: bytes) -> None:
        """Raise `TooLarge` for a piece that ends an event which would hold everybody up."""
        piece = self._held + piece
        self._held = piece[len(piece.removesuffix(b"\r")) :]  # it may be half of a line end
        lines = piece.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._open.append(lines)
        recent = self._last + lines
        self._last = recent[-1:]
        if b"\n\n" not in recent:
            return
        *ended, rest = b"".join(self._open).split(b"\n\n")
        self._open, self._last = [rest], rest[-1:]
        for event in ended:
            check_weight(event)

    def end(self) -> None:
        """The stream is over, and with it its last event. Raises `TooLarge`."""
        check_weight(b"".join(self._open))


def _is_light(text: bytes) -> bool:
    values = text.count(b"[") + text.count(b"{") + text.count(b",")
    return values <= MOST_VALUES and _TOO_LONG not in text.translate(_ZEROS)
