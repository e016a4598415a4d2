"""Text that somebody else wrote: which charset it has, and what of it can be seen (R-123).

Rules
1. Only names that the web has for charsets count; Python has others, which do other things than to
   decode.
2. A byte order mark is believed before what a text says about itself.
3. What nobody sees is left out: controls but tabs and line breaks, zero-width characters but
   joiners, marks of direction, soft hyphens, tags, halves of characters. All ends of lines are
   one.
"""

import codecs
import re
from typing import Final

#: Bytes in which a text says its charset itself.
_HEAD: Final = 4_096
_DECLARED: Final = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})"
    rb"|^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})",
    re.IGNORECASE,
)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Python's names of the charsets of the web (https://encoding.spec.whatwg.org/#names-and-labels).
_CHARSETS: Final = re.compile(
    r"utf-8|utf-16(-[lb]e)?|iso8859-\d+|cp125\d|cp866|cp874|cp932|cp949|koi8-[ru]|mac-(roman|cyrillic)"
    r"|gb2312|gbk|gb18030|big5|big5hkscs|euc_jp|euc_kr|iso2022_jp|shift_jis"
)
#: What the web means with them.
_MEANT: Final = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "utf-16": "utf-16-le",
}
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
#: Those of `str.splitlines`.
_LINE_END: Final = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def marked(body: bytes) -> tuple[str, int] | None:
    """The charset of the byte order mark, and how many bytes that has."""
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return charset, len(mark)
    return None


def declared(body: bytes) -> str | None:
    """The charset that HTML or XML says it has, as Python calls it."""
    found = _DECLARED.search(body[:_HEAD])
    if found is None:
        return None
    charset = charset_named((found[1] or found[2]).decode("ascii", "replace"))
    # What can be read here as ASCII is not UTF-16, whatever it says.
    return "utf-8" if charset is not None and charset.startswith("utf-16") else charset


def charset_named(name: str) -> str | None:
    """Python's name of a charset of the web."""
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return None
    meant = _MEANT.get(found, found)
    return meant if _CHARSETS.fullmatch(meant) else None


def seen(text: str) -> str:
    """The text without what nobody sees; its lines end with a line feed (rule 3)."""
    return _UNSEEN.sub("", _LINE_END.sub("\n", text))


def seen_inline(text: str) -> str:
    """The same; ends of lines stay as they are."""
    return _UNSEEN.sub("", text)
