"""Office files → text. `archive.py` has looked at them before.

Rules
1. A document becomes HTML without its pictures, and then the text of that.
2. Slides and sheets are sections with a heading; a row is a line, with ``|`` between its cells. Of
   formulas there is what they came to; of many empty cells in a row, one sign.
3. Whatever a library raises over a file says that the file is damaged.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, time
from typing import Any, BinaryIO, Final
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile

import mammoth  # type: ignore[import-untyped]
import openpyxl  # type: ignore[import-untyped]
import pptx
from lxml.etree import LxmlError  # type: ignore[import-untyped]
from openpyxl.utils.exceptions import InvalidFileException  # type: ignore[import-untyped]
from pptx.exc import PythonPptxError
from pptx.shapes.base import BaseShape
from pptx.shapes.graphfrm import GraphicFrame
from pptx.shapes.group import GroupShape
from pptx.slide import Slide

from antiphon.documents.archive import Office
from antiphon.documents.limits import Lines, damaged
from antiphon.documents.markup import html_text

#: Empty cells that are kept beside each other: columns can be told by them.
_EMPTY: Final = 10
_MANY_EMPTY: Final = "…"
#: What these libraries raise when a part is missing, or is not what they expect.
_BROKEN: Final = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, OSError, EOFError),
    *(TypeError, ValueError, RuntimeError, SyntaxError),
    *(BadZipFile, ExpatError, LxmlError, InvalidFileException, PythonPptxError),
)


def office_text(file: BinaryIO, kind: Office) -> str:
    """Raises `Unreadable`."""
    try:
        match kind:
            case "docx":
                return _document(file)
            case "pptx":
                return _slides(file)
            case "xlsx":
                return _sheets(file)
    except _BROKEN:
        raise damaged() from None


def _document(file: BinaryIO) -> str:
    converted = mammoth.convert_to_html(file, convert_image=lambda _: [])
    return html_text(converted.value)


def _slides(file: BinaryIO) -> str:
    lines = Lines()
    for number, slide in enumerate(pptx.Presentation(file).slides, 1):
        title = slide.shapes.title
        heading = " ".join(title.text_frame.text.split()) if title is not None else ""
        lines.add(f"## {number}. {heading}".rstrip())
        taken = None if title is None else title.shape_id
        for shape in _shapes(slide):
            if shape.shape_id != taken:
                for line in _shape_lines(shape):
                    lines.add(line)
        notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        if notes is not None and notes.text.strip():
            lines.add(f"Notes: {notes.text}")
        lines.add("")
    return lines.text()


def _shapes(slide: Slide) -> Iterator[BaseShape]:
    """With those in groups, in their order."""
    waiting: list[BaseShape] = list(slide.shapes)[::-1]
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, GroupShape):
            waiting.extend(list(shape.shapes)[::-1])
        else:
            yield shape


def _shape_lines(shape: BaseShape) -> Iterator[str]:
    if shape.has_text_frame:
        # A shape that has one is of a class that says so; `BaseShape` does not.
        text: str = shape.text_frame.text  # type: ignore[attr-defined]
        if text.strip():
            yield text
    elif isinstance(shape, GraphicFrame) and shape.has_table:
        for row in shape.table.rows:
            yield _row(cell.text for cell in row.cells)


def _sheets(file: BinaryIO) -> str:
    lines = Lines()
    book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    try:
        for sheet in book.worksheets:
            # What a sheet says of its size is not to be believed, and is what empty cells cost.
            sheet.reset_dimensions()
            lines.add(f"## {sheet.title}")
            for row in sheet.iter_rows(values_only=True):
                if line := _row(map(_value, row)):
                    lines.add(line)
            lines.add("")
    finally:
        book.close()
    return lines.text()


def _row(cells: Iterable[str]) -> str:
    said: list[str] = []
    empty = 0
    for cell in cells:
        if not (text := " ".join(cell.split())):
            empty += 1
            continue
        said.extend([""] * empty if empty <= _EMPTY else [_MANY_EMPTY])
        said.append(text)
        empty = 0
    return " | ".join(said)


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value)
