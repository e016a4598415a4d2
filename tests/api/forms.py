"""Forms with files, byte for byte."""

from typing import Final

import httpx2

from tests.api.talk import Json

BOUNDARY: Final = "f0rm-b0undary"
TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"


def field(name: str, value: str | bytes) -> bytes:
    """A part that is a field."""
    content = value.encode() if isinstance(value, str) else value
    return part(f'form-data; name="{name}"', content)


def file(content: bytes, disposition: str = 'filename="a.txt"', name: str = "file") -> bytes:
    """A part that is a file."""
    return part(f'form-data; name="{name}"; {disposition}', content)


def part(disposition: str, content: bytes, more: str = "") -> bytes:
    """A part."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{more}\r\n"
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(client: httpx2.Client, *parts: bytes, path: str = "/v1/files") -> httpx2.Response:
    """Send a form."""
    return client.post(path, content=form(*parts), headers={"content-type": TYPE})


def made(reply: httpx2.Response) -> Json:
    """What a request made that must work."""
    assert reply.status_code == 200, reply.text
    body: Json = reply.json()
    return body


def uploaded(client: httpx2.Client, content: bytes, purpose: str = "user_data") -> Json:
    """A new file."""
    return made(post(client, field("purpose", purpose), file(content)))
