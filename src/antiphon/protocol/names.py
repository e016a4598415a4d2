"""Names of functions that every model server takes. Pure."""

import hashlib
import re
from typing import Final

#: What every server takes as the name of a function.
LONGEST: Final = 64
_FOREIGN: Final = re.compile(r"[^a-zA-Z0-9_-]")
#: Hex digits that tell two long names apart.
_DIGITS: Final = 8
#: Names that clients may give to their functions: whoever has the function takes its calls.
_CLIENTS: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def valid_name(name: str) -> str:
    """The name itself, or what it becomes with characters and a length that all backends take."""
    plain = _FOREIGN.sub("_", name)
    if plain == name and 0 < len(plain) <= LONGEST:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{plain[: LONGEST - _DIGITS - 1]}_{digest}"


def name_of_call(name: str) -> str:
    """What a call of the history is called: models make names up, and so do MCP servers that are
    not there any more."""
    return name if _CLIENTS.fullmatch(name) else valid_name(name)
