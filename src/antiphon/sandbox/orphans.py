"""What a sandbox leaves that ends in the moment in which it starts (R-113).

bubblewrap dies with the server, and what it starts dies with it. But what it starts has to ask the
kernel for that first, and waits for bubblewrap before: if that is gone by then, it waits for ever.
Until then it is in bubblewrap's process group, which is how it is ended, and how it is known.
"""

import os
import signal
from contextlib import suppress

#: In ``/proc/PID/stat``, behind the name: the state, and the process group.
_STATE, _GROUP = 0, 2


def end(pid: int) -> None:
    """The first process of a sandbox, and what is still in the group that it leads."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def reap(program: str, folder: str) -> int:
    """End what servers that are gone have left: processes of bubblewrap, as `program` starts it for
    the Python in `folder`, whose first one is not there any more. How many there were."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError):
            words = _read(name, "cmdline").split(b"\0")
            if words[0] != program.encode() or folder.encode() not in words:
                continue
            group = _values(name)[_GROUP]
            if group != name and _is_gone(group):
                os.kill(int(name), signal.SIGKILL)
                found += 1
    return found


def _is_gone(pid: str) -> bool:
    """Nobody, or nobody but a name that is still to be crossed out."""
    try:
        return _values(pid)[_STATE] == "Z"
    except OSError:
        return True


def _values(pid: str) -> list[str]:
    return _read(pid, "stat").rpartition(b")")[2].decode().split()


def _read(pid: str, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()
