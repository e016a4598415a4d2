"""Office files are archives: what is in one is looked at before anybody unpacks it (R-100).

Rules
1. The directory is believed for nothing but limits: how many entries, how large all of them are
   together and relative to the file, and that no two of them share bytes.
2. Then each entry is unpacked once, and counted: what is larger than it says is damaged.
3. A part that is XML declares no entities and no document type, and is in a charset in which that
   can be seen.
"""

import re
import zipfile
import zlib
from typing import IO, BinaryIO, Final, Literal, TypeAlias

from antiphon.documents.kinds import suffix
from antiphon.documents.limits import damaged, invalid, locked, unsupported

Office: TypeAlias = Literal["docx", "pptx", "xlsx"]

#: Of an archive.
MOST_ENTRIES: Final = 10_000
#: Bytes of all entries, unpacked.
MOST_UNPACKED: Final = 512 * 1024 * 1024
#: Bytes unpacked for each byte of the archive; what is small altogether may be more.
MOST_RATIO: Final = 100
_SMALL: Final = 1024 * 1024
#: Whose folder there is.
_FOLDERS: Final[tuple[tuple[str, Office], ...]] = (
    ("word/", "docx"),
    ("ppt/", "pptx"),
    ("xl/", "xlsx"),
)
_CONTENTS: Final = "[Content_Types].xml"
#: What only lies in an archive, and may well have a document type. Should somebody call the text of
#: a document so: its parser resolves no entities, or only few, and is where nothing can be lost.
_LYING: Final = frozenset({"bin", "svg", "html", "htm", "mht", "txt"})
_PIECE: Final = 256 * 1024
_FORBIDDEN: Final = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
_LONGEST: Final = len(b"<!DOCTYPE")
#: Once NUL bytes are gone, these read like ASCII.
_CHARSET: Final = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([^\"']{0,40})")
_CHARSETS: Final = frozenset({b"utf-8", b"utf-16", b"us-ascii", b"iso-8859-1", b"windows-1252"})
_ENCRYPTED: Final = 0x1
_BOMB: Final = "The file unpacks to more than may be read."


def office_kind(file: BinaryIO, size: int, filename: str) -> Office:
    """What the archive of so many bytes is, once it is known to be harmless. Raises
    `Unreadable`."""
    try:
        with zipfile.ZipFile(file) as archive:
            kind = _kind(archive)
            _judge(archive.infolist(), size)
            for entry in archive.infolist():
                with archive.open(entry) as part:
                    _read(part, suffix(entry.filename))
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
        *(NotImplementedError, RuntimeError, IndexError),
    ):
        if suffix(filename) in ("docx", "pptx", "xlsx"):
            raise damaged() from None
        raise unsupported("an archive, or damaged") from None
    return kind


def _kind(archive: zipfile.ZipFile) -> Office:
    names = archive.namelist()
    if _CONTENTS in names and "xl/workbook.bin" not in names:
        for folder, kind in _FOLDERS:
            if any(name.startswith(folder) for name in names):
                return kind
    raise unsupported("an archive")


def _judge(entries: list[zipfile.ZipInfo], size: int) -> None:
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise locked()
    if len(entries) > MOST_ENTRIES:
        raise invalid(f"The file has more than {MOST_ENTRIES:,} parts.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MOST_UNPACKED or unpacked > max(_SMALL, MOST_RATIO * size):
        raise invalid(_BOMB)
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise damaged()
        end = entry.header_offset + entry.compress_size


def _read(part: IO[bytes], kind: str) -> None:
    """`zipfile` gives no more than the directory says, and fails where the sum is another."""
    before = b""
    is_first = True
    while piece := part.read(_PIECE):
        if kind in _LYING:
            continue
        piece = before + piece.replace(b"\0", b"")
        if is_first and kind in ("xml", "rels"):
            _judge_beginning(piece)
        is_first = False
        if _FORBIDDEN.search(piece):
            raise invalid("The file declares entities in its XML, which is not read.")
        before = piece[-_LONGEST:]


def _judge_beginning(piece: bytes) -> None:
    if not piece.lstrip(b"\xef\xbb\xbf\xff\xfe\r\n\t ").startswith(b"<"):
        raise damaged()
    charset = _CHARSET.search(piece[:400])
    if charset and charset[1].lower() not in _CHARSETS:
        raise damaged()
