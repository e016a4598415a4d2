"""R-99: what an image is, and how large, by its head alone."""

import struct
from random import Random

import pytest

from antiphon.protocol.images import HEAD, Image, Size, image_of


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    frame = struct.pack(">BBHBHH", 0xFF, 0xC2, 17, 8, height, width)
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9) + before + frame


def app(size: int) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", size) + bytes(size - 2)


def webp(kind: bytes, rest: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + bytes(4) + rest


def lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", bits))


def lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height))


def extended(width: int, height: int) -> bytes:
    numbers = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes(4) + numbers)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(16) + struct.pack("<ii", width, -height)


def os2_bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IHHHH", 12, width, height, 1, 24)


KINDS = [
    ("image/png", png),
    ("image/gif", gif),
    ("image/jpeg", jpeg),
    ("image/webp", lossless),
    ("image/webp", lossy),
    ("image/webp", extended),
    ("image/bmp", bmp),
    ("image/bmp", os2_bmp),
]


@pytest.mark.parametrize(("media_type", "make"), KINDS)
def test_sizes(media_type: str, make: object) -> None:
    assert callable(make)
    for size in (Size(1, 1), Size(640, 480), Size(8_000, 6_250)):
        found = image_of(make(*size))
        assert found == Image(media_type, size)
        assert not size.is_too_large


@pytest.mark.parametrize(("media_type", "make"), KINDS)
def test_a_head_that_is_cut_has_no_size(media_type: str, make: object) -> None:
    assert callable(make)
    whole = make(640, 480)
    for end in range(len(whole)):
        found = image_of(whole[:end])
        assert found in (None, Image(media_type, None))


@pytest.mark.parametrize("size", [Size(8_001, 1), Size(1, 8_001), Size(8_000, 6_251)])
def test_too_large(size: Size) -> None:
    assert size.is_too_large


def test_metadata_of_a_jpeg_may_be_long() -> None:
    head = jpeg(640, 480, app(60_000) * 15 + b"\xff\xff\xff\x01")
    assert image_of(head[:HEAD]) == Image("image/jpeg", Size(640, 480))


def test_a_broken_jpeg_ends_the_search() -> None:
    assert image_of(b"\xff\xd8\xff\xe0\x00\x02junk" + jpeg(1, 1)) == Image("image/jpeg", None)
    assert image_of(b"\xff\xd8\xff\xe0\x00\x00" * 9) is not None


@pytest.mark.parametrize("head", [b"", b"%PDF-1.7", b"<svg>", b"PK\3\4", b"BM", b"RIFF1234WAVE"])
def test_what_is_no_image(head: bytes) -> None:
    assert image_of(head) is None


def png_chunk(type_: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + type_ + content + bytes(4)


def gif_image(pixels: int = 9, colours: int = 0) -> bytes:
    """An image descriptor, its table of colours, and its bytes in blocks."""
    flags = 0x80 | colours - 1 if colours else 0
    table = bytes(3 << colours) if colours else b""
    blocks = b"\xff" + b"," * 255
    return b"," + bytes(8) + bytes([flags]) + table + b"\x08" + blocks * pixels + b"\0"


GIF = gif(2, 2) + b"\x82\0\0" + bytes(24)
CONTROL = b"!\xf9\4" + bytes(4) + b"\0"
LOOP = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"
PNG = png(2, 2) + bytes(9)


@pytest.mark.parametrize(
    ("moves", "head"),
    [
        (False, GIF + CONTROL + gif_image(colours=3) + b";"),
        (False, GIF + b"!\xfe\4 21," + b"\0" + gif_image() + b";"),
        (False, GIF + gif_image(9_000)[: HEAD - 99]),
        (True, GIF + CONTROL + gif_image(colours=3) + CONTROL + gif_image()),
        (True, gif(2, 2) + bytes(3) + gif_image() + b","),
        (True, GIF + LOOP + gif_image()),
        (False, PNG + png_chunk(b"IDAT", b"acTL") + png_chunk(b"acTL")),
        (True, PNG + png_chunk(b"tEXt", b"IDAT") + png_chunk(b"acTL", bytes(8))),
        (False, extended(2, 2)),
        (True, webp(b"VP8X", b"\x12" + bytes(9))),
        (False, lossy(2, 2)),
        (False, jpeg(2, 2)),
    ],
)
def test_what_moves(*, moves: bool, head: bytes) -> None:
    """R-99: one frame, no more."""
    found = image_of(head)
    assert found is not None
    assert found.is_animated is moves


def test_any_bytes_are_read_to_the_end() -> None:
    for start in (GIF, PNG, extended(2, 2)):
        for seed in range(2_000):
            random = Random(seed)
            image_of(start + random.randbytes(random.randrange(60)))


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (jpeg(1, 1)[:20] + b"\xff" * 9_000, jpeg(640, 480)[20:]),
        (jpeg(1, 1)[:20] + b"\xff\xe1\0\2" * 9_000, jpeg(640, 480)[20:]),
        (PNG + png_chunk(b"tEXt") * 9_000, png_chunk(b"acTL", bytes(8))),
        (gif(1, 1) + bytes(3) + b"!\xfe\1a\0" * 9_000, LOOP),
        (gif(1, 1) + bytes(3) + b"!\xfe" + b"\1a" * 9_000 + b"\0", LOOP),
    ],
)
def test_only_so_many_pieces_are_looked_at(head: bytes, tail: bytes) -> None:
    """R-118: the event loop waits meanwhile, and a MiB of them took a second."""
    found = image_of(head + tail)
    assert found is not None
    assert not found.is_animated
    assert found.media_type != "image/jpeg" or found.size is None
