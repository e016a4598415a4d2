"""Links of a text to files that code made: ``sandbox:/mnt/data/name`` (spec §3.3,
``container_file_citation``).

Rules
1. The text stays as it is; what a citation covers is the link's address, as in OpenAI's recordings.
2. An address is read as it stands and with its escapes (``%20``). Of several files that it could
   name it is the one with the longest path.
"""

import re
from collections.abc import Sequence
from typing import Final

from antiphon.protocol.citations import Citation
from antiphon.protocol.sources import Made

_SCHEME: Final = "sandbox:"
#: What cannot follow an address that has ended.
_GOES_ON: Final = re.compile(r"[A-Za-z0-9_%/-]|\.[A-Za-z0-9]")


def sandbox_links(text: str, files: Sequence[Made]) -> list[Citation]:
    """The links to `files` in the order in which they stand."""
    if not files or _SCHEME not in text:
        return []
    longest_first = sorted(files, key=lambda file: len(file.path), reverse=True)
    paths = "|".join(f"({_written(file.path)})" for file in longest_first)
    return [
        Citation(match.start(), match.end(), longest_first[(match.lastindex or 1) - 1])
        for match in re.finditer(f"{_SCHEME}(?:{paths})", text)
        if not _GOES_ON.match(text, match.end())
    ]


def _written(path: str) -> str:
    """A pattern: each character as it is, or its bytes as escapes."""
    return "".join(
        f"(?:{re.escape(char)}|(?i:{''.join(f'%{byte:02X}' for byte in char.encode())}))"
        for char in path
    )
