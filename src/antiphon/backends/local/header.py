"""What a GGUF file says about its model, without loading it.

Rules
1. Only what stands before the vocabulary is read: some hundred bytes, at every start.
2. A value that is not there is None; a file of another kind raises `NotGGUF`.
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_MAGIC: Final = b"GGUF"
#: Type of a value → how it is packed (GGUF 3; what came before is the same for these).
_NUMBERS: Final = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING: Final = 8
_ARRAY: Final = 9
#: No name and no text that is looked for is longer.
_LONGEST: Final = 1 << 20
#: Values that are looked at.
_MOST: Final = 1_000


class NotGGUF(ValueError):
    """The file is no GGUF file, or a broken one."""


class Header(NamedTuple):
    """`context_length`: the tokens for which the model was trained; `pooling`: whether it says how
    it makes vectors."""

    architecture: str | None
    context_length: int | None
    pooling: bool


def read_header(path: Path) -> Header:
    """Raises OSError or `NotGGUF`."""
    try:
        with path.open("rb") as file:
            return _header(_values(file))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise NotGGUF(f"{path}: it is no GGUF file") from error


def _header(values: dict[str, object]) -> Header:
    architecture = values.get("general.architecture")
    length = values.get(f"{architecture}.context_length")
    return Header(
        architecture if isinstance(architecture, str) else None,
        length if isinstance(length, int) and length > 0 else None,
        f"{architecture}.pooling_type" in values,
    )


def _values(file: BinaryIO) -> dict[str, object]:
    """The numbers and texts before the vocabulary."""
    if file.read(4) != _MAGIC:
        raise ValueError("another kind of file")
    _version, _tensors, count = _unpacked(file, "IQQ")
    values: dict[str, object] = {}
    for _ in range(min(count, _MOST)):
        name = _text(file)
        if name.startswith("tokenizer."):
            break
        (kind,) = _unpacked(file, "I")
        values[name] = _value(file, kind)
    return values


def _value(file: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _unpacked(file, _NUMBERS.get(kind, "?"))[0]
    inner, length = _unpacked(file, "IQ")
    if length > _LONGEST:
        raise ValueError("a list without end")
    for _ in range(length):
        _value(file, inner)
    return None


def _text(file: BinaryIO) -> str:
    (length,) = _unpacked(file, "Q")
    if length > _LONGEST:
        raise ValueError("a text without end")
    return file.read(length).decode()


def _unpacked(file: BinaryIO, layout: str) -> tuple[int, ...]:
    packed = struct.Struct("<" + layout)
    return packed.unpack(file.read(packed.size))
