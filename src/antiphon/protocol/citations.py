"""Sources that a model can cite, and the marks with which it does (spec §3.3 `url_citation`).

Rules
1. A hosted tool numbers what it has found (`Sources.number`) and writes the number into what the
   model is told; the model repeats it as a mark, ``【3】``, behind what it says.
2. `CitationReader` makes text and `Citation`s of what the model says in one part. Also read are
   ``【1†…】``, ``【1:…】``, ``【1, 2】``, ``【source 1】``, and spaces inside. Anything else in
   such brackets, a number without a source too, is ordinary text and stays.
3. In prose the mark becomes ``([host](url))``, as OpenAI shows it, and that is what the citation
   covers. Its `url` is the source's own; in the text it is escaped so that the link works. A known
   URL that the model writes itself, as a link or alone, is covered as it stands (`links.py`).
4. In JSON the mark is taken out, with a space before it where the text reads on without, and the
   citation covers what was said since the last sentence, line, string or mark. Marks in a row
   cover the same. Only whole marks and spaces go, so the JSON stays as valid as it was.
5. Held back is what may still become a mark, at most `MOST_MARK` characters, and in JSON a space
   before one. Before there are sources nothing is. The work is linear in the text.
6. Code is not looked for: a mark or a URL in a code span counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from antiphon.protocol.links import Link, LinkFinder, ascii_url, comparable, host, spellings
from antiphon.protocol.passages import last_passage

#: Characters of the longest mark, with its brackets.
MOST_MARK: Final = 80

_MARK: Final = re.compile(rf"【([^【】\n]{{1,{MOST_MARK - 2}}})】")
_NUMBER: Final = r"\d{1,6}"
_COMMA: Final = r"\s*[,;、，]\s*"
_BODY: Final = re.compile(
    rf"\s*(?:sources?[\s:#]*)?({_NUMBER}(?:{_COMMA}{_NUMBER})*)\s*(?:[†:].*)?", re.IGNORECASE
)
#: The beginning of what `_BODY` matches, behind the bracket.
_BEGUN: Final = re.compile(
    rf"【\s*(?:s|so|sou|sour|sourc|sources?[\s:#]*)?(?:{_NUMBER}{_COMMA})*"
    rf"(?:{_NUMBER}\s*(?:[†:][^【】\n]*)?)?",
    re.IGNORECASE,
)
_OPENING: Final = "([{"
#: The bracket of what could pass for a mark.
_OPENED: Final = re.compile(r"【(?=\s*(?:sources?[\s:#]*)?\d)", re.IGNORECASE)
#: A URL whose host is an IPv6 address, up to its path.
_IPV6: Final = re.compile(r"https?://\[[0-9A-Fa-f:.]+\](?::[0-9]*)?(?=[/?#]|\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A page that was found or read."""

    url: str
    title: str


@dataclass(slots=True)
class Sources:
    """All sources of one response, numbered from 1 in the order in which they came."""

    found: list[Source] = field(default_factory=list)

    def number(self, url: str, title: str) -> int:
        """The number of a source; the same URL has one number."""
        for number, source in enumerate(self.found, 1):
            if source.url == url:
                return number
        self.found.append(Source(url, unmarked(title)))
        return len(self.found)


def mark(number: int) -> str:
    """How the model cites the source with this number."""
    return f"【{number}】"


def unmarked(text: str) -> str:
    """Somebody else's text without what could pass for a mark."""
    return _OPENED.sub("[", text)


@dataclass(frozen=True, slots=True)
class Citation:
    """Characters `start_index` to before `end_index` of the part's text come from this page."""

    start_index: int
    end_index: int
    url: str
    title: str

    def body(self) -> dict[str, Any]:
        """The annotation on the wire."""
        return {
            "type": "url_citation",
            "end_index": self.end_index,
            "start_index": self.start_index,
            "title": self.title,
            "url": self.url,
        }


Piece: TypeAlias = str | Citation


class CitationReader:
    """Reads one part. `linked`: it is prose, not JSON."""

    def __init__(self, sources: Sources, *, linked: bool) -> None:
        """`sources` may grow between the calls; a mark is read with those known when it ends."""
        self._sources = sources
        self._held = ""
        self._shown = _Shown()
        self._form = _Prose(self._shown, sources) if linked else _Json(self._shown)

    def feed(self, text: str) -> list[Piece]:
        """What can be shown now. A citation comes after the text that it covers."""
        if self._sources.found:
            self._read(self._held + text)
        elif text:
            self._form.pass_by(text)
        return self._shown.take()

    def close(self) -> list[Piece]:
        """The part is over: all that was held back."""
        self._say(self._held)
        self._held = ""
        self._form.close()
        return self._shown.take()

    def _say(self, text: str) -> None:
        if text:
            self._form.say(text)

    def _read(self, text: str) -> None:
        at = 0
        for match in _MARK.finditer(text):
            if cited := self._cited(match[1]):
                self._say(text[at : match.start()])
                self._form.cite(cited)
                at = match.end()
        end = _undecided(text, at)
        self._say(text[at:end])
        self._held = text[end:]

    def _cited(self, body: str) -> list[Source]:
        """The sources of a mark; none if it is none, or not all of them are known web pages."""
        match = _BODY.fullmatch(body)
        if match is None:
            return []
        found = self._sources.found
        numbers = dict.fromkeys(int(number) for number in re.findall(_NUMBER, match[1]))
        cited = [found[number - 1] for number in numbers if 1 <= number <= len(found)]
        return cited if len(cited) == len(numbers) and all(host(s.url) for s in cited) else []


