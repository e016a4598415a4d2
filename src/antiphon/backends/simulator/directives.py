"""Directives: what a prompt asks the simulator to do, ``[[name]]`` or ``[[name=value]]``.

Rules
1. Instructions, system and developer messages set defaults; the last user message wins over them.
2. What is not a directive of the table, or has a value that it cannot take, stays in the text: the
   echo shows it.
3. `call` may stand several times: parallel calls.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from antiphon.backends.simulator.faults import FAULTS
from antiphon.protocol.deltas import FinishReason

#: ``]]`` ends a directive unless JSON goes on behind it: ``[[call=f {"a": [[1]]}]]``. A value holds
#: no other directive, which also keeps the search linear.
_DIRECTIVE: Final = re.compile(r"\[\[([a-z]+)(?:=((?:(?!\[\[[a-z]).)*?))?\]\](?![\]},])", re.DOTALL)
_DURATION: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s)")
_CALL: Final = re.compile(r"([\w-]+)(?:\s+(.*))?", re.DOTALL)
_FAIL: Final = re.compile(r"(\w+)(?:\s+after=(\d{1,7}))?")
_MOST_TOKENS: Final = 1_000_000


@dataclass(slots=True)
class Directives:
    """What was asked for; times in seconds."""

    #: Tokens of visible text.
    tokens: int | None = None
    #: Between two batches, and tokens in a batch.
    pace: float = 0.0
    chunk: int | None = None
    #: Before the first token, when the prompt is already accepted.
    wait: float = 0.0
    #: A text, or that many tokens.
    reason: str | int | None = None
    #: A summary of it, likewise.
    summary: str | int | None = None
    refuse: str | None = None
    say: str | None = None
    #: (tool, its arguments as written, or None to make some up).
    calls: list[tuple[str, str | None]] = field(default_factory=list)
    finish: FinishReason = "stop"
    #: (a key of `FAULTS`, after how many tokens; None: its own default).
    fail: tuple[str, int | None] | None = None
    usage: bool = True


def read_directives(defaults: Iterable[str], text: str) -> tuple[Directives, str]:
    """The directives in `defaults` and `text`, and `text` without them."""
    directives = Directives()

    def take(match: re.Match[str]) -> str:
        name, read = DIRECTIVES.get(match[1], ("", _nothing))
        value = read(match[2])
        if value is None:
            return match[0]
        if name == "calls":
            directives.calls.append(value)
        else:
            setattr(directives, name, value)
        return ""

    for default in defaults:
        if "[[" in default:
            _DIRECTIVE.sub(take, default)
    if "[[" in text:
        inherited, directives.calls = directives.calls, []
        text = _DIRECTIVE.sub(take, text).strip()
        directives.calls = directives.calls or inherited
    return directives, text


def _nothing(_: str | None) -> None:
    return None


def _count(value: str | None) -> int | None:
    if value is None or not value.isdecimal() or len(value) > len(str(_MOST_TOKENS)):
        return None
    return min(int(value), _MOST_TOKENS)


def _duration(value: str | None) -> float | None:
    match = _DURATION.fullmatch(value or "")
    if match is None:
        return None
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _thought(value: str | None) -> str | int | None:
    count = _count(value)
    return (value or None) if count is None else count


def _call(value: str | None) -> tuple[str, str | None] | None:
    match = _CALL.fullmatch(value or "")
    return (match[1], match[2]) if match else None


def _failure(value: str | None) -> tuple[str, int | None] | None:
    match = _FAIL.fullmatch(value or "")
    if match is None or match[1] not in FAULTS:
        return None
    return match[1], None if match[2] is None else int(match[2])


#: Name → (field of `Directives`, what the value means, or None when it means nothing).
DIRECTIVES: Final[dict[str, tuple[str, Callable[[str | None], Any]]]] = {
    "call": ("calls", _call),
    "chunk": ("chunk", lambda value: _count(value) or None),
    "fail": ("fail", _failure),
    "filter": ("finish", lambda value: "content_filter" if value is None else None),
    "length": ("finish", lambda value: "length" if value is None else None),
    "pace": ("pace", _duration),
    "reason": ("reason", _thought),
    "refuse": ("refuse", lambda value: value or "I'm sorry, but I cannot help with that."),
    "say": ("say", lambda value: value),
    "summary": ("summary", _thought),
    "tokens": ("tokens", _count),
    "usage": ("usage", lambda value: False if value == "none" else None),
    "wait": ("wait", _duration),
}
