"""What the process that reads files does with one of them; it may be killed at any moment.

Rules
1. A question is ``{"path", "filename", "size", "overlap"}``; without a path the file is what comes
   with it. The numbers are of tokens of a chunk, and null for the whole text. Its answer is
   ``{"text"}``, ``{"chunks"}``, ``{"code", "message"}`` of an `Unreadable`, or ``{"trouble"}`` of
   the system, which is not the file's fault.
2. Text and chunks have their own time each, after which the process dies (`allow`).
3. Text is normalised: its lines end with a line feed, and what nobody sees is not in it (R-123).
"""

import gc
import os
import stat
import sys
from io import BytesIO
from typing import Any, BinaryIO, Final, NamedTuple

from antiphon.documents.archive import office_kind
from antiphon.documents.base import Chunking, Unreadable
from antiphon.documents.chunks import chunks
from antiphon.documents.kinds import HEAD, kind_of, markup_of
from antiphon.documents.limits import (
    MOST_FILE,
    MOST_MARKUP,
    MOST_TEXT,
    TEXT_SECONDS,
    chunk_seconds,
    invalid,
    locked,
    no_text,
    too_large,
    unsupported,
)
from antiphon.documents.markup import html_text
from antiphon.documents.office import office_text
from antiphon.documents.pdf import pdf_text
from antiphon.documents.text import decoded
from antiphon.protocol.plain import seen
from antiphon.workers_side import allow

#: A path of ours leads to a file, and neither further on nor to a pipe that keeps us waiting.
_FLAGS: Final = os.O_RDONLY | (os.O_NOFOLLOW | os.O_NONBLOCK if sys.platform != "win32" else 0)
#: The name of a stream in every Office file that has a password.
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
#: After so many new ones garbage is looked for; Python's own number is 700.
_OBJECTS: Final = 500_000
#: Bytes of an old Office file in which its directory is looked for.
_OLE_HEAD: Final = 16 * 1024 * 1024


class _Text(NamedTuple):
    text: str
    is_markdown: bool


def answer(question: Any, body: bytes) -> dict[str, Any]:
    """The text of a file, or its chunks."""
    try:
        allow(TEXT_SECONDS)
        text, is_markdown = _normal(_read(question["path"], body, question["filename"]))
        if question["size"] is None:
            return {"text": text}
        allow(chunk_seconds(len(text)))
        chunking = Chunking(question["size"], question["overlap"])
        return {"chunks": chunks(text, chunking, is_markdown=is_markdown)}
    except Unreadable as error:
        return {"code": error.code, "message": error.message}
    except OSError as error:
        return {"trouble": error.strerror}
    finally:
        allow(None)
        gc.collect()


def warm_up() -> None:
    """What the first file would wait for. Parsers make many objects at once, few of them garbage:
    looking through them again and again takes longer than making them."""
    chunks("text", Chunking())
    gc.freeze()
    gc.set_threshold(_OBJECTS, 20, 100)


def _normal(read: _Text) -> _Text:
    text = seen(read.text).strip("\n")
    if not text.strip():
        raise no_text()
    if len(text) > MOST_TEXT or len(text.encode()) > MOST_TEXT:
        raise too_large()
    return _Text(text, read.is_markdown)


def _read(path: str | None, body: bytes, filename: str) -> _Text:
    if path is None:
        return _checked(BytesIO(body), len(body), filename)
    with open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a file")
        return _checked(file, status.st_size, filename)


def _checked(file: BinaryIO, size: int, filename: str) -> _Text:
    if not size:
        raise invalid("The file is empty.")
    if size > MOST_FILE:
        raise invalid(f"The file is larger than {MOST_FILE // (1024 * 1024)} MiB.")
    return _text(file, size, filename)


def _text(file: BinaryIO, size: int, filename: str) -> _Text:
    kind = kind_of(file.read(HEAD), filename)
    file.seek(0)
    match kind:
        case "pdf":
            return _Text(pdf_text(file), is_markdown=False)
        case "zip":
            office = office_kind(file, size, filename)
            file.seek(0)
            return _Text(office_text(file, office), is_markdown=True)
        case "ole":
            if _ENCRYPTED in file.read(_OLE_HEAD):
                raise locked()
            raise unsupported("in an old format of Office (save it as docx, xlsx or pptx)")
        case "text":
            return _plain(file, size, filename)


def _plain(file: BinaryIO, size: int, filename: str) -> _Text:
    if size > MOST_MARKUP:
        decoded(file.read(HEAD))  # what is not text is told so
        raise too_large()
    text = decoded(file.read())
    markup = markup_of(text, filename)
    if markup == "html":
        return _Text(html_text(text), is_markdown=True)
    return _Text(text, is_markdown=markup == "markdown")
