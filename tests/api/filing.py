"""Files in requests, as the live tests send them: kinds, addresses, what a model was told."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from antiphon.protocol.inline import inlined
from tests.api.forms import field, file, made, post
from tests.api.talk import Json
from tests.backends.upstream import ChatUpstream
from tests.documents.building import document, paragraph, pdf, shown
from tests.live import CHAT_TOML, LiveServer, serve

#: Models `openai-m` take PDF, `ollama-m` data URLs only, all others neither and anything.
TOML: Final = """
[[backends]]
name = "openai"
kind = "chat_completions"
profile = "openai"
base_url = "{base_url}"
models = ["openai-*"]

[[backends]]
name = "ollama"
kind = "chat_completions"
profile = "ollama"
base_url = "{base_url}"
models = ["ollama-*"]
"""
#: Name → content, media type, and what its text has in it.
KINDS: Final[dict[str, tuple[bytes, str, str]]] = {
    "notes.txt": ("Die Größe ist 42".encode(), "text/plain", "Die Größe ist 42"),
    "table.csv": (b"name,age\nAda,36\n", "text/csv", "Ada,36"),
    "paper.pdf": (pdf([shown("Otters hold hands")]), "application/pdf", "Otters hold hands"),
    "letter.docx": (
        document(paragraph("Dear otter")),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "Dear otter",
    ),
}


class Web(ThreadingHTTPServer):
    """Pages by their paths, and traps. `asked`: paths."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.asked: list[str] = []
        self.pages: dict[str, bytes] = {f"/{name}": kind[0] for name, kind in KINDS.items()}
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Pages(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        match self.path:
            case "/to-private":
                self._answer(b"", 302, location="http://169.254.169.254/latest")
            case "/to-notes":
                self._answer(b"", 302, location="/notes.txt")
            case "/round":
                self._answer(b"", 302, location="/round")
            case "/endless":
                self._pour()
            case path if path in self.server.pages:
                self._answer(self.server.pages[path])
            case _:
                self._answer(b"nothing", 404)

    def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _pour(self) -> None:
        self.send_response(200)
        self.end_headers()
        until = time.monotonic() + 30
        try:
            while time.monotonic() < until:
                self.wfile.write(b"x" * 1024 * 1024)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def surfing() -> Iterator[Web]:
    """A web of its own."""
    with Web() as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield web
        web.shutdown()


@contextmanager
def filing(
    folder: pytest.TempPathFactory, upstream: ChatUpstream, **env: str
) -> Iterator[LiveServer]:
    """A server that may ask loopback for files."""
    env = {"ANTIPHON_FILE_URL_HOSTS": "127.0.0.1", **env}
    toml = (TOML + CHAT_TOML).format(base_url=upstream.base_url)
    with serve(folder.mktemp("filing"), toml, env) as server:
        yield server


def upload(client: httpx2.Client, name: str, content: bytes | None = None) -> str:
    """The id of a new file; one of `KINDS` unless `content` says what it is."""
    body = KINDS[name][0] if content is None else content
    sent = file(body, f'filename="{name}"')
    id_: str = made(post(client, field("purpose", "user_data"), sent))["id"]
    return id_


def inline(name: str) -> Json:
    """One of `KINDS` in the request itself."""
    body, media_type, _ = KINDS[name]
    return {"type": "input_file", "filename": name, "file_data": inlined(media_type, body)}


def by_id(file_id: str, **more: Any) -> Json:
    return {"type": "input_file", "file_id": file_id, **more}


def user(*parts: Json, words: str = "Read.") -> Json:
    """A message with these parts after a text."""
    return {"role": "user", "content": [{"type": "input_text", "text": words}, *parts]}


def told(upstream: ChatUpstream, turn: int = -1) -> str:
    """All that a request told the model, as text."""
    return str(upstream.requests[turn].json["messages"])


def chat_parts(upstream: ChatUpstream) -> list[Json]:
    """The parts of the last message of the last request."""
    content = upstream.requests[-1].json["messages"][-1]["content"]
    parts: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


def rows(folder: Path) -> bytes:
    """The database, byte for byte."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("antiphon.db*")))
