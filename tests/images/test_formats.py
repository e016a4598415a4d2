"""Formats of images: what bytes are, conversions, and bombs (R-99, R-133)."""

import io
import struct
import sys
import time
import zlib

import pytest
from PIL import Image

from antiphon.errors import ToolFailed
from antiphon.images.base import Format
from antiphon.images.formats import BadImage, converted, found_in
from tests.images.image_server import opened, picture

SVG = b'<?xml version="1.0"?><!-- a --><svg xmlns="http://www.w3.org/2000/svg"></svg>'


def bomb(width: int, height: int) -> bytes:
    """A PNG that says that it is so large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(head))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg", "gif"])
def test_what_an_image_is_its_bytes_say(kind: str) -> None:
    assert found_in(picture(kind, (40, 30))) == (kind, "40x30")


def test_an_svg_is_one_and_a_bmp_can_be_read() -> None:
    assert found_in(SVG) == ("svg", None)
    assert found_in(b"\xef\xbb\xbf <svg>") == ("svg", None)
    bmp = picture("bmp", (40, 30))
    assert found_in(bmp) == (None, "40x30")
    assert found_in(converted(bmp, "webp", None)) == ("webp", "40x30")


@pytest.mark.parametrize(
    "body", [b"", b"<html>No</html>", b"\x89PNG\r\n\x1a\n", bomb(8_001, 10), bomb(8_000, 8_000)]
)
def test_what_is_no_image_or_too_large(body: bytes) -> None:
    with pytest.raises(BadImage):
        found_in(body)
    with pytest.raises(BadImage):
        converted(body, "webp", None)


def test_a_head_that_lies_costs_no_memory() -> None:
    """R-99: dimensions first; and what follows the head must be there."""
    with pytest.raises(BadImage, match="decoded"):
        converted(bomb(4_000, 4_000), "webp", None)


def test_a_second_head_does_not_count_for_less() -> None:
    """R-99: what is decoded, not what the first head says."""
    pixels = b"IDAT" + zlib.compress(bytes(99))
    rest = struct.pack(">I", len(pixels) - 4) + pixels + struct.pack(">I", zlib.crc32(pixels))
    lies = bomb(32, 32) + bomb(9_000, 9_000)[8:] + rest
    assert found_in(lies).size == "32x32"
    with pytest.raises(BadImage, match="9000 × 9000"):
        converted(lies, "webp", None)


def test_looking_for_an_svg_takes_no_time() -> None:
    """R-118."""
    began = time.monotonic()
    for body in (b"<!--->-->" * 1_000, b"<?xml >" * 2_000, b" " * 100_000, b"<!---->" * 2_000):
        with pytest.raises(BadImage):
            found_in(body)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("wished", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("given", ["png", "webp", "jpeg", "gif"])
def test_every_format_becomes_every_other(given: str, wished: Format) -> None:
    image = opened(converted(picture(given, colour=(0, 120, 0)), wished, None))
    assert image.format == wished.upper()
    red, green, blue = image.convert("RGB").getpixel((3, 3))  # type: ignore[misc]
    assert (red < 16, 110 < green < 130, blue < 16) == (True, True, True)


def test_transparency_stays_or_becomes_white() -> None:
    clear = picture("png", colour=(0, 0, 0, 0))
    webp = opened(converted(clear, "webp", None))
    assert webp.convert("RGBA").getpixel((1, 1))[3] == 0  # type: ignore[index]
    assert opened(converted(clear, "jpeg", None)).getpixel((1, 1)) == (255, 255, 255)


def test_palettes_and_grey_can_be_written() -> None:
    for mode in ("P", "L", "LA", "CMYK", "1", "I;16"):
        written = io.BytesIO()
        Image.new(mode, (8, 8)).save(written, "JPEG" if mode == "CMYK" else "PNG")
        for wished in ("png", "webp", "jpeg"):
            assert found_in(converted(written.getvalue(), wished, 50)).format == wished


def test_what_would_take_much_memory_is_not_decoded() -> None:
    """R-118: it is an image like others, as long as it may stay as it is."""
    written = io.BytesIO()
    Image.new("1", (5_000, 4_001)).save(written, "PNG")
    assert found_in(written.getvalue()).size == "5000x4001"
    with pytest.raises(BadImage, match="pixels"):
        converted(written.getvalue(), "jpeg", None)


def test_compression_makes_smaller_images() -> None:
    noise = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(noise, "PNG")
    for wished in ("jpeg", "webp"):
        small, large = (converted(noise.getvalue(), wished, n) for n in (10, 95))
        assert len(small) * 2 < len(large)


@pytest.mark.parametrize(("body", "wished"), [(picture(), "gif"), (picture(), "svg"), (SVG, "png")])
def test_what_is_not_made_here(body: bytes, wished: Format) -> None:
    with pytest.raises(BadImage, match=f"not {wished}"):
        converted(body, wished, None)


def test_without_pillow_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-133."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ToolFailed, match="'pillow' is missing"):
        converted(picture_of_before, "webp", None)
    assert found_in(picture_of_before).format == "png"


picture_of_before = picture()
