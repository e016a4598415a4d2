"""A worker's side of its pipes: what a module that `workers.py` runs is made of.

Rules
1. stdin has questions: two numbers of four bytes each, then so many bytes of JSON and of body.
   stdout has answers: frames of a number of four bytes and so many bytes of JSON, the last of them
   empty. Before the first answer there is only that: the worker is ready.
2. The first frame is the answer; the long texts and lists of texts of an object are not in it. They
   follow as ``[key, part]``: JSON is parsed at one go, in which the server does nothing else
   (R-118), so no frame is large.
3. Nothing is caught here: what breaks a worker ends it, and who waits for it sees that.
4. A worker limits itself before it looks at what somebody else wrote; where the system has no such
   limits, there are none. It imports no more than it needs: this module is small for that.
5. A worker ends with its stdin, and on Linux with the server itself: what nobody waits for any more
   is not worked on. If the system has no memory left it goes first.
"""

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, TypeAlias

import orjson

if sys.platform != "win32":
    import resource

QUESTION: Final = struct.Struct("!II")
ANSWER: Final = struct.Struct("!I")
LONGER: Final = 2
#: Characters of text in a frame, if it is not one of a list: some 200 KiB at most.
PART: Final = 64 * 1024
#: Of Linux' `prctl`: which signal the end of the parent is.
_PARENT_DEATH: Final = 1
_MOST_OOM_SCORE: Final = b"1000"
#: What a process dies of that took longer than it was allowed.
TOOK_TOO_LONG: Final = frozenset(
    {-signal.SIGALRM, -signal.SIGXCPU} if sys.platform != "win32" else ()
)
#: What others kill it with: a system without memory, and who ends a service with all its processes.
KILLED: Final = frozenset(
    {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
    if sys.platform != "win32"
    else ()
)

#: What a worker does: head and body of a question → its answer, both in what JSON knows.
Answer: TypeAlias = Callable[[Any, bytes], Any]


def limit(*, memory: int, files: int | None = None, file_size: int | None = None) -> None:
    """No more address space, open files, or bytes of a file that it writes; never a core dump."""
    if sys.platform != "win32":
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_AS, memory)
        if files is not None:
            _limit(resource.RLIMIT_NOFILE, files)
        if file_size is not None:
            _limit(resource.RLIMIT_FSIZE, file_size)


def allow(seconds: float | None) -> None:
    """The process dies unless this is called again before it has used so many seconds of
    processors, and `LONGER` times as many have passed (`TOOK_TOO_LONG`): it is not its fault that
    others use them, too. None: as long as it likes."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, LONGER * seconds if seconds is not None else 0)
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        allowed = most
        if seconds is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            allowed = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, most))


def work(answer: Answer) -> None:
    """Be a worker until stdin ends. What a library prints must not get between the answers."""
    if sys.platform == "linux":
        depend()
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, sink, answer)


def serve(source: BinaryIO, sink: BinaryIO, answer: Answer) -> None:
    """Say that it is ready, and answer questions until there are none."""
    sink.write(ANSWER.pack(0))
    sink.flush()
    while len(lengths := source.read(QUESTION.size)) == QUESTION.size:
        head_length, body_length = QUESTION.unpack(lengths)
        head = orjson.loads(source.read(head_length))
        for frame in _frames(answer(head, source.read(body_length))):
            sink.write(ANSWER.pack(len(frame)) + frame)
        sink.write(ANSWER.pack(0))
        sink.flush()


def _frames(said: Any) -> Iterator[bytes]:
    """Rule 2."""
    long = {}
    if isinstance(said, dict):
        long = {key: value for key, value in said.items() if _is_long(value)}
        said = {key: value for key, value in said.items() if key not in long}
    yield orjson.dumps(said)
    for key, value in long.items():
        for part in _text_parts(value) if isinstance(value, str) else _list_parts(value):
            yield orjson.dumps([key, part])


def _is_long(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str) for one in value)
    return isinstance(value, str) and len(value) > PART


def _text_parts(text: str) -> Iterator[str]:
    for start in range(0, len(text), PART):
        yield text[start : start + PART]


def _list_parts(texts: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > PART:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield part


def end_with_parent() -> None:
    """From now on, whatever this process does meanwhile. Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def depend() -> None:
    """Rule 5, as well as the system lets it. Should the server have died before, there is no
    question: it asks who is ready, and that is said later."""
    end_with_parent()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(_MOST_OOM_SCORE)


def _limit(what: int, most: int) -> None:
    _, already = resource.getrlimit(what)
    if already != resource.RLIM_INFINITY:
        most = min(most, already)
    resource.setrlimit(what, (most, most))
