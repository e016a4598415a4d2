"""PDF → its text, page by page.

Rules
1. A page is closed before the next one is opened: what a page takes is not what they all take.
2. A document of pages without text was perhaps scanned: that is said.
"""

from typing import BinaryIO, Final

from pypdfium2 import PdfDocument, PdfiumError, raw  # type: ignore[import-untyped]

from antiphon.documents.limits import MOST_TEXT, Lines, damaged, locked, no_text, too_large

#: What PDFium makes of a hyphen at which a word is broken into two lines, which it has joined.
_HYPHEN: Final = "\ufffe"
_LOCKED: Final = frozenset({raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY})


def pdf_text(file: BinaryIO) -> str:
    """Raises `Unreadable`."""
    try:
        document = PdfDocument(file)
    except PdfiumError as error:
        raise (locked() if error.err_code in _LOCKED else damaged()) from None
    lines = Lines()
    try:
        for number in range(len(document)):
            lines.add(_page_text(document, number))
            lines.add("")
    except PdfiumError:
        raise damaged() from None
    finally:
        document.close()
    text = lines.text()
    if not text.strip():
        raise no_text("Its pages may be images: text is not recognized in images.")
    return text


def _page_text(document: PdfDocument, number: int) -> str:
    page = document[number]
    try:
        content = page.get_textpage()
        try:
            if content.count_chars() > MOST_TEXT:
                raise too_large()
            return str(content.get_text_range()).replace(_HYPHEN, "")
        finally:
            content.close()
    finally:
        page.close()