def _undecided(text: str, at: int) -> int:
    """Where, from `at` on, a mark begins whose end is not there yet; else the end."""
    start = text.rfind("【", at)
    if start < 0 or len(text) - start >= MOST_MARK or not _BEGUN.fullmatch(text, start):
        return len(text)
    return start


class _Shown:
    """What the part shows so far, and the pieces of it that were not taken yet."""

    def __init__(self) -> None:
        self.length = 0
        self.last = ""
        self._texts: list[str] = []
        self._pieces: list[Piece] = []

    def text(self, text: str) -> None:
        """Neighbouring texts become one piece."""
        if text:
            self._texts.append(text)
            self.length += len(text)
            self.last = text[-1]

    def cite(self, start: int, end: int, source: Source) -> None:
        self._flush()
        self._pieces.append(Citation(start, end, source.url, source.title))

    def take(self) -> list[Piece]:
        self._flush()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _flush(self) -> None:
        if self._texts:
            self._pieces.append("".join(self._texts))
            self._texts.clear()


# -- prose ---------------------------------------------------------------------------------------


def _target(url: str) -> str:
    """The URL as a Markdown link holds it; the brackets of an IPv6 address stay."""
    match = _IPV6.match(url)
    origin = match[0] if match else ""
    return origin + ascii_url(url[len(origin) :])


class _Prose:
    """Rule 3."""

    def __init__(self, shown: _Shown, sources: Sources) -> None:
        self._shown = shown
        self._finder = LinkFinder()
        self._sources = sources
        #: Known pages, as they are and as they are compared, of the first `_indexed` sources.
        self._pages: dict[str, Source] = {}
        self._indexed = 0

    def pass_by(self, text: str) -> None:
        """Text that comes before there is any source."""
        self._finder.skip(len(text))
        self._shown.text(text)

    def say(self, text: str) -> None:
        """`text`, with a citation after each known link in it."""
        start, at = self._shown.length, 0
        for link in self._finder.feed(text):
            if (known := self._known(link)) is not None:
                end, source = known
                cut = max(end - start, at)
                self._shown.text(text[at:cut])
                self._shown.cite(link.start, end, source)
                at = cut
        self._shown.text(text[at:])

    def cite(self, sources: Sequence[Source]) -> None:
        """A link to each of the sources, where the mark stood."""
        self.close()
        for source in sources:
            last = self._shown.last
            gap = "" if not last or last.isspace() or last in _OPENING else " "
            link = f"([{host(source.url)}]({_target(source.url)}))"
            self._shown.text(gap + link)
            self._finder.skip(len(gap + link))
            end = self._shown.length
            self._shown.cite(end - len(link), end, source)

    def close(self) -> None:
        """Nothing follows that could belong to a link."""
        for link in self._finder.skip(0):
            if (known := self._known(link)) is not None:
                end, source = known
                self._shown.cite(link.start, end, source)

    def _known(self, link: Link) -> tuple[int, Source] | None:
        """Where the link ends without the sentence's punctuation, and the source it leads to."""
        for page in self._sources.found[self._indexed :]:
            if host(page.url):
                self._pages.setdefault(comparable(page.url), page)
                self._pages[page.url] = page
        self._indexed = len(self._sources.found)
        for url in spellings(link.url):
            source = self._pages.get(url) or self._pages.get(comparable(url))
            if source is not None:
                return (link.start + len(url) if link.alone else link.end), source
        return None


# -- JSON ----------------------------------------------------------------------------------------

#: Between two marks that stand for the same.
_SAME: Final = re.compile(r"[ \t.,;:!?…、。，；！？]*")


class _Json:
    """Rule 4."""

    def __init__(self, shown: _Shown) -> None:
        self._shown = shown
        #: What was said since the last mark.
        self._said: list[str] = []
        self._covered: tuple[int, int] | None = None
        #: A space that may stand before a mark, and one that stood before the last mark.
        self._space = False
        self._taken = False

    def pass_by(self, text: str) -> None:
        """Text that comes before there is any source."""
        self._shown.text(text)
        self._said.append(text)

    def say(self, text: str) -> None:
        """`text`, but the last space of it, which may have to go."""
        if self._space or (self._taken and (text[0].isalnum() or text[0] in _OPENING)):
            text = " " + text
        self._taken = False
        self._space = text[-1] == " "
        self.pass_by(text[:-1] if self._space else text)

    def cite(self, sources: Sequence[Source]) -> None:
        """Nothing is shown for the mark."""
        said = "".join(self._said)
        self._said.clear()
        if self._covered is None or not _SAME.fullmatch(said):
            self._covered = last_passage(said, self._shown.length - len(said))
        if self._covered is not None:
            for source in sources:
                self._shown.cite(*self._covered, source)
        self._taken = self._taken or self._space
        self._space = False

    def close(self) -> None:
        """The JSON is over."""
        self._shown.text(" " if self._space else "")
        self._space = False
