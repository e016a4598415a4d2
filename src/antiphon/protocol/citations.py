"""Marks in what a model says become annotations (spec §3.3 `url_citation`, `file_citation`).

Rules
1. `CitationReader` makes text and `Citation`s of what the model says in one part. Marks are those
   of `sources.py`. Also read are ``【1†…】``, ``【1:…】``, ``【1, 2】``, ``【source 1】``, and
   spaces inside. All else in such brackets, a number without a source too, is text and stays.
2. In prose the mark of a page becomes ``([host](url))``, as OpenAI shows it, and that is what the
   citation covers. Its `url` is the source's own; in the text it is escaped so that the link works.
   A known URL that the model writes itself, as a link or alone, is covered as it stands
   (`links.py`).
3. The mark of a file is taken out, and its citation is the place where it stood.
4. In JSON all marks are taken out; the citation of a page covers what was said since the last
   sentence, line, string or mark. Marks in a row cover the same.
5. With a mark goes a space before it where the text reads on without. Only whole marks and spaces
   go, so JSON stays as valid as it was.
6. Held back is what may still become a mark, at most `MOST_MARK` characters, and a space before
   one. Before there are sources nothing is. The work is linear in the text.
7. Code is not looked for: a mark or a URL in a code span counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from antiphon.protocol.links import Link, LinkFinder, ascii_url, comparable, host, spellings
from antiphon.protocol.passages import last_passage
from antiphon.protocol.sources import File, Json, Page, Source, Sources

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
#: A URL whose host is an IPv6 address, up to its path.
_IPV6: Final = re.compile(r"https?://\[[0-9A-Fa-f:.]+\](?::[0-9]*)?(?=[/?#]|\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Citation:
    """Characters `start_index` to before `end_index` of the part's text come from this source; of a
    file both are the place of the mark."""

    start_index: int
    end_index: int
    source: Source

    def body(self) -> Json:
        """The annotation on the wire."""
        return self.source.annotation(self.start_index, self.end_index)


Piece: TypeAlias = str | Citation


class CitationReader:
    """Reads one part. `linked`: it is prose, not JSON."""

    def __init__(self, sources: Sources, *, linked: bool) -> None:
        """`sources` may grow between the calls; a mark is read with those known when it ends."""
        self._sources = sources
        self._held = ""
        #: A space that may stand before a mark, and one that stood before the last mark.
        self._space = False
        self._taken = False
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
        self._let_space()
        self._form.close()
        return self._shown.take()

    def _read(self, text: str) -> None:
        at = 0
        for match in _MARK.finditer(text):
            if cited := self._cited(match[1]):
                self._say(text[at : match.start()])
                self._cite(cited)
                at = match.end()
        end = _undecided(text, at)
        self._say(text[at:end])
        self._held = text[end:]

    def _say(self, text: str) -> None:
        """`text`, but the last space of it, which may have to go."""
        if not text:
            return
        if self._space or (self._taken and (text[0].isalnum() or text[0] in _OPENING)):
            text = " " + text
        self._taken = False
        self._space = text[-1] == " "
        self._form.say(text[:-1] if self._space else text)

    def _cite(self, sources: Sequence[Source]) -> None:
        if self._form.shows(sources[0]):
            self._let_space()
        taken, length = self._taken or self._space, self._shown.length
        self._space = False
        self._form.cite(sources)
        self._taken = taken and self._shown.length == length

    def _let_space(self) -> None:
        """The space stays."""
        if self._space:
            self._form.say(" ")
        self._space = False

    def _cited(self, body: str) -> list[Source]:
        """The sources of a mark; none if it is none, or not all of them are known and citable."""
        match = _BODY.fullmatch(body)
        if match is None:
            return []
        found = self._sources.found
        numbers = dict.fromkeys(int(number) for number in re.findall(_NUMBER, match[1]))
        cited = [found[number - 1] for number in numbers if 1 <= number <= len(found)]
        return cited if len(cited) == len(numbers) and all(s.is_citable() for s in cited) else []


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
        self._pieces.append(Citation(start, end, source))

    def point(self, source: Source) -> None:
        """A citation of the place where the text is."""
        self.cite(self.length, self.length, source)

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
    """Rules 2 and 3."""

    def __init__(self, shown: _Shown, sources: Sources) -> None:
        self._shown = shown
        self._finder = LinkFinder()
        self._sources = sources
        #: Known pages, as they are and as they are compared, of the first `_indexed` sources.
        self._pages: dict[str, Page] = {}
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

    def shows(self, source: Source) -> bool:
        """Whether something stands where the mark stood."""
        return isinstance(source, Page)

    def cite(self, sources: Sequence[Source]) -> None:
        """A link to each of the pages, where the mark stood."""
        self.close()
        for source in sources:
            if isinstance(source, Page):
                self._link(source)
            else:
                self._shown.point(source)

    def _link(self, page: Page) -> None:
        last = self._shown.last
        gap = "" if not last or last.isspace() or last in _OPENING else " "
        link = f"([{host(page.url)}]({_target(page.url)}))"
        self._shown.text(gap + link)
        self._finder.skip(len(gap + link))
        end = self._shown.length
        self._shown.cite(end - len(link), end, page)

    def close(self) -> None:
        """Nothing follows that could belong to a link."""
        for link in self._finder.skip(0):
            if (known := self._known(link)) is not None:
                end, source = known
                self._shown.cite(link.start, end, source)

    def _known(self, link: Link) -> tuple[int, Page] | None:
        """Where the link ends without the sentence's punctuation, and the source it leads to."""
        for page in self._sources.found[self._indexed :]:
            if isinstance(page, Page) and page.is_citable():
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
    """Rules 3 and 4."""

    def __init__(self, shown: _Shown) -> None:
        self._shown = shown
        #: What was said since the last mark.
        self._said: list[str] = []
        self._covered: tuple[int, int] | None = None

    def say(self, text: str) -> None:
        """`text` as it is."""
        self._shown.text(text)
        self._said.append(text)

    #: Text that comes before there is any source is no other.
    pass_by = say

    def shows(self, source: Source) -> bool:  # noqa: ARG002
        """Nothing is shown for a mark."""
        return False

    def cite(self, sources: Sequence[Source]) -> None:
        """What each of the sources is cited for."""
        said = "".join(self._said)
        self._said.clear()
        if self._covered is None or not _SAME.fullmatch(said):
            self._covered = last_passage(said, self._shown.length - len(said))
        for source in sources:
            if isinstance(source, File):
                self._shown.point(source)
            elif self._covered is not None:
                self._shown.cite(*self._covered, source)

    def close(self) -> None:
        """The JSON is over."""
