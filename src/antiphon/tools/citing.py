"""What a model is told of sources that it may cite, and the queries with which it asked.

Rules
1. The last line says how to cite, however much had to be left out.
2. What is told is somebody else's text: whoever writes it breaks up what looks like a mark
   (`protocol.sources.unmarked`), so that no source can be cited for what another one says.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from antiphon.protocol.sources import HOW_TO_CITE

#: Characters of one query.
_MOST_QUERY: Final = 1_000


def told(parts: Iterable[str], most: int) -> str:
    """The parts and how to cite them, in at most so many characters."""
    body = "\n\n".join(parts)
    return f"{body[: max(0, most - len(HOW_TO_CITE) - 2)]}\n\n{HOW_TO_CITE}"


def queries_of(arguments: Mapping[str, Any], most: int) -> tuple[str, ...]:
    """The first so many queries of a call, in whichever of these places the model wrote them."""
    wanted: list[object] = []
    for key in ("query", "queries", "q"):
        value = arguments.get(key)
        wanted += value if isinstance(value, list) else [value]
    texts = (" ".join(text.split())[:_MOST_QUERY] for text in wanted if isinstance(text, str))
    return tuple(dict.fromkeys(filter(None, texts)))[:most]
