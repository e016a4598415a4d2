"""A worker that does what it is asked to (``python -m tests.odd_worker``)."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from antiphon.workers_side import allow, limit, work


def _hoard(_: Any, __: bytes) -> int:
    return len(bytes(3 * 1024 * 1024 * 1024))


def _overstay(question: Any, _: bytes) -> None:
    allow(question["seconds"])
    while question["busy"]:
        pass
    time.sleep(60)


def _spin(_: Any, __: bytes) -> None:
    while True:
        pass


def _chatter(_: Any, __: bytes) -> str:
    print("a library says something")
    sys.stdout.flush()
    return "done"


def _write(question: Any, _: bytes) -> str:
    try:
        Path(question["path"]).write_bytes(b"x")
    except OSError:
        return "refused"
    return "written"


_DEEDS: Final[dict[str, Callable[[Any, bytes], Any]]] = {
    "echo": lambda question, body: [question["text"], len(body), os.getpid()],
    "sleep": lambda _, __: time.sleep(60),
    "die": lambda _, __: os.kill(os.getpid(), signal.SIGSEGV),
    "suffer": lambda question, _: os.kill(os.getpid(), question["signal"]),
    "fail": lambda _, __: 1 // 0,
    "exit": lambda _, __: os._exit(0),
    "long": lambda question, _: {"text": "x" * question["size"], "is": "long"},
    "many": lambda question, _: {"texts": ["ä" * 1_000] * question["number"], "none": []},
    "spin": _spin,
    "environment": lambda _, __: dict(os.environ),
    "session": lambda _, __: [os.getsid(0), os.getpid()],
    "hoard": _hoard,
    "overstay": _overstay,
    "chatter": _chatter,
    "write": _write,
}


def _answer(question: Any, body: bytes) -> Any:
    return _DEEDS[question["do"]](question, body)


if __name__ == "__main__":
    limit(memory=1024 * 1024 * 1024, files=32, file_size=0)
    work(_answer)
