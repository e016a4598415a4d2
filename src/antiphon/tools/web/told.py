"""What the model is told of what was found and read: plain text, bounded, with marks to cite.

Rules
1. The caller marks it as somebody else's (R-123). What in it looks like one of our marks of sources
   is broken up, and how to cite comes last (`citing.py`).
2. A pattern is text, never a regular expression: it is searched for in linear time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from antiphon.protocol.sources import HOW_TO_CITE, mark, unmarked
from antiphon.tools import citing
from antiphon.tools.web.pages import Page
from antiphon.tools.web.provider import Found

NOTHING_CACHED: Final = (
    "Only cached content is available, for access to the web is switched off; nothing was found."
)
#: Characters of a page that are told at a time.
PIECE: Final = 20_000
#: Matches in a page, and characters around one.
_MOST_MATCHES: Final = 20
_AROUND: Final = 200


@dataclass(frozen=True, slots=True)
class Source:
    """A result with its number, and text of its page if that was read."""

    number: int
    found: Found
    text: str | None = None


def told_of_search(queries: Sequence[str], sources: Sequence[Source], most: int) -> str:
    """The results, in at most so many characters."""
    if not sources:
        return f"Nothing was found for: {'; '.join(queries)}"[:most]
    return citing.told((_entry(source) for source in sources), most)


def piece_of(page: Page, start: int, most: int) -> str:
    """As much of the text as is told at a time."""
    return page.text[start : start + min(PIECE, most)]


def told_of_page(number: int, page: Page, start: int, most: int) -> str:
    """The text of a page from a character on."""
    head = _head(number, page.title, page.url)
    room = most - len(head) - len(HOW_TO_CITE) - 200
    piece = piece_of(page, start, max(0, room))
    end, whole = start + len(piece), len(page.text)
    if not piece:
        where = f"The text of this page ends at character {whole}."
    elif start or end < whole:
        where = f"This is its text from character {start} to {end} of {whole}."
        where += f" To read on, open it with start={end}." if end < whole else ""
    else:
        where = "This is its text."
    return citing.told([f"{head}\n{where}\n\n{unmarked(piece)}"], most)


def matches_in(page: Page, pattern: str) -> list[str]:
    """The pattern with what is around it; capitals and line breaks do not matter."""
    text = page.text.replace("\n", " ")
    haystack, needle = _folded(text), _folded(" ".join(pattern.split()))
    matches: list[str] = []
    place = haystack.find(needle)
    while place >= 0 and len(matches) < _MOST_MATCHES:
        end = place + len(needle)
        matches.append(text[max(0, place - _AROUND) : end + _AROUND].strip())
        place = haystack.find(needle, end)
    return matches


def told_of_matches(
    number: int, page: Page, pattern: str, matches: Sequence[str], most: int
) -> str:
    """Where a pattern is in a page."""
    head = _head(number, page.title, page.url)
    if not matches:
        return citing.told([f"{head}\nThe text '{unmarked(pattern)}' is not in this page."], most)
    count = f"{len(matches)} or more" if len(matches) == _MOST_MATCHES else str(len(matches))
    lines = [f"{place}. … {unmarked(match)} …" for place, match in enumerate(matches, 1)]
    return citing.told([f"{head}\nFound: {count}.", *lines], most)


def _entry(source: Source) -> str:
    entry = _head(source.number, source.found.title, source.found.url)
    if source.found.snippet:
        entry += f"\n{unmarked(source.found.snippet)}"
    if source.text:
        entry += f"\nThe page begins:\n{unmarked(source.text)}"
    return entry


def _head(number: int, title: str, url: str) -> str:
    return f"{mark(number)} {unmarked(title)}\nURL: {unmarked(url)}"


def _folded(text: str) -> str:
    """In lower case, with as many characters as before: one letter would become two."""
    return text.replace("İ", "I").lower()
