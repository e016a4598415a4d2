"""Bytes of text → text.

Rules
1. The charset is that of a byte order mark, of the HTML or XML itself, or UTF-8.
2. If it is none of them, it is Windows-1252 if that makes words of a Western language, which is
   where `charset_normalizer` is often wrong; then what that says; then Windows-1252 in any case.
3. What has NUL characters, or many controls, is not text.
"""

import re
from typing import Final

from charset_normalizer import from_bytes

from antiphon.documents.limits import unsupported
from antiphon.protocol.plain import declared, marked

_FOREIGN: Final = re.compile(rb"[\x80-\xff]")
#: Bytes from which a charset is guessed, before and from the first one on that is not ASCII.
_SAMPLE: Final = 64 * 1024
_GUESSED: Final = (
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
#: Letters of Western Europe without those of Iceland, which are Turkish ones in Windows-1254.
_WESTERN: Final = re.compile("[À-ÏÑ-ÖØ-ÝßÀ-ïñ-öø-ýÿŒœŠšŽžŸ]")
_SIGN: Final = re.compile("[“”‘’„‚–—…€•°§£©®«»¿¡ªº·´™½¼¾²³¹±×¢\u00a0]")
#: Polish letters of Windows-1250, read as Windows-1252.
_POLISH: Final = re.compile("[a-z][¿¹]|[¹³][a-z]")
_LETTER: Final = re.compile("[A-Za-z]")
#: Of all letters, those that are not ASCII in a Western text at most.
_SHARE: Final = 0.4
_CONTROL: Final = re.compile("[\x01-\x08\x0e-\x1a\x1c-\x1f]")
#: That many are, and one more for so many characters.
_FEW: Final = 4
_MANY: Final = 20
_BINARY: Final = "not of a kind that has text"


def decoded(body: bytes) -> str:
    """Raises `Unreadable`: it is not text."""
    mark = marked(body)
    if mark is not None:
        text = body[mark[1] :].decode(mark[0], "replace")
    elif b"\0" in body:
        raise unsupported(_BINARY)
    else:
        text = _unmarked(body)
    controls = len(_CONTROL.findall(text, 0, _SAMPLE))
    if "\0" in text or controls > _FEW + len(text[:_SAMPLE]) // _MANY:
        raise unsupported(_BINARY)
    return text


def _unmarked(body: bytes) -> str:
    said = declared(body) if body.lstrip().startswith(b"<") else None
    for charset in (said, "utf-8"):
        text = _strictly(body, charset) if charset else None
        if text is not None:
            return text
    guessed = _strictly(body, _guess(body))
    return body.decode("cp1252", "replace") if guessed is None else guessed


def _guess(body: bytes) -> str:
    found = _FOREIGN.search(body)
    first = found.start() if found else 0
    sample = body[max(0, first - _SAMPLE) : first + _SAMPLE]
    if _is_western(sample):
        return "cp1252"
    best = from_bytes(sample, cp_isolation=list(_GUESSED)).best()
    return best.encoding if best is not None else "cp1252"


def _is_western(sample: bytes) -> bool:
    text = _strictly(sample, "cp1252")
    if text is None or _POLISH.search(text):
        return False
    letters = len(_WESTERN.findall(text))
    foreign = sum(character > "\x7f" for character in text) - letters - len(_SIGN.findall(text))
    plain = len(_LETTER.findall(text))
    return not foreign and letters <= _SHARE * (letters + plain)


def _strictly(body: bytes, charset: str) -> str | None:
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return None
