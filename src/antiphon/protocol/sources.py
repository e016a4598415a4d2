"""What a model can cite: web pages, files, and what code made, and the marks with which it does.

Rules
1. A hosted tool numbers what it has found (`Sources`) and writes the number into what the model is
   told; the model repeats it as a mark, ``【3】``, behind what it says (`citations.py`).
2. The same page or file has one number, whatever was found of it.
3. `Sources.rows` are kept while a response is made, and read by other versions (R-74): a page has
   two fields, as ever; each later kind begins with its name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from antiphon.protocol.links import host

Json: TypeAlias = dict[str, Any]

#: Stands at the end of what is told. Its mark has no number: who repeats it cites nothing.
HOW_TO_CITE: Final = (
    "Cite a source by writing its mark, 【N】 with its number, directly behind what you take from "
    "it."
)
#: The bracket of what could pass for a mark.
_OPENED: Final = re.compile(r"【(?=\s*(?:sources?[\s:#]*)?\d)", re.IGNORECASE)


def mark(number: int) -> str:
    """How the model cites the source with this number."""
    return f"【{number}】"


def unmarked(text: str) -> str:
    """Somebody else's text without what could pass for a mark."""
    return _OPENED.sub("[", text)


@dataclass(frozen=True, slots=True)
class Page:
    """A web page that was found or read."""

    url: str
    title: str

    @property
    def key(self) -> str:
        """What tells it from other sources."""
        return self.url

    def is_citable(self) -> bool:
        """Whether it can be linked."""
        return bool(host(self.url))

    def annotation(self, start: int, end: int) -> Json:
        """On the wire: what stands between (`end` exclusive) is from here."""
        return {
            "type": "url_citation",
            "end_index": end,
            "start_index": start,
            "title": self.title,
            "url": self.url,
        }

    def row(self) -> list[str]:
        """See rule 3."""
        return [self.url, self.title]


@dataclass(frozen=True, slots=True)
class File:
    """A file in which something was found."""

    file_id: str
    filename: str

    @property
    def key(self) -> str:
        """What tells it from other sources."""
        return self.file_id

    def is_citable(self) -> bool:
        """Whether it can be named."""
        return True

    def annotation(self, start: int, end: int) -> Json:  # noqa: ARG002
        """On the wire: what stands before `end` is from here."""
        return {
            "type": "file_citation",
            "file_id": self.file_id,
            "filename": self.filename,
            "index": end,
        }

    def row(self) -> list[str]:
        """See rule 3."""
        return ["file", self.file_id, self.filename]


@dataclass(frozen=True, slots=True)
class Made:
    """A file that code made in a container. It is cited by its path, not by a mark."""

    container_id: str
    file_id: str
    path: str

    @property
    def key(self) -> str:
        """What tells it from other sources."""
        return self.file_id

    def is_citable(self) -> bool:
        """Whether a mark may stand for it."""
        return False

    def annotation(self, start: int, end: int) -> Json:
        """On the wire: what stands between (`end` exclusive) is its address."""
        return {
            "type": "container_file_citation",
            "container_id": self.container_id,
            "end_index": end,
            "file_id": self.file_id,
            "filename": self.path.rpartition("/")[2],
            "start_index": start,
        }

    def row(self) -> list[str]:
        """See rule 3."""
        return ["made", self.container_id, self.file_id, self.path]


Source: TypeAlias = Page | File | Made


@dataclass(slots=True)
class Sources:
    """All sources of one response, numbered from 1 in the order in which they came."""

    found: list[Source] = field(default_factory=list)
    #: By what tells them from each other.
    _numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = {}
        for number, source in enumerate(self.found, 1):
            self._numbers.setdefault(source.key, number)

    def page(self, url: str, title: str) -> int:
        """The number of a page."""
        return self._number(Page(url, unmarked(title)))

    def file(self, file_id: str, filename: str) -> int:
        """The number of a file."""
        return self._number(File(file_id, filename))

    def made(self, container_id: str, file_id: str, path: str) -> None:
        """A file that can be linked to."""
        self._number(Made(container_id, file_id, path))

    @property
    def links(self) -> list[Made]:
        """What can be linked to."""
        return [source for source in self.found if isinstance(source, Made)]

    def rows(self) -> list[list[str]]:
        """All of them, to be kept."""
        return [source.row() for source in self.found]

    def restore(self, rows: Iterable[Sequence[str]]) -> None:
        """Those that were kept, in the place of all that is here."""
        self.found[:] = map(_source, rows)
        self.__post_init__()

    def _number(self, source: Source) -> int:
        if source.key not in self._numbers:
            self.found.append(source)
            self._numbers[source.key] = len(self.found)
        return self._numbers[source.key]


def _source(row: Sequence[str]) -> Source:
    match row:
        case [url, title]:
            return Page(url, title)
        case ["file", file_id, filename]:
            return File(file_id, filename)
        case ["made", container_id, file_id, path]:
            return Made(container_id, file_id, path)
    return Page("", "")  # of a later version: has its number, and cannot be cited
