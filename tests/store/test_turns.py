"""Processes take turns to write (R-78)."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from antiphon.store import sqlite
from antiphon.store.turns import Turns

_HOLD = """
import sys
from pathlib import Path
from antiphon.store.turns import Turns
with Turns(Path(sys.argv[1])).turn():
    print("mine", flush=True)
    sys.stdin.readline()
"""


def _holder(path: Path) -> "subprocess.Popen[str]":
    """A process that has the turn until it is told otherwise."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    return holder


def test_nobody_writes_in_the_turn_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "antiphon.db"
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.2)
    with _holder(path) as holder, closing(Turns(path)) as turns:
        with pytest.raises(sqlite3.OperationalError), turns.turn():
            pytest.fail("two turns at once")
        holder.communicate("\n")
        with turns.turn():
            pass


def test_the_turn_of_the_dead_is_over(tmp_path: Path) -> None:
    path = tmp_path / "antiphon.db"
    with _holder(path) as holder, closing(Turns(path)) as turns:
        holder.kill()
        holder.wait()
        with turns.turn():
            pass


def test_who_waits_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "antiphon.db"
    order: list[str] = []

    def wait() -> None:
        with closing(Turns(path)) as turns, turns.turn():
            order.append("second")

    with closing(Turns(path)) as turns:
        with turns.turn():
            waiting = threading.Thread(target=wait)
            waiting.start()
            waiting.join(0.1)
            order.append("first")
        waiting.join()
    assert order == ["first", "second"]


def test_where_no_lock_can_be_made_writing_goes_on(tmp_path: Path) -> None:
    with closing(Turns(tmp_path / "gone" / "antiphon.db")) as turns, turns.turn():
        assert not (tmp_path / "gone").exists()
