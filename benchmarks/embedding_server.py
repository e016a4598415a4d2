"""A loopback ``/v1/embeddings`` over a model of sentence-transformers. It stands alone: any Python
that has this package runs it, ``python benchmarks/embedding_server.py FOLDER``.

Rules
1. `FOLDER` has the model; nothing is fetched.
2. One batch at a time: the model takes all cores.
3. The port is printed on the first line of stdout; the server stops when its stdin ends.
"""

import importlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, model: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self._model = model
        self._lock = threading.Lock()

    def vectors(self, texts: list[str]) -> list[list[float]]:
        """The vector of each text."""
        with self._lock:
            rows: list[list[float]] = self._model.encode(
                texts, normalize_embeddings=True, show_progress_bar=False
            ).tolist()
            return rows


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """The only path there is."""
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        rows = enumerate(self.server.vectors(question["input"]))
        found = [{"object": "embedding", "index": at, "embedding": row} for at, row in rows]
        answer = {"object": "list", "model": question["model"], "data": found}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: it would be a line a batch."""


def main() -> None:
    """Serve until stdin ends."""
    # Not a dependency of ours: mypy and the other scripts do without it.
    transformers = importlib.import_module("sentence_transformers")
    server = _Server(transformers.SentenceTransformer(sys.argv[1], device="cpu"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
