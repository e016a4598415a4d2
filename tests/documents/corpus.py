"""Files that people upload, and those that only somebody with bad intentions does: R-96, R-100.

`CORPUS` has for each its name, the name of the file, what makes its bytes, what comes of it (None:
its text can be read), and a piece of that text, or of the message."""

import gzip
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from antiphon.documents.base import Why
from tests.documents.building import (
    MIB,
    PICTURE,
    archive,
    cell,
    document,
    locked_pdf,
    old_office,
    paragraph,
    pdf,
    sheet_xml,
    sheets,
    shown,
    slides,
    with_copies,
    with_parts,
    with_size,
)


class Case(NamedTuple):
    """A file and what comes of it."""

    name: str
    filename: str
    build: Callable[[], bytes]
    code: Why | None
    says: str


def _fixed(name: str, filename: str, body: bytes, code: Why | None, says: str) -> Case:
    return Case(name, filename, lambda: body, code, says)


PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(64)
MP3: Final = b"ID3\x04" + bytes(64)
SHEET: Final = "xl/worksheets/sheet1.xml"
LAUGHS: Final = (
    "<!DOCTYPE x ["
    '<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{number + 1} "{f"&a{number};" * 10}">' for number in range(10))
    + "]>"
)
OUTSIDE: Final = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
UTF_7: Final = b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a><a/>'
HTML: Final = """<!DOCTYPE html><html><head><title>Otters</title><style>p {color: red}</style>
<script>var hidden = "<p>no</p>";</script></head><body><h1>About &amp; around</h1>
<p>They <b>swim</b>,<br>and <a href="https://example.com/">play</a>.</p>
<ul><li>fish<li>crabs<ul><li>small ones</ul></ul>
<table><tr><th>Name</th><th>Age</th></tr><tr><td><p>Ollie</p></td><td>3</td></tr></table>
<pre>a
  b</pre></body></html>"""


