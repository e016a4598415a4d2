"""A lock file for each owner, beside the database: the kernel lets go of it when the process dies.

Rules
1. A file has its name only while it is locked or its owner is dead: it is locked under another name
   and then renamed, and who removes it removes the name first. So a file that can be locked means
   that its owner is gone; no file means nothing.
2. flock needs one kernel for all, and so does the shared memory of SQLite's log: whoever can share
   the database (containers on one volume too) can believe the locks.
3. A child must not keep a lock of its parent alive: exec closes the files (PEP 446), fork too.
4. Where there are no locks, or no room for a file, nobody is known to be dead: the beats tell.
"""

import os
import sys
import threading
import urllib.parse
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

if sys.platform != "win32":
    import fcntl

State: TypeAlias = Literal["alive", "dead", "unknown"]

#: The locks that this process holds, for its children to close.
_held: set[int] = set()
_guard = threading.Lock()


class OwnerLocks:
    """The locks of those who work on the database at `path`; any thread may call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: dict[str, int] = {}

    def holds(self, owner: str) -> bool:
        """Whether there is nothing more to do for `hold`."""
        return owner in self._own

    def hold(self, owner: str) -> None:
        """Lock the file of `owner` until `forget` or the end of this process; or do without
        (rule 4)."""
        with _guard:
            if owner in self._own:
                return
            name = self._name(owner)
            unnamed = name.with_name(f"{name.name}.{os.getpid()}")
            try:
                file = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
            except OSError:
                return
            if _lock(file) and _rename(unnamed, name):
                self._own[owner] = file
                _held.add(file)
                return
            os.close(file)
            with suppress(OSError):
                unnamed.unlink()

    def state(self, owner: str) -> State:
        """What its lock says about `owner`."""
        try:
            file = os.open(self._name(owner), os.O_RDWR)
        except OSError:
            return "unknown"
        try:
            return "dead" if _lock(file) else "alive"
        finally:
            os.close(file)

    def forget(self, owner: str) -> None:
        """Remove the file of an owner that has gone."""
        with _guard:
            with suppress(OSError):
                self._name(owner).unlink()
            self._let_go(owner)

    def close(self) -> None:
        """Let go of all; the files stay, as after a kill."""
        with _guard:
            for owner in list(self._own):
                self._let_go(owner)

    def _let_go(self, owner: str) -> None:
        file = self._own.pop(owner, None)
        if file is not None:
            _held.discard(file)
            os.close(file)

    def _name(self, owner: str) -> Path:
        safe = urllib.parse.quote(owner, safe="")
        return self._path.with_name(f"{self._path.name}-owner-{safe}")


def _lock(file: int) -> bool:
    """Lock an open file, if nobody else has."""
    if sys.platform == "win32":
        return False  # and so no file ever gets its name
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _rename(old: Path, new: Path) -> bool:
    try:
        old.rename(new)
    except OSError:
        return False
    return True


def _close_in_child() -> None:
    """A lock belongs to the open file, which parent and child share: closing here unlocks nothing
    there."""
    for file in _held:
        os.close(file)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_in_child)
