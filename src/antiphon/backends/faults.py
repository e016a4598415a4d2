"""What all adapters say when an upstream fails. Pure.

Rules
1. The upstream's text is only matched and kept as `UpstreamFaultError.detail` for the operator's
   log; it never goes into the error (R-42). Keys in it are hidden before it is cut: half a key is
   one too many (R-130). `Upstream.tell` hides those that it knows.
2. Once the stream has begun tokens were spent: `should_retry` is false (R-52).
"""

import re
from typing import Final

from antiphon.errors import APIError, InvalidRequestError
from antiphon.protocol.deltas import Delta

#: The code of the error for thoughts that a server cannot read, although it made them.
UNREADABLE_THOUGHTS: Final = "invalid_encrypted_content"

#: Bytes of what was read that may be logged.
_READ: Final = 16 * 1024
_SECRET = re.compile(r"(?i)(bearer\s+|\b(?:sk|key|hf|gsk|or)-?[-_])[\w.~+/=-]{6,}")


class UpstreamFaultError(Exception):
    """`error` is for the client, `detail` for the operator's log only. `said`: what came before it
    in the same read, which is told first (R-45)."""

    def __init__(self, error: APIError, detail: str) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail
        self.said: list[Delta] = []


def printable(text: str, limit: int = 2048) -> str:
    """Fit for a log line: keys hidden, cut at `limit` characters, control characters escaped."""
    return _escaped(_SECRET.sub(r"\1…", text[: 2 * limit])[:limit])


def shown(data: bytes) -> str:
    """What was read, for a log line that `printable` will cut: more than there is room for."""
    return _escaped(data[:_READ].decode(errors="replace"))


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def refused() -> InvalidRequestError:
    """A 400 of the upstream that nobody can name a parameter for."""
    return InvalidRequestError(
        "The model backend refused this request as invalid. The operator of this server can find "
        "the cause in its log."
    )


def withheld() -> InvalidRequestError:
    """The answer is against the upstream's rules."""
    return InvalidRequestError("The answer was blocked by the content filter of the model backend.")


def filtered() -> InvalidRequestError:
    """The input is against the upstream's rules."""
    return InvalidRequestError(
        "The input was refused by the content filter of the model backend.", param="input"
    )
