"""A receiver of webhooks: a real HTTP server in threads, which answers as a test wants."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import orjson

_LIMIT: Final = 10.0


@dataclass(frozen=True)
class Delivered:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The body."""
        event: dict[str, Any] = orjson.loads(self.body)
        return event

    @property
    def id(self) -> str:
        """The ``webhook-id``."""
        return self.headers["webhook-id"]


class _Server(ThreadingHTTPServer):
    """Others may connect while one is being accepted; threads are waited for."""

    request_queue_size = 128
    daemon_threads = False


class Receiver:
    """Answers with `statuses` in turn, then with 200. A negative one: after so many seconds.

    `location` is sent along, so that a 3xx leads there."""

    def __init__(
        self, *statuses: float, host: str = "127.0.0.1", port: int = 0, location: str | None = None
    ) -> None:
        self._statuses = list(statuses)
        self._location = location
        self._changed = threading.Condition()
        self._leave = threading.Event()
        self.got: list[Delivered] = []
        self._server = _Server((host, port), self._answerer())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._server.server_address[0]!s}:{self.port}/hook"

    def wait(self, count: int, seconds: float = _LIMIT) -> list[Delivered]:
        """What arrived, as soon as it is so many; AssertionError when it takes too long."""
        with self._changed:
            in_time = self._changed.wait_for(lambda: len(self.got) >= count, seconds)
            assert in_time, f"{len(self.got)} of {count} arrived in {seconds} s"
            return list(self.got)

    def leave(self) -> None:
        """Answer now what was to be answered later."""
        self._leave.set()

    def _status(self) -> int:
        with self._changed:
            status = self._statuses.pop(0) if self._statuses else 200
        if status < 0:
            self._leave.wait(-status)
            return 200
        return int(status)

    def _take(self, delivered: Delivered) -> None:
        with self._changed:
            self.got.append(delivered)
            self._changed.notify_all()

    def _answerer(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Answerer(BaseHTTPRequestHandler):
            """One connection."""

            def do_POST(self) -> None:
                """Take what came, then answer."""
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver._take(Delivered(self.path, headers, body))
                try:
                    self.send_response(receiver._status())
                    if receiver._location is not None:
                        self.send_header("location", receiver._location)
                    self.send_header("content-length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        return Answerer
