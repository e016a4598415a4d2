"""Files that tests read, made by hand: no binary fixtures."""

import copy
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

import openpyxl  # type: ignore[import-untyped]
import pptx
from openpyxl.worksheet.worksheet import Worksheet  # type: ignore[import-untyped]
from pptx.util import Inches

MIB: Final = 1024 * 1024
_TYPES: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
    'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
_WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"

# -- archives ------------------------------------------------------------------------------------


def archive(parts: Mapping[str, bytes]) -> bytes:
    """A zip."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return made.getvalue()


def with_parts(whole: bytes, parts: Mapping[str, bytes]) -> bytes:
    """The zip with some of its parts replaced, or with more of them."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        return archive({name: file.read(name) for name in file.namelist()} | dict(parts))


def with_copies(whole: bytes, name: str, count: int) -> bytes:
    """The zip whose directory names one entry again and again: they share their bytes."""
    made = io.BytesIO(whole)
    with zipfile.ZipFile(made, "a") as file:
        file.filelist += [copy.copy(file.getinfo(name)) for _ in range(count)]
        file.writestr("last", b"")
    return made.getvalue()


def with_size(whole: bytes, name: str, size: int) -> bytes:
    """The zip whose directory lies about the size of an entry."""
    made = io.BytesIO(whole)
    with zipfile.ZipFile(made, "a") as file:
        file.getinfo(name).file_size = size
        file.writestr("last", b"")
    return made.getvalue()


# -- Office --------------------------------------------------------------------------------------


def document(
    body: str, prolog: str = "", encoding: str = "utf-8", part: str = "document.xml"
) -> bytes:
    """A docx whose body is XML, in a part that has a name."""
    xml = (
        f'<?xml version="1.0" encoding="{encoding}"?>{prolog}'
        f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    )
    return archive(
        {
            "[Content_Types].xml": _TYPES.replace("document.xml", part).encode(),
            "_rels/.rels": _RELATIONS.replace("document.xml", part).encode(),
            f"word/{part}": xml.encode(encoding),
        }
    )


def paragraph(text: str, style: str = "") -> str:
    """XML of one."""
    said = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{said}<w:r><w:t>{text}</w:t></w:r></w:p>"


def slides(texts: Sequence[tuple[str, str]]) -> bytes:
    """A pptx of titles and texts; each slide has notes and a table, too."""
    made = pptx.Presentation()
    for title, text in texts:
        slide = made.slides.add_slide(made.slide_layouts[5])
        assert slide.shapes.title is not None
        slide.shapes.title.text_frame.text = title
        group = slide.shapes.add_group_shape()
        box = group.shapes.add_textbox(Inches(1), Inches(1), Inches(1), Inches(1))
        box.text_frame.text = text
        size = Inches(2)
        table = slide.shapes.add_table(1, 2, size, size, size, size).table
        table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
        notes = slide.notes_slide.notes_text_frame
        assert notes is not None
        notes.text = f"say {title}"
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def sheets(rows: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    """An xlsx: names of sheets, and their rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, lines in rows.items():
        sheet: Worksheet = book.create_sheet(name)
        for line in lines:
            sheet.append(list(line))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def sheet_xml(rows: str, dimension: str = "A1", prolog: str = "") -> bytes:
    """The part `xl/worksheets/sheet1.xml` with rows in XML."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{prolog}'
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f'<dimension ref="{dimension}"/><sheetData>{rows}</sheetData></worksheet>'
    ).encode()


def cell(place: str, text: str) -> str:
    """XML of one with a text of its own."""
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


def old_office(*, is_encrypted: bool) -> bytes:
    """What begins like a compound file, and has the name of a stream."""
    name = "EncryptedPackage" if is_encrypted else "WordDocument"
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1_000) + name.encode("utf-16-le") + bytes(9)


# -- PDF -----------------------------------------------------------------------------------------


def pdf(pages: Sequence[str], *, size: int = 1_000, extra: str = "", trailer: str = "") -> bytes:
    """A PDF of pages whose content is given: `shown` makes one. `extra`: one more object."""
    contents = list(dict.fromkeys(pages))
    first = 4 + len(pages)
    kids = " ".join(f"{4 + number} 0 R" for number in range(len(pages)))
    shared = f"/MediaBox[0 0 {size} {size}]/Resources<</Font<</F 3 0 R>>>>"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}{shared}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    at = {content: first + number for number, content in enumerate(contents)}
    objects += [f"<</Type/Page/Parent 2 0 R/Contents {at[page]} 0 R>>" for page in pages]
    objects += [f"<</Length {len(content)}>>stream\n{content}\nendstream" for content in contents]
    objects += [extra] if extra else []
    made = io.BytesIO()
    made.write(b"%PDF-1.4\n")
    places = []
    for number, written in enumerate(objects, 1):
        places.append(made.tell())
        made.write(f"{number} 0 obj{written}endobj\n".encode("latin-1"))
    table = made.tell()
    made.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    made.write("".join(f"{place:010} 00000 n \n" for place in places).encode())
    made.write(
        f"trailer<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\n"
        f"startxref\n{table}\n%%EOF\n".encode()
    )
    return made.getvalue()


def shown(*lines: str) -> str:
    """The content of a page that shows lines."""
    return "BT /F 12 Tf 14 TL 50 700 Td " + "".join(f"({line})' " for line in lines) + "ET"


def locked_pdf() -> bytes:
    """One whose password is not empty."""
    word = "<" + "41" * 32 + ">"
    return pdf(
        [shown("secret")],
        extra=f"<</Filter/Standard/V 1/R 2/O{word}/U{word}/P -4>>",
        trailer=f"/Encrypt 6 0 R/ID[{word}{word}]",
    )


#: The content of a page that is a picture of one point.
PICTURE: Final = "100 0 0 100 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID x EI"
