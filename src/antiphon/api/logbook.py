"""Log lines on stderr: rendered and written by a thread, so that nobody waits for them (R-119).

Rules
1. Lines of structlog and of the standard library take the same way and look the same.
2. A trace is as `logs.trace` bounds it, and few of a kind are written; how many were left out is
   said a second later.
3. The queue is bounded. What does not fit is lost and counted: a log that nobody reads must not
   stop the server. At a normal end everything is written.
4. What looks like a key is starred in every line, whoever wrote it (R-130).
"""

import contextlib
import copy
import logging
import os
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from threading import Lock, Timer
from typing import Any, Final, Literal, TextIO

import structlog

from antiphon.api.logs import TraceBudget, trace, without_keys
from antiphon.engine.metrics import LOG_LINES_DROPPED

#: Lines that may wait to be written.
MOST_LINES: Final = 2000
#: Characters of a line.
_LONGEST: Final = 32 * 1024
#: Traces of one kind: at once, and seconds for each one more. R-119.
_BURST: Final = 5
_INTERVAL: Final = 1.0
#: Kinds that are told apart.
_MOST_KINDS: Final = 256

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}

Event = MutableMapping[str, Any]


class Traces:
    """Which traces are written."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._budgets: dict[str, TraceBudget] = {}
        self._timer: Timer | None = None

    def bounded(self, exc: BaseException) -> str | None:
        """The text of a trace; None when there were enough of its kind."""
        kind = _kind(exc)
        with self._lock:
            if kind not in self._budgets and len(self._budgets) >= _MOST_KINDS:
                kind = "others"
            budget = self._budgets.setdefault(kind, TraceBudget(_BURST, _INTERVAL))
            wanted = budget.take()
            if not wanted and self._timer is None:
                self._timer = Timer(_INTERVAL, self.tell)
                self._timer.daemon = True
                self._timer.start()
        return trace(exc) if wanted else None

    def tell(self) -> None:
        """Say how many were left out since the last time."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            counts = {kind: budget.suppressed for kind, budget in self._budgets.items()}
            for budget in self._budgets.values():
                budget.suppressed = 0
        for kind, count in counts.items():
            if count:
                _log.error("more_traces_of_a_kind", kind=kind, count=count)

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        """A processor of structlog: the trace in place of the exception."""
        raised = event.pop("exc_info", None)
        if raised is True:
            raised = sys.exc_info()
        exc = raised[1] if isinstance(raised, tuple) else raised
        if isinstance(exc, BaseException):
            text = self.bounded(exc)
            if text is None:
                raise structlog.DropEvent
            event["exception"] = text
        return event


class _Queue(QueueHandler):
    """Takes every line; `finish` ends the thread."""

    def __init__(self, sink: "_Sink", traces: Traces, worker: int | None) -> None:
        self._worker = {} if worker is None else {"worker": worker}
        self._lines: Queue[logging.LogRecord | None] = Queue(MOST_LINES)
        super().__init__(self._lines)
        self._traces = traces
        self._sink = sink
        self._thread: _Listener | None = _Listener(self._lines, sink)
        self._dropped = 0
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line."""
        event = record.msg if isinstance(record.msg, dict) else _foreign(record, self._traces)
        if event is not None:
            record = copy.copy(record)
            record.msg, record.args, record.exc_info = {**event, **self._worker}, None, None
            self.enqueue(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits, as long as there is a thread."""
        if self._thread is None:
            self._sink.write(record)
            return
        try:
            self._lines.put_nowait(record)
        except Full:
            self._dropped += 1
            LOG_LINES_DROPPED.inc()
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            _log.error("log_lines_dropped", count=dropped)

    def finish(self, patience: float) -> None:
        """Write what is queued, and later lines at once; unless nobody takes them."""
        self._traces.tell()
        if self._thread is not None and self._thread.finish(patience):
            self._thread = None


class _Listener(QueueListener):
    """Ends in bounded time, also when nobody takes what it writes."""

    def __init__(self, lines: "Queue[logging.LogRecord | None]", sink: "_Sink") -> None:
        super().__init__(lines)
        self._lines = lines
        self._sink = sink

    def handle(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self._sink.write(record)

    def finish(self, patience: float) -> bool:
        """Write what is queued; whether that took less than `patience` seconds."""
        thread = self._thread
        if thread is None:
            return True
        with contextlib.suppress(Full):
            self._lines.put(None, timeout=patience)  # the mark of the end
            thread.join(patience)
        return not thread.is_alive()


class _Sink:
    """Writes events as lines. No lock is held meanwhile: at the end of the program Python would
    wait for it, and a thread that nobody reads from never gives it back."""

    def __init__(self, stream: TextIO, form: Literal["text", "json"]) -> None:
        self._stream = stream
        try:
            self._file: int | None = stream.fileno()
        except OSError:  # not a real file: a test that listens
            self._file = None
        self._render: Any = (
            structlog.processors.JSONRenderer()
            if form == "json"
            else structlog.dev.ConsoleRenderer(colors=False)
        )

    def write(self, record: logging.LogRecord) -> None:
        """Write it, and wait until it is taken."""
        event: Any = record.msg
        line = without_keys(str(self._render(None, "", dict(event)))[:_LONGEST]) + "\n"
        if self._file is None:
            self._stream.write(line)
            return
        left = line.encode(errors="backslashreplace")
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:  # whoever read it is gone
            LOG_LINES_DROPPED.inc()


def open_log(
    level: str,
    form: Literal["text", "json"],
    stream: TextIO | None = None,
    worker: int | None = None,
) -> None:
    """Send all lines to `stream` (stderr); `level` is the least severe one of our own, `worker`
    which of several processes says so."""
    traces = Traces()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            traces,
            _as_message,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.ERROR)),
        logger_factory=lambda *_: _OURS,
        cache_logger_on_first_use=True,
    )
    close_log()
    _OURS.setLevel(logging.DEBUG)
    queue = _Queue(_Sink(stream or sys.stderr, form), traces, worker)
    logging.basicConfig(level=logging.WARNING, handlers=[queue], force=True)


def close_log(patience: float = 5.0) -> None:
    """Write what is queued, for at most about `patience` seconds; lines that come later are written
    at once."""
    for queue in logging.getLogger().handlers:
        if isinstance(queue, _Queue):
            queue.finish(patience)


_OURS: Final = logging.getLogger("antiphon")
_log = structlog.get_logger(__name__)


def _as_message(_logger: object, _method: str, event: Event) -> tuple[tuple[Event], dict[str, Any]]:
    return (event,), {}


def _foreign(record: logging.LogRecord, traces: Traces) -> Event | None:
    """What the standard library's loggers say, as an event of structlog; None: one trace too
    many."""
    try:
        said = record.getMessage()
    except (
        KeyError,
        TypeError,
        ValueError,
    ):  # a library's mistake: it is said without its arguments
        said = str(record.msg)
    when = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
    event: Event = {"event": said, "level": record.levelname.lower(), "timestamp": when}
    if record.exc_info and record.exc_info[1] is not None:
        text = traces.bounded(record.exc_info[1])
        if text is None:
            return None
        event["exception"] = text
    return event


def _kind(exc: BaseException) -> str:
    """Type and place of an exception."""
    step = exc.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return type(exc).__name__
    return f"{type(exc).__name__} in {step.tb_frame.f_code.co_qualname}:{step.tb_lineno}"
