"""A load generator on bare asyncio: one rendered request, many times, a number of them at once.

Rules
1. A fixed number of connections; each sends its next request when its answer is whole. A chain is
   a connection whose next request names the response before.
2. Every answer is checked: status 200, the marks that a whole answer has, the number of deltas.
   The first bad one ends the run with `ServerError`: a figure of a broken server is no figure.
3. Answers are searched, not parsed: the generator must cost less than what it measures.
"""

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

#: The API key of the measured server.
KEY: Final = "bench-key"
#: Seconds without an answer after which a run is stuck.
_STUCK: Final = 120.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
#: A token of the upstream's paced mode, in either protocol.
_STAMP: Final = re.compile(rb'"(?:delta|content)": ?" t(\d+)"')
#: Where an answer says what is wrong.
_FAULT: Final = re.compile(rb'"(?:error|detail)": ?(?:\{[^}]*\}|"[^"]*")')
_ID: Final = re.compile(rb'"id": ?"((?:ca)?resp_[^"]+)"')


class ServerError(Exception):
    """A server did not do what it should; the message says what was asked and what came."""


@dataclass(frozen=True)
class Target:
    """What is asked, and how a whole answer looks."""

    port: int
    #: The request as it goes over the wire.
    request: bytes
    #: All of these stand in a whole answer.
    marks: tuple[bytes, ...]
    #: What each delta has in it, and how many there are.
    delta: bytes = b""
    deltas: int = 0
    #: Tokens are times of writing.
    stamped: bool = False
    #: What the first token has in it.
    token: bytes = b""
    #: Requests of a chain, and the next one from the id of the response before.
    turns: int = 1
    follow: Callable[[str], bytes] | None = None


@dataclass
class Sample:
    """What a run saw. Times in seconds."""

    wall: float = 0.0
    latencies: list[float] = field(default_factory=list)
    #: Until the first event of a stream, and until its first token.
    firsts: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    transits: list[float] = field(default_factory=list)


def post(port: int, path: str, body: bytes, key: str = KEY) -> bytes:
    """A rendered request with a JSON body."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of all are not above; 0 when there are none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class _Run:
    """The state that all connections share."""

    def __init__(self, target: Target, requests: int, until: float) -> None:
        self.target = target
        self.sample = Sample()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until = until
        self._unsent, self._flying = requests, 0
        self._opening: set[asyncio.Task[None]] = set()
        self.transports: set[asyncio.Transport] = set()

    def close(self) -> None:
        """Leave nothing open."""
        for transport in self.transports:
            transport.abort()

    def open(self) -> None:
        """One more connection, unless there is nothing left to send."""
        if self._may_send():
            task = asyncio.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.target.port)
        except OSError as error:
            self.fail(f"cannot connect: {error}")

    def _may_send(self) -> bool:
        in_time = not self.sample.latencies or time.perf_counter() < self._until
        return self._unsent > 0 and in_time and not self.finished.done()

    def take(self) -> bool:
        """Whether one more request may be sent."""
        if not self._may_send():
            return False
        self._unsent -= 1
        self._flying += 1
        return True

    def answered(self, latency: float, answer: bytes) -> None:
        """Check a whole answer and note it."""
        target = self.target
        good = answer.startswith(b"HTTP/1.1 200") and all(mark in answer for mark in target.marks)
        if not good or (target.delta and answer.count(target.delta) != target.deltas):
            head, _, body = answer.partition(b"\r\n\r\n")
            status = head[:80].split(b"\r\n")[0].decode("latin-1")
            told = _FAULT.search(body)
            self.fail(f"{status}: {told[0] if told else body[-600:]!r}")
            return
        self.sample.latencies.append(latency)
        self._flying -= 1

    def settle(self) -> None:
        """Finish once nothing is to come, and nothing to be sent."""
        if not self._flying and not self._may_send() and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, why: str) -> None:
        """End the run."""
        if not self.finished.done():
            asked = self.target.request.decode(errors="replace")
            left = f"{self._unsent} unsent, {self._flying} unanswered"
            self.finished.set_exception(ServerError(f"{why}\nAsked ({left}): {asked}"))


class _Connection(asyncio.Protocol):
    """One request after another."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._busy = False
        self._request, self._turn = run.target.request, 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast("asyncio.Transport", transport)
        self._run.transports.add(self._transport)
        self._send()

    def _send(self) -> None:
        self._answer = bytearray()
        self._length: int | None = None
        self._closes = self._begun = self._spoken = False
        self._searched = 0
        self._busy = self._run.take()
        if not self._busy:
            self._transport.close()
            self._run.settle()
            return
        self._started = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Collect, and go on when the answer is whole."""
        self._answer += data
        if not self._spoken:
            self._note_beginning()
        if self._run.target.stamped:
            self._note_transits()
        if self._length is None and not self._read_head():
            return
        if self._length:
            whole = len(self._answer) >= self._length
        else:
            whole = self._answer.endswith(b"\r\n0\r\n\r\n")
        if whole:
            self._busy = False
            latency, answer = time.perf_counter() - self._started, bytes(self._answer)
            self._run.answered(latency, answer)
            self._choose_next(answer)
            if self._closes:
                self._transport.close()
                self._run.settle()
            else:
                self._send()

    def _note_beginning(self) -> None:
        """The first event, then the first token, which may come at once."""
        now = time.perf_counter() - self._started
        if not self._begun and b"data: " in self._answer:
            self._begun = True
            self._run.sample.firsts.append(now)
        if self._run.target.token and self._run.target.token in self._answer:
            self._spoken = True
            self._run.sample.tokens.append(now)

    def _choose_next(self, answer: bytes) -> None:
        """The same again, or what follows in a chain."""
        follow, found = self._run.target.follow, None
        if follow and self._turn < self._run.target.turns:
            found = _ID.search(answer)
        if follow and found:
            self._request, self._turn = follow(found[1].decode()), self._turn + 1
        else:
            self._request, self._turn = self._run.target.request, 1

    def _read_head(self) -> bool:
        """Where the answer will end: a length, or 0 for a chunked one."""
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = _LENGTH.search(self._answer, 0, end)
        self._length = end + 4 + int(length[1]) if length else 0
        self._closes = _CLOSE.search(self._answer, 0, end + 2) is not None
        return True

    def _note_transits(self) -> None:
        now = time.monotonic_ns()
        end = self._answer.rfind(b"\n\n")
        if end > self._searched:
            stamps = _STAMP.findall(self._answer, self._searched, end)
            self._run.sample.transits += [(now - int(stamp)) / 1e9 for stamp in stamps]
            self._searched = end

    def connection_lost(self, exc: Exception | None) -> None:
        """The server may close after an answer, never within one."""
        self._run.transports.discard(self._transport)
        if self._busy:
            self._run.fail(f"cut off ({exc}): {bytes(self._answer[-600:])!r}")
        else:
            self._run.open()


async def load(
    target: Target,
    requests: int,
    at_once: int,
    *,
    seconds: float = float("inf"),
    patience: float = _STUCK,
) -> Sample:
    """Send `requests` requests, `at_once` at a time, but no new one after `seconds`; all that were
    sent are waited for, `patience` seconds beyond that at most. Raises `ServerError`."""
    started = time.perf_counter()
    run = _Run(target, requests, started + seconds)
    for _ in range(min(at_once, requests)):
        run.open()
    limit = patience + min(seconds, patience)
    stuck = asyncio.get_running_loop().call_later(limit, run.fail, f"no end in {limit:.0f} s")
    try:
        await run.finished
    finally:
        stuck.cancel()
        run.close()
    run.sample.wall = time.perf_counter() - started
    return run.sample
