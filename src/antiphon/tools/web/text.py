"""Text out of what a page's server sent: pure, and run in a process of its own (`extractor.py`).

Rules
1. HTML by `trafilatura`: the text of a page without what is around it; all text if there is none.
2. The charset is that of the header, of a byte order mark, of the page itself, UTF-8, or what UTF-8
   is not: Windows-1252.
3. What nobody sees is left out (R-123); the rest is cut at `MOST_TEXT`.
"""

import codecs
import html
import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from antiphon.protocol.plain import charset_named, declared, marked, seen, seen_inline

#: Bytes of a page that are looked at, and tags: what parsers take depends on both.
MOST_BYTES: Final = 2 * 1024 * 1024
MOST_TAGS: Final = 50_000
#: Characters of text that a page has at most.
MOST_TEXT: Final = 500_000
MOST_TITLE: Final = 300

Kind: TypeAlias = Literal["html", "plain"]

_KINDS: Final[dict[str, Kind]] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "plain",
    "text/markdown": "plain",
    "text/x-markdown": "plain",
    "text/json": "plain",
    "text/xml": "plain",
    "application/json": "plain",
    "application/xml": "plain",
}
_STRUCTURED: Final = re.compile(r"application/[\w.-]+\+(json|xml)")
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
#: A declaration that is wrong once the text is decoded.
_DECLARATION: Final = re.compile(r"\s*<\?xml[^>]{0,500}\?>")
_TITLE: Final = re.compile(r"<title[^<>]{0,500}>([^<]{0,5000})", re.IGNORECASE)
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,100}>")
_SPACES: Final = re.compile(r"[^\S\n]+")
_BLANK_LINES: Final = re.compile(r"\n{3,}")


class NotReadable(Exception):
    """A page that has no text; the message says why, in our words."""


class PageText(NamedTuple):
    """What a page says."""

    title: str
    text: str


def kind_of(content_type: str) -> Kind | None:
    """How what has this ``content-type`` is read; None: it is not a page that can be read."""
    name = content_type.partition(";")[0].strip().lower()
    return _KINDS.get(name) or ("plain" if _STRUCTURED.fullmatch(name) else None)


def page_text(body: bytes, content_type: str) -> PageText:
    """The title, which may be empty, and the text of a page. Raises `NotReadable`."""
    kind = kind_of(content_type)
    if kind is None:
        raise NotReadable("It is not a page that can be read.")
    markup = _decoded(body[:MOST_BYTES], content_type)
    if kind == "plain":
        if "\x00" in markup:
            raise NotReadable("It is not a page that can be read.")
        return PageText("", _neat(markup))
    match = _TITLE.search(markup, 0, 256 * 1024)
    title = line(match[1], MOST_TITLE) if match else ""
    markup = "<".join(markup.split("<", MOST_TAGS)[:MOST_TAGS])
    text = _neat(_main_text(_DECLARATION.sub("", markup, count=1)))
    if not text:
        raise NotReadable("The page has no text that can be read.")
    return PageText(title, text)


def line(text: object, most: int) -> str:
    """Somebody else's text in one line: without tags, entities and unseen characters."""
    if not isinstance(text, str):
        return ""
    plain = html.unescape(_TAG.sub("", text[: 4 * most]))
    return " ".join(seen_inline(plain).split())[:most]


def _neat(text: str) -> str:
    lines = (_SPACES.sub(" ", part).strip() for part in seen(text).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()[:MOST_TEXT]


def _main_text(markup: str) -> str:
    trafilatura = _trafilatura()
    text = trafilatura.extract(markup, fast=True, include_comments=False, deduplicate=False)
    if not text:
        text = trafilatura.html2txt(markup)
    if not text:  # perhaps a piece of a page, which is none for it
        text = trafilatura.html2txt(f"<html><body>{markup}</body></html>")
    return text or ""


def _trafilatura() -> Any:
    """The one place that needs the package."""
    try:
        import trafilatura  # noqa: PLC0415
    except ImportError:
        raise NotReadable(
            "Reading web pages needs the package 'trafilatura', which this server does not have."
        ) from None
    return trafilatura


def _decoded(body: bytes, content_type: str) -> str:
    if mark := marked(body):
        return body[mark[1] :].decode(mark[0], "replace")
    said = _CHARSET.search(content_type)
    if found := (said and charset_named(said[1])) or declared(body):
        return body.decode(found, "replace")
    try:
        # The last character may be cut in two.
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")
