"""HTML → the text that it shows, in lines a model can read.

Rules
1. It is read as a stream: there is no tree, so nothing is too deep (100,000 nested elements are
   only that many events).
2. Headings begin with ``#`` and items of lists with ``-``; the cells of a row are one line, with
   ``|`` between them. A table in a cell is there for layout: its cells are not the outer row's.
3. Scripts, styles, templates and what is said to be hidden show nothing (R-123). What cannot have
   paragraphs in it ends before the next one, should its author have forgotten to end it.
4. White space is one space, but in ``<pre>``.
"""

import re
from collections.abc import Mapping
from typing import Final

from lxml import etree  # type: ignore[import-untyped]

from antiphon.documents.limits import Lines, damaged

#: These show nothing up to their ends; `_OPEN` up to the next of `_BLOCKS`, if that comes before.
_SKIPPED: Final = frozenset({"script", "style", "template", "noscript"})
_OPEN: Final = frozenset({"svg", "iframe", "object", "select"})
#: What opens a template, and what ends it: where one has no end, all are `_OPEN`.
_TEMPLATE: Final = re.compile(r"<template[\s>]", re.IGNORECASE)
_TEMPLATE_END: Final = re.compile(r"</template[\s>]", re.IGNORECASE)
_NOT_DISPLAYED: Final = re.compile(r"(?:^|;)\s*display\s*:\s*none\b", re.IGNORECASE)
#: Pages hide themselves until a script has run.
_WHOLE: Final = frozenset({"html", "body"})
#: Beginning and end of these are ends of a line, and of a paragraph.
_LINES: Final = frozenset(
    {
        *("body", "br", "dd", "div", "dl", "dt", "figcaption", "footer", "form", "header", "hr"),
        *("legend", "li", "main", "nav", "option", "summary", "tr", "address", "article", "aside"),
        *("details", "fieldset", "figure", "section", "thead", "tbody", "tfoot", "ol", "ul"),
    }
)
_PARAGRAPHS: Final = frozenset(
    {
        *("blockquote", "caption", "p", "pre", "table", "title"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
    }
)
_BLOCKS: Final = _PARAGRAPHS - {"title", "caption"} | {
    *("address", "article", "aside", "div", "dl", "footer", "form", "header", "hr", "main", "nav"),
    *("ol", "section", "ul"),
}
#: In a cell of a table these do not end its line.
_SMALL: Final = frozenset({"p", "div", "br"})
_LISTS: Final = frozenset({"ul", "ol"})
_CELLS: Final = frozenset({"td", "th"})
_HEADING: Final = re.compile("h([1-6])")
#: Lists are indented so often at most.
_MOST_INDENT: Final = 5
#: Characters that the parser gets at a time.
_PIECE: Final = 256 * 1024


def html_text(markup: str) -> str:
    """Raises `Unreadable`."""
    if not markup.strip():
        return ""
    ends = len(_TEMPLATE_END.findall(markup))
    page = _Page(has_open_templates=len(_TEMPLATE.findall(markup)) > ends)
    # The charset is known: what the page says of it is no more true.
    parser = etree.HTMLParser(target=page, encoding="utf-8", huge_tree=True, no_network=True)
    try:
        for start in range(0, len(markup), _PIECE):
            parser.feed(markup[start : start + _PIECE].encode("utf-8", "replace"))
        parser.close()
    except etree.LxmlError:
        raise damaged() from None
    return page.text()


def _is_hidden(tag: str, attributes: Mapping[str, str]) -> bool:
    """Its own attributes say so; not that it may be found, and is shown then."""
    if tag in _WHOLE:
        return False
    if attributes.get("hidden", "until-found").lower() != "until-found":
        return True
    return _NOT_DISPLAYED.search(attributes.get("style", "")) is not None


class _Page:
    """What lxml tells of a page becomes lines; lxml prescribes the names of its methods."""

    def __init__(self, *, has_open_templates: bool) -> None:
        self._open = _OPEN | {"template"} if has_open_templates else _OPEN
        self.data = self._say
        self._lines = Lines()
        self._line: list[str] = []
        self._prefix = ""
        self._blank = False
        #: Elements in which we are; and with the how manyth of them nothing is shown any more,
        #: None: all is. Whether that ends before a block.
        self._depth = 0
        self._hidden_at: int | None = None
        self._hides_no_block = False
        self._pre = 0
        self._lists = 0
        #: Of the row in which we are: cells that have begun; None: in none. With those around it.
        self._row: int | None = None
        self._rows: list[int | None] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._depth += 1
        if self._hidden_at is not None and not (self._hides_no_block and tag in _BLOCKS):
            return
        self._hidden_at = None
        if tag in _SKIPPED or tag in self._open or _is_hidden(tag, attributes):
            self._hidden_at = self._depth
            self._hides_no_block = tag in self._open
        else:
            self._border(tag)
            self._enter(tag)

    def end(self, tag: str) -> None:
        """It ends, perhaps because another one cannot stand in it."""
        if self._hidden_at is None:
            self._border(tag)
            self._leave(tag)
        elif self._hidden_at == self._depth:
            self._hidden_at = None
        self._depth -= 1

    def _say(self, text: str) -> None:
        """Text is there, or a part of it."""
        if self._hidden_at is not None:
            return
        if not self._pre:
            self._line.append(text)
            return
        first, *others = text.split("\n")
        self._line.append(first)
        for other in others:
            self._finish()
            self._line.append(other)

    def comment(self, _: str) -> None:
        """Nobody sees it."""

    def close(self) -> None:
        """The page ends."""
        self._finish()

    def text(self) -> str:
        """All of it."""
        return self._lines.text().lstrip("\n")

    def _border(self, tag: str) -> None:
        if self._row is not None and tag in _SMALL:
            self._line.append(" ")
        elif tag in _PARAGRAPHS:
            self._finish()
            self._blank = True
        elif tag in _LINES:
            self._finish()

    def _enter(self, tag: str) -> None:
        if tag in _CELLS:
            self._row = (self._row or 0) + 1
            self._line.append(" | " if self._row > 1 else "")
        elif tag == "tr":
            self._row = None
        elif tag == "table":
            self._rows.append(self._row)
            self._row = None
        elif tag in _LISTS:
            self._lists += 1
        elif tag == "li":
            self._prefix = "  " * min(max(self._lists - 1, 0), _MOST_INDENT) + "- "
        elif tag == "pre":
            self._pre += 1
        elif tag == "title":
            self._prefix = "# "
        elif heading := _HEADING.fullmatch(tag):
            self._prefix = "#" * int(heading[1]) + " "

    def _leave(self, tag: str) -> None:
        if tag == "tr":
            self._row = None
        elif tag == "table":
            self._row = self._rows.pop() if self._rows else None
        elif tag in _LISTS:
            self._lists -= 1
        elif tag == "pre":
            self._pre -= 1
        elif tag == "title" or _HEADING.fullmatch(tag):
            self._prefix = ""

    def _finish(self) -> None:
        """The line ends."""
        line = "".join(self._line)
        self._line.clear()
        line = line.rstrip() if self._pre else " ".join(line.split())
        if line.strip(" |"):
            if self._blank:
                self._lines.add("")
            self._blank = False
            self._lines.add(self._prefix + line)
            self._prefix = ""
        elif self._pre:
            self._blank = True
