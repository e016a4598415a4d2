"""A client that says whatever it is told to, byte for byte, and the server it talks to."""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antiphon.api.limits import WireLimits

_ROOT = Path(__file__).parents[2]


@dataclass
class RawReply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class Wire:
    """A running `tests.api.wire_app`."""

    port: int
    log_path: str
    pid: int

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def say(self, data: bytes, timeout: float = 5.0) -> list[RawReply]:
        """Send `data` on a new connection; the answers until the server closes it, or until it is
        silent for `timeout` seconds."""
        with self.connect(timeout) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
            return replies(read_all(sock))

    def get(self, path: str) -> RawReply:
        """A plain GET."""
        return self.say(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())[
            0
        ]

    def count(self) -> dict[str, int]:
        """What ``/count`` tells: bodies taken, open connections, memory."""
        counted: dict[str, int] = self.get("/count").json()
        return counted

    def log(self) -> str:
        """Everything the server has logged."""
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()


@contextlib.contextmanager
def serving(limits: WireLimits) -> Iterator[Wire]:
    """A server with these limits in a process of its own."""
    with tempfile.NamedTemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.api.wire_app", json.dumps(asdict(limits))],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=_ROOT,
        )
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line, f"the server did not start: {Path(log.name).read_text()}"
            yield Wire(int(line), log.name, server.pid)
            assert server.poll() is None, "the server died"
        finally:
            server.terminate()
            server.wait(timeout=10)
            assert server.stdout is not None
            server.stdout.close()


def read_all(sock: socket.socket) -> bytes:
    """All that comes until the end, a reset or the socket's timeout."""
    received = bytearray()
    with contextlib.suppress(ConnectionError, TimeoutError):
        while chunk := sock.recv(1 << 20):
            received += chunk
    return bytes(received)


def next_reply(sock: socket.socket) -> RawReply:
    """One answer with a Content-Length from a connection that stays open."""
    received = b""
    while True:
        chunk = sock.recv(65536)
        assert chunk, f"closed after {received!r}"
        received += chunk
        _, end, body = received.partition(b"\r\n\r\n")
        if end:
            (reply,) = replies(received)
            if len(body) >= int(reply.headers["content-length"]):
                return reply


def closed(sock: socket.socket) -> bool:
    """Whether the server closes the connection before the socket's timeout."""
    try:
        while sock.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def replies(data: bytes) -> list[RawReply]:
    """The answers in a byte stream; one that is cut short has a short body."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), first
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name] = value
        status = int(first.split()[1])
        if status == 100:
            continue
        length = int(headers.get("content-length", len(data)))
        found.append(RawReply(status, headers, data[:length]))
        data = data[length:]
    return found


def eventually(condition: Callable[[], bool], within: float = 5.0) -> bool:
    """Whether `condition` becomes true in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
