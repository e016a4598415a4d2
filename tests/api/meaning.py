"""An embeddings server on loopback whose model understands a few words, in a thread of its own.

Rules
1. A vector counts the meanings of a text, so texts are near that share some; words of `MEANINGS`
   mean the same. What has none has a vector of its own: it is near to nothing.
2. While it is `down` it answers 503; while it is `held`, not at all.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import orjson

DIMENSIONS: Final = 64
MEANINGS: Final = {"feline": "cat", "cats": "cat", "hound": "dog", "dogs": "dog"}
TOML: Final = """
[[backends]]
name = "simulator"
kind = "simulator"
models = ["simulator"]

[embeddings]
base_url = "{url}"
model = "{model}"
max_retries = 0
timeout = 20
"""


def vector(text: str) -> list[float]:
    """See rule 1; always the same."""
    counts = [0.0] * DIMENSIONS
    for word in text.lower().replace(".", " ").split():
        digest = hashlib.sha256(MEANINGS.get(word, word).encode()).digest()
        counts[digest[0] % DIMENSIONS] += 1.0
    return counts


class Meaning(ThreadingHTTPServer):
    """The server; a context manager. `asked`: how many requests came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.down = False
        self.held = threading.Event()
        self.asked = 0
        self.held.set()

    def toml(self, model: str = "small") -> str:
        """The configuration of a server with the simulator and these embeddings."""
        return TOML.format(url=f"http://127.0.0.1:{self.server_port}/v1", model=model)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.held.set()
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: Meaning

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked += 1
        self.server.held.wait()
        if self.server.down:
            self._answer(503, {"error": {"message": "No.", "type": "x"}})
            return
        rows = [
            {"object": "embedding", "index": index, "embedding": vector(text)}
            for index, text in enumerate(body["input"])
        ]
        self._answer(200, {"object": "list", "data": rows, "model": body["model"]})

    def _answer(self, status: int, value: Any) -> None:
        content = orjson.dumps(value)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""
