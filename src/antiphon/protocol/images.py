"""What an image is and how large, by its first bytes (reliability R-99). Pure; nothing is decoded.

Rules
1. Only the head is read: what a decoder would make of the rest is its business.
2. What is not known is None: backends may know more formats than we do.
3. The event loop waits meanwhile (R-118): of a head that is full of tiny pieces only the first are
   looked at.
"""

from typing import Final, NamedTuple

#: Pixels of a side, and of the whole.
MOST_SIDE: Final = 8_000
MOST_PIXELS: Final = 50_000_000

#: Bytes in which the size of a JPEG must be: metadata may come before it.
HEAD: Final = 1024 * 1024
#: Segments, chunks or blocks that are looked at: 10 ms. `HEAD` has 4,112 of the blocks of a GIF.
_MOST_PIECES: Final = 8_192
#: Markers of JPEG that start a frame: all SOF but DHT, JPG and DAC (ITU T.81, table B.1).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers without a length.
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
#: The flag of a WebP that is animated.
_WEBP_MOVES: Final = 0x02
#: Bytes of the header that OS/2 gave a BMP.
_OS2_HEADER: Final = 12


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int

    @property
    def is_too_large(self) -> bool:
        """Whether decoding it would be a burden."""
        return max(self) > MOST_SIDE or self.width * self.height > MOST_PIXELS


class Image(NamedTuple):
    """Its media type, its size where the head says it, and whether it says that it moves."""

    media_type: str
    size: Size | None
    is_animated: bool = False


def image_of(head: bytes) -> Image | None:
    """What begins with `head`, of which `HEAD` bytes are enough; None: no image that is known."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        size = _pair(head, 16, 4) if head[12:16] == b"IHDR" else None
        return Image("image/png", size, _moves_as_png(head))
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return Image("image/gif", _pair(head, 6, 2, "little"), _moves_as_gif(head))
    if head.startswith(b"\xff\xd8\xff"):
        return Image("image/jpeg", _of_jpeg(head))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        is_animated = head[12:16] == b"VP8X" and bool(head[20:21] and head[20] & _WEBP_MOVES)
        return Image("image/webp", _of_webp(head), is_animated)
    if head.startswith(b"BM") and len(head) >= 26:
        return Image("image/bmp", _of_bmp(head))
    return None


def _pair(head: bytes, at: int, width: int, order: str = "big") -> Size | None:
    """Two numbers of `width` bytes."""
    if len(head) < at + 2 * width:
        return None
    little = order == "little"
    first, second = head[at : at + width], head[at + width : at + 2 * width]
    return Size(*(int.from_bytes(n, "little" if little else "big") for n in (first, second)))


def _moves_as_png(head: bytes) -> bool:
    """Whether there is a control chunk before the pixels (PNG, third edition, 11.3.6.1)."""
    at = 8
    for _ in range(_MOST_PIECES):
        kind = head[at + 4 : at + 8]
        if len(kind) < 4 or kind in (b"IDAT", b"acTL"):
            return kind == b"acTL"
        at += 12 + int.from_bytes(head[at : at + 4], "big")
    return False


def _moves_as_gif(head: bytes) -> bool:
    """Whether a second image begins in the head, or one that is repeated (GIF89a, 17 to 26)."""
    at, images, in_data = 13 + _colours(head, 10), 0, False
    for _ in range(_MOST_PIECES):
        if at >= len(head) or images > 1:
            break
        if in_data:
            in_data = head[at] > 0
            at += 1 + head[at]
            continue
        if head[at] == 0x2C:
            images += 1
            at += 11 + _colours(head, at + 9)
        elif head[at] == 0x21:
            if head[at + 1 : at + 14] == b"\xff\x0bNETSCAPE2.0":
                return True
            at += 2
        else:
            break
        in_data = True
    return images > 1


def _colours(head: bytes, at: int) -> int:
    """Bytes of a table of colours whose flags are there."""
    flags = head[at] if at < len(head) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _of_jpeg(head: bytes) -> Size | None:
    """The size in the first frame header (ITU T.81, B.2.2)."""
    at = 2
    for _ in range(_MOST_PIECES):
        if at + 4 > len(head) or head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            size = _pair(head, at + 5, 2)
            return None if size is None else Size(size.height, size.width)
        at += 2 + max(2, int.from_bytes(head[at + 2 : at + 4], "big"))
    return None


def _of_webp(head: bytes) -> Size | None:
    """The size in the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    match head[12:16]:
        case b"VP8X" if len(head) >= 30:
            numbers = (head[24:27], head[27:30])
            return Size(*(1 + int.from_bytes(number, "little") for number in numbers))
        case b"VP8L" if len(head) >= 25:
            bits = int.from_bytes(head[21:25], "little")
            return Size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        case b"VP8 " if len(head) >= 30:
            numbers = (head[26:28], head[28:30])
            return Size(*(int.from_bytes(number, "little") & 0x3FFF for number in numbers))
    return None


def _of_bmp(head: bytes) -> Size | None:
    """The size in the second header, that of OS/2 or that of Windows; upside down is negative."""
    if int.from_bytes(head[14:18], "little") == _OS2_HEADER:
        return _pair(head, 18, 2, "little")
    width, height = (int.from_bytes(head[at : at + 4], "little", signed=True) for at in (18, 22))
    return Size(width, abs(height))
