"""The command line, with what Python does counted: ``python -m tests.performance.counted serve``.

Rules
1. SIGUSR2 starts to count, and the next one ends it. Either is answered by one line on stdout; the
   second says the count as JSON.
2. What is counted is the bytecode that the main thread executes, where the event loop is, and the
   bytes of JSON that any thread reads and writes. What else C does within one step (SQLite, HTTP,
   a copy of a list) is one step, however long it takes.
3. Pythons have different bytecode: a count is told with that of `reference`, which is the same work
   in all of them.
4. The looks for commits of other processes, of which there are none, are put off: they come twenty
   times a second, so that a slow machine would see more of them in a request.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias
from unittest.mock import patch

import orjson

from antiphon.cli import main

#: What `sys.settrace` takes.
Trace: TypeAlias = Callable[[FrameType, str, Any], Any]
_OURS: Final = "performance/counted.py:"
#: Of `reference`.
_ROUNDS: Final = 50


@dataclass(slots=True)
class Steps:
    """How many opcodes of one function were executed."""

    code: CodeType
    opcodes: int = 0

    def count(self, frame: FrameType, event: str, arg: object) -> Trace:
        """The trace function of its frames."""
        if event == "opcode":
            self.opcodes += 1
        return self.count

    @property
    def place(self) -> str:
        """The function, and where it stands."""
        file = "/".join(self.code.co_filename.split("/")[-3:])
        return f"{file}:{self.code.co_firstlineno} {self.code.co_qualname}"


class Counting:
    """Counts while it is on."""

    def __init__(self) -> None:
        self._functions: dict[int, Steps] = {}

    def start(self) -> None:
        """From zero, for functions that are called from now on."""
        self._functions = {}
        # Python 3.12 looks whether any frame wants opcodes when it starts to trace.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._enter)

    def stop(self) -> dict[str, int]:
        """Opcodes by function."""
        sys.settrace(None)
        found = Counter[str]()
        for steps in self._functions.values():
            found[steps.place] += steps.opcodes
        return dict(found)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Trace:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        steps = self._functions.get(id(frame.f_code))
        if steps is None:  # it keeps the code, and so its id
            steps = self._functions[id(frame.f_code)] = Steps(frame.f_code)
        return steps.count


class Json:
    """In the place of orjson's functions, by which the whole server reads and writes JSON."""

    def __init__(self) -> None:
        self.bytes = 0
        self._dumps, self._loads = orjson.dumps, orjson.loads
        patch.multiple(orjson, dumps=self.dumps, loads=self.loads).start()

    def dumps(self, *asked: Any) -> bytes:
        """As `orjson.dumps`."""
        text = self._dumps(*asked)
        self.bytes += len(text)
        return text

    def loads(self, text: bytes | bytearray | memoryview | str) -> Any:
        """As `orjson.loads`."""
        self.bytes += len(text)
        return self._loads(text)


class Toggle:
    """The signal."""

    def __init__(self, reference: int) -> None:
        self._counting = Counting()
        self._json = Json()
        self._reference = reference
        self._on = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Start or stop."""
        self._on = not self._on
        if self._on:
            self._say({})
            self._json.bytes = 0
            self._counting.start()
        else:
            functions = self._counting.stop()
            theirs = {where: count for where, count in functions.items() if _OURS not in where}
            self._say({"reference": self._reference, "opcodes": theirs, "json": self._json.bytes})

    @staticmethod
    def _say(count: dict[str, Any]) -> None:
        """Past `print`, which may be at work in what the signal interrupts."""
        os.write(sys.stdout.fileno(), f"counted {json.dumps(count)}\n".encode())


@dataclass(frozen=True)
class _Token:
    """What `reference` is about."""

    text: str
    number: int = 0

    def shown(self) -> dict[str, Any]:
        return {"type": "token", "text": self.text, "number": self.number}


async def _said(tokens: list[_Token]) -> list[dict[str, Any]]:
    shown = []
    for token in tokens:
        try:
            await _checked(token)
        except ValueError:
            continue
        shown.append(token.shown())
    return shown


async def _checked(token: _Token) -> None:
    match token:
        case _Token(text="", number=number):
            raise ValueError(number)
        case _Token(number=int()) if len(token.text) > 100 or token.number < 0:
            raise ValueError(token.text)


def reference() -> int:
    """Opcodes of some work that looks like the server's: objects, dicts, branches, coroutines."""

    async def work() -> None:
        for round_ in range(_ROUNDS):
            words = [f"word{number}" if number % 5 else "" for number in range(10)]
            shown = await _said([_Token(word, round_) for word in words])
            total = {key: value for each in shown for key, value in each.items() if value}
            assert total["text"] == "word9"

    def counted() -> int:
        counting.start()
        loop.run_until_complete(work())
        opcodes = counting.stop()
        return sum(count for place, count in opcodes.items() if _OURS in place)

    counting, loop = Counting(), asyncio.new_event_loop()
    counted()  # Python 3.13 begins to count after the first call of a function
    opcodes = counted()
    loop.close()
    return opcodes


if __name__ == "__main__":
    for pause in ("watch.POLL", "bell.PAUSE"):
        patch(f"antiphon.store.{pause}", 3600.0).start()
    signal.signal(signal.SIGUSR2, Toggle(reference()))
    sys.argv[0] = "antiphon"
    main()
