"""Writes to the log as a program of its own, for `test_logbook`: ``python -m tests.api.log_app``.

The first argument is the form of the lines, the second what is to be written.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from typing import Final

import structlog

from antiphon.api.logbook import close_log, open_log

SECRET: Final = "sk-antiphon-abcdefghijklmnop"
_log = structlog.get_logger()
_foreign = logging.getLogger("asyncio")


def _dig(depth: int) -> None:
    """Fails `depth` calls deep with a secret in a message of many lines."""
    if depth == 0:
        raise RuntimeError(f"\x1b[31m\n{SECRET}\n" * 2000)
    _dig(depth - 1)


def deep() -> None:
    """One exception, logged by both."""
    try:
        _dig(300)
    except RuntimeError:
        _log.exception("run_crashed")
        _foreign.exception("Task exception was never %s", "retrieved")


def kinds() -> None:
    """300 exceptions of one kind, and one of another."""
    for number in range(301):
        try:
            if number == 150:
                raise KeyError(number)
            raise ValueError(number)
        except (KeyError, ValueError) as error:
            _log.error("crashed", exc_info=error)
    time.sleep(1.5)
    _log.info("later")


def lines() -> None:
    """As many lines as may wait, and no time for the thread to write them."""
    for number in range(1500):
        _log.info("line", number=number)


def mistaken() -> None:
    """A line of a library with the wrong arguments, and one with a key."""
    _foreign.error("%d of %d", "none")
    _foreign.error("Authorization: Bearer %s", SECRET)


async def _flood() -> None:
    """10,000 lines while nobody reads the log: the loop goes on all the same. Says its worst lag on
    stdout."""
    worst = 0.0
    for number in range(200):
        began = time.monotonic()
        for _ in range(50):
            _log.warning("line", number=number, text="x" * 1000)
        await asyncio.sleep(0)
        worst = max(worst, time.monotonic() - began)
    print(worst, flush=True)


def late() -> None:
    """The log is read only when the flood is over."""
    asyncio.run(_flood())
    sys.stdin.readline()
    _log.warning("read again")


def stuck() -> None:
    """The log is not read at all."""
    asyncio.run(_flood())
    close_log(patience=0.3)


WHAT: Final[dict[str, Callable[[], None]]] = {
    "deep": deep,
    "kinds": kinds,
    "lines": lines,
    "mistaken": mistaken,
    "late": late,
    "stuck": stuck,
}

if __name__ == "__main__":
    open_log("info", "json" if sys.argv[1] == "json" else "text")
    WHAT[sys.argv[2]]()
    close_log()
    _log.info("the end")