def _prose(size: int) -> bytes:
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(2_000)]
    text = " ".join(draw.choices(words, k=size // 4))
    return text[:size].encode()


def _greedy() -> bytes:
    """Half a megabyte, but its parser makes a gigabyte of attributes of it."""
    several = [" ".join(f'a{n}="{kind}"' for n in range(12)) for kind in range(40)]
    chosen = random.Random(1).choices(several, k=250_000)
    return document("".join(f"<w:b {attributes}/>" for attributes in chosen))


def _sparse_sheet() -> bytes:
    """The first and the last of all columns, again and again, and some that stand closer."""
    rows = "".join(
        f'<row r="{row}">{cell(f"A{row}", "a")}{cell(f"XFD{row}", "b")}</row>'
        for row in range(1, 40)
    )
    rows += f'<row r="41">{cell("B41", "c")}{cell("M41", "d")}</row>'
    return with_parts(sheets({"a": [[1]]}), {SHEET: sheet_xml(rows)})


def _wide_sheet() -> bytes:
    rows = (
        f'<row r="1">{cell("A1", "first")}</row><row r="1048576">{cell("XFD1048576", "last")}</row>'
    )
    return with_parts(sheets({"a": [[1]]}), {SHEET: sheet_xml(rows, "A1:XFD1048576")})


_TEXTS: Final = [
    _fixed("text", "a.txt", b"Otters swim.", None, "Otters swim."),
    _fixed("text without a name", "file", b"Otters swim.", None, "Otters swim."),
    _fixed("markdown", "a.md", b"# Otters\n\nThey *swim*.", None, "# Otters\n\nThey *swim*."),
    _fixed("code", "a.py", b"def a():\n    return 1\n", None, "def a():\n    return 1"),
    _fixed("json", "a.json", b'{"otters": [1, 2]}', None, '{"otters": [1, 2]}'),
    _fixed("csv", "a.csv", b"name;age\r\nOllie;3\r\n", None, "name;age\nOllie;3"),
    _fixed("xml", "a.xml", b"<?xml version='1.0'?><a>otter</a>", None, "<a>otter</a>"),
    _fixed("text as pdf", "a.pdf", b"Otters swim.", None, "Otters swim."),
    _fixed("text as docx", "a.docx", b"Otters swim.", None, "Otters swim."),
    _fixed("utf-8 with mark", "a.txt", b"\xef\xbb\xbfCaf\xc3\xa9", None, "Café"),
    _fixed("utf-16", "a.txt", "Grüße, 日本".encode("utf-16"), None, "Grüße, 日本"),
    _fixed("latin-1", "a.txt", "Grüße aus Köln: café".encode("latin-1"), None, "Grüße aus Köln"),
    _fixed("latin-1 csv", "a.csv", "Müller;Zürich\n".encode("latin-1"), None, "Müller;Zürich"),
    _fixed("cp1252", "a.txt", "“It’s 5 €”, he said".encode("cp1252"), None, "“It’s 5 €”"),
    _fixed(
        *("shift_jis", "a.txt", "今日は天気がいいですね。".encode("shift_jis")),
        *(None, "今日は天気がいいですね。"),
    ),
    _fixed(
        *("html that says shift_jis", "a.html"),
        '<html><meta charset="shift_jis"><p>日本語'.encode("shift_jis"),
        *(None, "日本語"),
    ),
    _fixed("unseen characters", "a.txt", "a\u202eb\u200bc\u0007".encode(), None, "abc"),
    _fixed("svg with entity", "a.svg", f"{OUTSIDE}<svg>&a;</svg>".encode(), None, "<svg>&a;</svg>"),
    _fixed("html", "a.html", HTML.encode(), None, "# About & around"),
    _fixed("html as text", "a.txt", HTML.encode(), None, "Name | Age\nOllie | 3"),
    Case(
        *("deep html", "a.html", lambda: b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000),
        *(None, "deep"),
    ),
    Case("one huge line", "a.txt", lambda: b"word " * (MIB // 5), None, "word word"),
    Case("one huge word", "a.txt", lambda: b"a" * MIB, None, "aaaa"),
    Case("many spaces", "a.txt", lambda: b"a" + b" " * MIB + b"b", None, "a  "),
    Case("prose", "a.txt", lambda: _prose(2 * MIB), None, " "),
    Case("most text", "a.txt", lambda: _prose(10 * MIB), None, " "),
    Case("more text", "a.txt", lambda: _prose(10 * MIB + 1), "invalid_file", "more than 10 MiB"),
    Case("json of 50 MB", "a.json", lambda: b'{"a": 1},' * 5_600_000, "invalid_file", "10 MiB"),
    Case("text of 70 MB", "a.txt", lambda: b"a word \n" * 8_800_000, "invalid_file", "10 MiB"),
    _fixed("nothing", "a.txt", b"", "invalid_file", "is empty"),
    _fixed("blanks", "a.txt", b" \n\t\n", "invalid_file", "has no text"),
    _fixed("html without text", "a.html", b"<html><script>x</script>", "invalid_file", "no text"),
]
_NOT_TEXT: Final = [
    _fixed("nul bytes", "a.txt", b"text \0 text", "unsupported_file", "not of a kind"),
    _fixed("utf-16 with nul", "a.txt", "a\0b".encode("utf-16"), "unsupported_file", "not of a"),
    _fixed("controls", "a.bin", bytes(range(1, 32)) * 9, "unsupported_file", "not of a kind"),
    _fixed("image", "a.png", PNG, "unsupported_file", "an image"),
    _fixed("image as pdf", "a.pdf", PNG, "unsupported_file", "an image"),
    _fixed("image as text", "a.txt", PNG, "unsupported_file", "an image"),
    _fixed("jpeg", "a.jpg", b"\xff\xd8\xff\xe0" + bytes(9), "unsupported_file", "an image"),
    _fixed("sound", "a.mp3", MP3, "unsupported_file", "audio"),
    _fixed("program", "a.txt", b"\x7fELF\x02" + bytes(9), "unsupported_file", "a program"),
    _fixed("windows program", "a.exe", b"MZ\x90\0" + bytes(99), "unsupported_file", "not of a"),
    _fixed("gzip", "a.txt", gzip.compress(b"text"), "unsupported_file", "an archive"),
    _fixed("rich text", "a.rtf", rb"{\rtf1 Otters}", "unsupported_file", "Rich Text Format"),
    _fixed("old word", "a.doc", old_office(is_encrypted=False), "unsupported_file", "old format"),
    _fixed("locked docx", "a.docx", old_office(is_encrypted=True), "invalid_file", "password"),
    Case("zip", "a.zip", lambda: archive({"a.txt": b"text"}), "unsupported_file", "an archive"),
    Case("empty zip as docx", "a.docx", lambda: archive({}), "unsupported_file", "an archive"),
]
_PDFS: Final = [
    Case("pdf", "a.pdf", lambda: pdf([shown("One"), shown("Two")]), None, "One"),
    Case("pdf as text", "a.txt", lambda: pdf([shown("Otters swim")]), None, "Otters swim"),
    Case("pdf of broken words", "a.pdf", lambda: pdf([shown("ot-", "ters")]), None, "otters"),
    Case("pdf behind mail", "a.pdf", lambda: b"junk\n" + pdf([shown("Otters")]), None, "Otters"),
    Case("pdf of 10,000 pages", "a.pdf", lambda: pdf([shown("page")] * 10_000), None, "page"),
    Case("pdf of a giant page", "a.pdf", lambda: pdf([shown("big")], size=2**31 - 1), None, "big"),
    Case(
        *("pdf with a broken table", "a.pdf"),
        lambda: pdf([shown("mended")]).replace(b"startxref\n", b"startxref\n9"),
        *(None, "mended"),
    ),
    Case("pdf cut", "a.pdf", lambda: pdf([shown("cut")])[:90], "invalid_file", "damaged"),
    _fixed("pdf of nothing", "a.pdf", b"%PDF-1.7\n" + b"x" * 99, "invalid_file", "damaged"),
    Case("pdf without pages", "a.pdf", lambda: pdf([]), "invalid_file", "damaged"),
    Case("locked pdf", "a.pdf", locked_pdf, "invalid_file", "password"),
    Case("pdf of pictures", "a.pdf", lambda: pdf([PICTURE] * 3), "invalid_file", "images"),
]
_OFFICE: Final = [
    Case(
        *("docx", "a.docx"),
        lambda: document(paragraph("About otters", "Heading1") + paragraph("They swim.")),
        *(None, "# About otters\n\nThey swim."),
    ),
    Case("docx as text", "a.txt", lambda: document(paragraph("Otters")), None, "Otters"),
    Case("docx in utf-16", "a.docx", lambda: document(paragraph("Ö"), "", "utf-16"), None, "Ö"),
    Case(
        *("pptx", "a.pptx", lambda: slides([("Otters", "They swim."), ("Crabs", "They do not.")])),
        *(None, "## 1. Otters\nThey swim.\nleft | right\nNotes: say Otters\n\n## 2. Crabs\nThey"),
    ),
    Case("xlsx", "a.xlsx", lambda: sheets({"A": [["x", 1], [None, 2.5]]}), None, "x | 1\n | 2.5"),
    Case(
        *("xlsx of few cells", "a.xlsx", _sparse_sheet, None),
        "## a\n" + "a | … | b\n" * 39 + " | c" + " | " * 11 + "d",
    ),
    Case("xlsx of all cells", "a.xlsx", _wide_sheet, None, "first"),
    Case("docx without text", "a.docx", lambda: document(paragraph("")), "invalid_file", "no text"),
    Case("docx cut", "a.docx", lambda: document(paragraph("a"))[:200], "invalid_file", "damaged"),
    Case("docx not well-formed", "a.docx", lambda: document("<w:p>"), "invalid_file", "damaged"),
    Case(
        *("docx without a document", "a.docx"),
        lambda: with_parts(archive({"[Content_Types].xml": b"<a/>"}), {"word/b.xml": b"<a/>"}),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("xlsx without a book", "a.xlsx"),
        lambda: archive({"[Content_Types].xml": b"<a/>", "xl/b.xml": b"<a/>"}),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("pptx without slides", "a.pptx"),
        lambda: archive({"[Content_Types].xml": b"<a/>", "ppt/b.xml": b"<a/>"}),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("deep docx", "a.docx"),
        lambda: document(
            "<w:tbl><w:tr><w:tc>" * 5_000 + paragraph("deep") + "</w:tc></w:tr></w:tbl>" * 5_000
        ),
        *("invalid_file", "damaged"),
    ),
]
_BOMBS: Final = [
    Case(
        *("flat bomb", "a.docx"),
        lambda: with_parts(document(paragraph("a")), {"word/media/a.bin": bytes(200 * MIB)}),
        *("invalid_file", "unpacks to more"),
    ),
    Case(
        *("nested bomb", "a.docx"),
        lambda: archive({"a.zip": archive({"b.zip": archive({"c": bytes(100 * MIB)})})}),
        *("unsupported_file", "an archive"),
    ),
    Case(
        *("bomb of a thousand entries", "a.docx"),
        lambda: with_copies(document(paragraph("a")), "word/document.xml", 1_000),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("part larger than it says", "a.docx"),
        lambda: with_size(document(paragraph("a" * 5_000)), "word/document.xml", 300),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("too many parts", "a.docx"),
        lambda: with_parts(document(""), {f"word/{n}.xml": b"<a/>" for n in range(10_001)}),
        *("invalid_file", "10,000 parts"),
    ),
    Case(
        *("billion laughs", "a.docx"),
        lambda: document(paragraph("&a10;"), LAUGHS),
        *("invalid_file", "entities"),
    ),
    Case(
        *("billion laughs in disguise", "a.docx"),
        lambda: document(paragraph("&a10;"), LAUGHS, part="picture.svg"),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("file from outside in docx", "a.docx"),
        lambda: document(paragraph("&a;"), OUTSIDE),
        *("invalid_file", "entities"),
    ),
    Case(
        *("the same in utf-16", "a.docx"),
        lambda: document(paragraph("&a;"), OUTSIDE, "utf-16"),
        *("invalid_file", "entities"),
    ),
    Case(
        *("the same in utf-7", "a.pptx"),
        lambda: with_parts(slides([("a", "b")]), {"docProps/app.xml": UTF_7}),
        *("invalid_file", "damaged"),
    ),
    Case(
        *("file from outside in xlsx", "a.xlsx"),
        lambda: with_parts(
            sheets({"a": [[1]]}),
            {SHEET: sheet_xml(f'<row r="1">{cell("A1", "&a;")}</row>', "A1", OUTSIDE)},
        ),
        *("invalid_file", "entities"),
    ),
    Case("docx of a gigabyte", "a.docx", _greedy, "invalid_file", "memory"),
]

CORPUS: Final = [*_TEXTS, *_NOT_TEXT, *_PDFS, *_OFFICE, *_BOMBS]
