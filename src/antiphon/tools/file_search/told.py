"""What the model is told of what was found in files.

Rules
1. The caller marks it as somebody else's (R-123). What in it looks like one of our marks of sources
   is broken up, and how to cite comes last (`tools/citing.py`).
2. Passages stand best first; those of one file have one mark.
"""

from collections.abc import Iterable, Sequence

from antiphon.protocol.file_search import Passage
from antiphon.protocol.sources import mark, unmarked
from antiphon.tools import citing


def told_of_search(queries: Sequence[str], found: Iterable[tuple[int, Passage]], most: int) -> str:
    """Each passage behind the number of its file, in at most so many characters."""
    entries = [_entry(number, passage) for number, passage in found]
    if not entries:
        return f"Nothing was found in the files for: {'; '.join(queries)}"[:most]
    return citing.told(entries, most)


def _entry(number: int, passage: Passage) -> str:
    name = " ".join(passage.filename.split())
    head = f"{mark(number)} {unmarked(name)}, part {passage.position + 1}"
    return f"{head}\n{unmarked(passage.text)}"
