"""What a file is: its first bytes say so, and its name only where they cannot (R-96).

Rules
1. What begins like a kind that is read is of this kind, whatever its name is.
2. What begins like something else has no text, also when its name promises some; but what reads
   as text is text, though it begins with the letters that others are known by.
3. All the rest may be text. Whether it is HTML or Markdown, its name says, or its first tag.
"""

import codecs
import re
from typing import Final, Literal, TypeAlias

from antiphon.documents.limits import unsupported

#: "zip" and "ole" are containers: what is in them decides.
Kind: TypeAlias = Literal["pdf", "zip", "ole", "text"]
Markup: TypeAlias = Literal["html", "markdown", "plain"]

#: Bytes that `kind_of` wants to see.
HEAD: Final = 4_096
#: Where readers of PDF still look for its first line.
_PDF_HEAD: Final = 1_024
_READ: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
)
_NOT_READ: Final = (
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP", "an image"),
    (rb"ID3[\x02-\x04]|fLaC\0|OggS\0|RIFF....WAVE|\xff[\xfb\xf3\xf2]", "audio"),
    (rb"\0\0..ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a film or an image"),
    (rb"\x7fELF|\0asm|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe", "a program"),
    (rb"\x1f\x8b|BZh\d1AY|\xfd7zXZ\0|7z\xbc\xaf|Rar!\x1a\x07|\x28\xb5\x2f\xfd", "an archive"),
    (rb"SQLite format 3\0", "a database"),
)
#: It reads as text, and nobody wants to read that.
_RICH_TEXT: Final = re.compile(rb"\{\\rtf\d")
#: What texts do not have.
_CONTROL: Final = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_SIGNS: Final = tuple((re.compile(sign, re.DOTALL), what) for sign, what in _NOT_READ)
_SPACE: Final = b" \t\r\n\f\xef\xbb\xbf"
#: A declaration and comments may stand before.
_HTML: Final = re.compile(
    r"\s*(?:<\?xml[^>]{0,500}>\s*)?(?:<!--.{0,2000}?-->\s*){0,3}(?:<!doctype\s+html|<html)[\s>]",
    re.IGNORECASE | re.DOTALL,
)


def kind_of(head: bytes, filename: str) -> Kind:
    """What begins so; `head` is of `HEAD` bytes if there are so many. Raises `Unreadable`."""
    is_pdf_by_name = suffix(filename) == "pdf" and b"%PDF-" in head[:_PDF_HEAD]
    if is_pdf_by_name or head.lstrip(_SPACE).startswith(b"%PDF-"):
        return "pdf"
    for sign, kind in _READ:
        if head.startswith(sign):
            return kind
    if _RICH_TEXT.match(head):
        raise unsupported("in Rich Text Format")
    for pattern, what in _SIGNS:
        if pattern.match(head) and not _reads_as_text(head):
            raise unsupported(what)
    return "text"


def _reads_as_text(head: bytes) -> bool:
    """As UTF-8, whose last character may be cut."""
    if _CONTROL.search(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def markup_of(text: str, filename: str) -> Markup:
    """How text is to be read."""
    if _HTML.match(text) or suffix(filename) in ("html", "htm", "xhtml"):
        return "html"
    return "markdown" if suffix(filename) in ("md", "markdown", "mdx") else "plain"


def suffix(filename: str) -> str:
    """Lower case, without the dot; "" if there is none."""
    return filename.rpartition(".")[2].lower() if "." in filename else ""
