"""A part read with four known sources, for the tests of citations and links."""

from collections.abc import Iterable
from typing import Final

from antiphon.protocol.citations import Citation, CitationReader, Piece
from antiphon.protocol.sources import File, Page, Source, Sources

TOWER: Final = Page("https://www.example.com/tower?page=2", "The Eiffel Tower")
PARIS: Final = Page("https://fr.example.org/wiki/Paris_(ville)", "Paris")
TOKYO: Final = Page("https://example.jp/東京", "東京")
SEINE: Final = Page("http://seine.example:8080/#flow", "The Seine")
SOURCES: Final = (TOWER, PARIS, TOKYO, SEINE)
LINKS: Final = (
    "([example.com](https://www.example.com/tower?page=2))",
    "([fr.example.org](https://fr.example.org/wiki/Paris_%28ville%29))",
    "([example.jp](https://example.jp/%E6%9D%B1%E4%BA%AC))",
    "([seine.example](http://seine.example:8080/#flow))",
)


REPORT: Final = File("file-1", "report【1】.pdf")
NOTES: Final = File("file-2", "notes.md")
#: Files are numbered behind the pages.
WITH_FILES: Final = (*SOURCES, REPORT, NOTES)


def read(
    chunks: str | Iterable[str], *, linked: bool = True, sources: Iterable[Source] = SOURCES
) -> list[Piece]:
    """All pieces of a part; whatever comes, a citation is in what was shown before it."""
    reader = CitationReader(Sources(list(sources)), linked=linked)
    pieces: list[Piece] = []
    for chunk in [chunks] if isinstance(chunks, str) else chunks:
        pieces += reader.feed(chunk)
    pieces += reader.close()
    shown = 0
    for piece in pieces:
        if isinstance(piece, str):
            assert piece
            shown += len(piece)
        else:
            pointed = isinstance(piece.source, File)
            assert 0 <= piece.start_index <= piece.end_index <= shown
            assert pointed == (piece.start_index == piece.end_index)
    return pieces


def text_of(pieces: Iterable[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def citations_of(pieces: Iterable[Piece]) -> list[Citation]:
    return [piece for piece in pieces if isinstance(piece, Citation)]


def titles_of(pieces: Iterable[Piece]) -> list[str]:
    """Of what is cited; all of it is known pages."""
    sources = [cited.source for cited in citations_of(pieces)]
    return [source.title for source in sources if isinstance(source, Page)]


def said(chunks: str | Iterable[str], *, linked: bool = True) -> tuple[str, list[tuple[str, str]]]:
    """The text that is shown; for each citation what it covers, and the title of its page."""
    pieces = read(chunks, linked=linked)
    text = text_of(pieces)
    covers = [text[cited.start_index : cited.end_index] for cited in citations_of(pieces)]
    return text, list(zip(covers, titles_of(pieces), strict=True))
