"""How much of a file is read, and what is said of one that cannot be (R-100, R-129).

Rules
1. What is beyond a limit fails: no text is cut off in silence.
2. Messages are short and ours: nothing of a path or of a library is in them.
"""

from typing import Final

from antiphon.documents.base import Unreadable

#: Bytes of a file; OpenAI's limit.
MOST_FILE: Final = 512 * 1024 * 1024
#: Bytes of a file of text or HTML as it is stored: text is within `MOST_TEXT`, markup is more.
MOST_MARKUP: Final = 64 * 1024 * 1024
#: Bytes of the text of a file, in UTF-8.
MOST_TEXT: Final = 10 * 1024 * 1024
#: Bytes of address space of the process that reads; its libraries take a quarter.
MEMORY: Final = 1024 * 1024 * 1024
#: Seconds of processors until the text of a file is there; see `workers_side.allow`.
TEXT_SECONDS: Final = 30.0
#: The same until a text is in chunks, and more for each MiB of it. Prose takes half a second a MiB,
#: in one line two, and what has neither words nor lines up to six.
CHUNK_SECONDS: Final = 30.0
CHUNK_SECONDS_A_MIB: Final = 10.0


def chunk_seconds(size: int) -> float:
    """For a text of so many characters."""
    return CHUNK_SECONDS + CHUNK_SECONDS_A_MIB * size / (1024 * 1024)


def invalid(message: str) -> Unreadable:
    """A file of a kind that is read, which itself is not."""
    return Unreadable("invalid_file", message)


def unsupported(what: str) -> Unreadable:
    """A file of a kind that is not read: `what` it is."""
    return Unreadable("unsupported_file", f"The file is {what}: its text cannot be read.")


def too_large() -> Unreadable:
    """There is more text than there may be."""
    return invalid(f"The file has more than {MOST_TEXT // (1024 * 1024)} MiB of text.")


def no_text(why: str = "") -> Unreadable:
    """Nothing that could be found in it."""
    return invalid("The file has no text." + (why and f" {why}"))


def locked() -> Unreadable:
    """It is encrypted."""
    return invalid("The file is protected with a password.")


def damaged() -> Unreadable:
    """Its parser says so."""
    return invalid("The file is damaged and cannot be read.")


class Lines:
    """Text that is gathered line by line, up to `MOST_TEXT`."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0

    def add(self, line: str) -> None:
        """Raises `Unreadable` when it gets too much."""
        self._size += len(line) + 1
        if self._size > MOST_TEXT:
            raise too_large()
        self._lines.append(line)

    def text(self) -> str:
        """All lines."""
        return "\n".join(self._lines)
