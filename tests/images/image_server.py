"""An image server on loopback, with a script: `ChatUpstream` with OpenAI's images API.

upstream.script(made(picture("png")), streamed([picture("png")], picture("png")))
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any, Final

from PIL import Image

from antiphon.protocol.image_usage import ImageUsage
from tests.backends.upstream import DONE, Reply, Request, Step, sse

USAGE: Final = {
    "input_tokens": 10,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 10},
    "output_tokens": 272,
    "total_tokens": 282,
}
#: The same as it is read.
TOKENS: Final = ImageUsage(input_text=10, output_image=272)


def picture(
    kind: str = "png", size: tuple[int, int] = (32, 24), colour: Any = (200, 30, 30)
) -> bytes:
    """A small image; a colour with four numbers makes it transparent."""
    written = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(written, kind.upper())
    return written.getvalue()


def opened(body: bytes) -> Image.Image:
    """An image, decoded."""
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def b64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def made(body: bytes, **more: Any) -> Reply:
    """An answer in JSON; `more` stands beside ``data``."""
    return Reply.json({"created": 1, "data": [{"b64_json": b64(body)}], **more})


def at(url: str) -> Reply:
    """An answer that names a URL."""
    return Reply.json({"created": 1, "data": [{"url": url}]})


def streamed(
    partials: Sequence[bytes], final: bytes | None, kind: str = "generation", pause: float = 0.0
) -> Reply:
    """An answer in events; without `final` it ends early."""
    said = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    body: list[Step] = []
    for index, one in enumerate(partials):
        event = {"type": f"image_{kind}.partial_image", "partial_image_index": index, **said}
        body += [sse({**event, "b64_json": b64(one)}), pause]
    if final is not None:
        event = {"type": f"image_{kind}.completed", "usage": USAGE, **said}
        body += [sse({**event, "b64_json": b64(final)}), DONE]
    return Reply(body=body)


def refused(status: int, code: str = "", message: str = "SECRET TEXT", **headers: str) -> Reply:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": "x", "code": code or None, "param": None}
    return Reply.json({"error": error}, status, **headers)


@dataclass(frozen=True)
class Part:
    """A field of a form."""

    name: str
    filename: str | None
    content_type: str
    body: bytes


def form(request: Request) -> list[Part]:
    """What was sent as ``multipart/form-data``."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    found = []
    for part in parts:
        assert not isinstance(part, str)
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        name = part.get_param("name", header="content-disposition")
        found.append(Part(str(name), part.get_filename(), part.get_content_type(), body))
    return found


def texts(request: Request) -> dict[str, str]:
    """The fields of a form that are no files."""
    return {part.name: part.body.decode() for part in form(request) if part.filename is None}


def files(request: Request) -> list[tuple[str, str, bytes]]:
    """Name, media type and bytes of the files of a form."""
    return [(p.name, p.content_type, p.body) for p in form(request) if p.filename is not None]
