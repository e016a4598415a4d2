"""What a server repeats of what only it was to know (reliability R-91).

Rules
1. A server may answer with the token that it got, in an error above all. The values of the headers
   that it was sent, and of the variables of a program, are taken out of whatever it says.
2. Short values are words, and stay; so do headers that hold no secret. A server that wants to give
   a secret away can write it in another way: this is against mistakes.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from antiphon.tools.mcp.servers import Local, Target

_REMOVED: Final = "[removed]"
#: Characters.
_SHORTEST: Final = 8
_PLAIN: Final = ("accept", "accept-language", "user-agent")


class Redaction:
    """Takes values out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {part for value in secrets for part in (value, value.partition(" ")[2].strip())}
        written = {form for part in parts if len(part) >= _SHORTEST for form in _forms(part)}
        self._secrets = sorted(written, key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` without them."""
        for secret in self._secrets:
            text = text.replace(secret, _REMOVED)
        return text

    def json(self, value: Any) -> Any:
        """JSON without them, in values and in keys."""
        return self._json(value) if self._secrets else value

    def _json(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._json(part) for part in value]
            case dict():
                return {self.text(key): self._json(part) for key, part in value.items()}
        return value


def of_target(target: Target) -> Redaction:
    """For what this server says."""
    if isinstance(target, Local):
        return Redaction(target.env.values())
    headers = target.headers.items()
    return Redaction(value for name, value in headers if name not in _PLAIN)


def _forms(secret: str) -> tuple[str, ...]:
    """As it is, and as it stands in JSON, which some write with ``\\/``."""
    written = json.dumps(secret)[1:-1]
    return secret, written, written.replace("/", r"\/")
