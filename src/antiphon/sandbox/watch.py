"""How much memory and time the processes of a sandbox have, by ``/proc`` (Linux).

Rules
1. Processes of a sandbox are the descendants of its first one: an orphan in there becomes a child
   of the first process of its namespace.
2. What goes while somebody looks counts as nothing.
3. Memory is also what is in no process: page tables, shared mappings that nobody touches at the
   moment, buffers of sockets. Of those that have a size here counts the most that they can be.
   Who cannot be looked into counts with all its addresses: nobody closes up in good faith.
4. Files in memory are not counted here: their folders have a size (`bubblewrap.py`).
5. What epoll watches for a process is counted by the kernel for its user, whose other programs can
   have no more when there are too many: a server of the same user would end. Pseudo-terminals are
   counted for the whole machine, whose other containers would have none.
6. Threads have the files of their process (`seccomp.py`). Where nothing shows them, which is so for
   a root that may not look into others (``CAP_SYS_PTRACE``), they count as none.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICK: Final = os.sysconf("SC_CLK_TCK")
#: Places in ``/proc/PID/stat`` behind the name: session, user and system time, bytes of addresses,
#: pages in memory.
_SESSION: Final = 3
_USER, _SYSTEM, _ADDRESSES, _PAGES = 11, 12, 20, 21
_TABLES: Final = re.compile(rb"VmPTE:\s*(\d+) kB")
#: A shared mapping of no file, as ``/proc/PID/maps`` has it: from, to, number.
_SHARED: Final = re.compile(
    rb"^(\w+)-(\w+) ..[^ ]s \w+ [\w:]+ (\d+) +/dev/zero \(deleted\)$", re.MULTILINE
)
#: What such a line has in it; bytes of mappings that are looked at, which are many thousands.
_NO_FILE: Final = b"/dev/zero (deleted)"
_MOST_MAPS: Final = 1 << 20
#: How a process that is the first one of a namespace says so: `inside.py`, which is closed up.
_FIRST: Final = re.compile(rb"^NSpid:.*\t1$", re.MULTILINE)
_SOCKETS: Final = re.compile(rb"sockets: used (\d+)\s+TCP: inuse (\d+)")
#: Bytes that sockets can keep for their readers: one, and one of TCP.
_SOCKET: Final = 416 << 10
_TCP: Final = 4 << 20
#: Bytes that the kernel may keep for a pipe, and for what else is open.
_PIPE: Final = 64 << 10
_OPEN: Final = 4 << 10
_EPOLL: Final = "anon_inode:[eventpoll]"
#: What each thing that epoll watches has in ``/proc/PID/fdinfo``.
_WATCHED: Final = b"tfd:"
#: How places of pseudo-terminals begin, and which one a master has in ``/proc/PID/fdinfo``.
_TERMINALS: Final = "/dev/pt"
_MASTER: Final = re.compile(rb"tty-index:\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of memory, seconds of processors so far, processes and their sessions, what epoll
    watches for them, and their pseudo-terminals."""

    memory: int = 0
    seconds: float = 0.0
    processes: int = 0
    sessions: int = 0
    watches: int = 0
    terminals: int = 0


def usage(pid: int, is_exact: bool = False) -> Usage:
    """Of a process and its descendants. `is_exact`: memory that several have counts once; that
    takes longer."""
    memory = processes = ticks = 0
    shared: dict[bytes, int] = {}
    sessions = set()
    family = list(_family(pid))
    files = _Files(pid)
    for one in family:
        values = _values(one)
        if not values:
            continue
        status, maps = _read(one, "status"), _read(one, "maps")
        own = (is_exact and _part(one)) or values[_PAGES] * _PAGE
        if not 0 < len(maps) < _MOST_MAPS and not _FIRST.search(status):
            own = max(own, values[_ADDRESSES])
        files.add(one, _FIRST.search(status) is not None)
        memory += own + _number(_TABLES, status) * 1024
        ticks += values[_USER] + values[_SYSTEM]
        processes += 1
        sessions.add(values[_SESSION])
        for start, end, number in _SHARED.findall(maps) if _NO_FILE in maps else ():
            shared[number] = max(shared.get(number, 0), int(end, 16) - int(start, 16))
    memory += sum(shared.values()) + _sockets(family[-1]) + files.memory
    held = files.watches, len(files.terminals)
    return Usage(memory, ticks / _TICK, processes, len(sessions), *held)


class _Files:
    """What is open in processes. `first` is one that hides nothing: if it is not seen, none is."""

    def __init__(self, first: int) -> None:
        self._are_seen = _open_files(first) is not None
        self._pipes: set[str] = set()
        self._others = 0
        #: See rule 5; of terminals the numbers, which both ends have.
        self.watches = 0
        self.terminals: set[bytes] = set()

    @property
    def memory(self) -> int:
        """Bytes that the kernel may keep for them."""
        return len(self._pipes) * _PIPE + self._others * _OPEN

    def add(self, pid: int, is_first: bool) -> None:
        """Those of a process. Who hides them has all there can be, but `inside.py`."""
        found = _open_files(pid)
        if found is None:
            self.watches += sys.maxsize if self._are_seen and not is_first else 0
            return
        for number, place in found.items():
            if place.startswith("pipe:"):
                self._pipes.add(place)
            else:
                self._others += 1
            if place == _EPOLL:
                self.watches += 1 + _read(pid, f"fdinfo/{number}").count(_WATCHED)
            elif place.startswith(_TERMINALS):
                master = _MASTER.search(_read(pid, f"fdinfo/{number}"))
                slave = place.rpartition("/")[2].removesuffix(" (deleted)")
                self.terminals.add(master[1] if master else slave.encode())


def _open_files(pid: int) -> dict[str, str] | None:
    """Descriptors, and what each is; None: nobody may look."""
    found = {}
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
    except PermissionError:
        return None
    except OSError:
        return {}
    return found


def spent(pid: int) -> float:
    """Seconds of processors alone, which takes less time to find out."""
    values = filter(None, map(_values, _family(pid)))
    return sum(one[_USER] + one[_SYSTEM] for one in values) / _TICK


def _values(pid: int) -> list[int]:
    """Those of its ``stat`` behind name and state, which is a letter; none: it is gone."""
    values = _read(pid, "stat").rpartition(b")")[2].split()
    return [0, *map(int, values[1:])] if values else []


def _part(pid: int) -> int:
    """Its part of the memory that it has: what three have counts as a third."""
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(b"Pss:")) * 1024


def _sockets(pid: int) -> int:
    """Bytes that those of the namespace of a process can keep."""
    found = _SOCKETS.search(_read(pid, "net/sockstat"))
    return int(found[1]) * _SOCKET + int(found[2]) * _TCP if found else 0


def _number(pattern: re.Pattern[bytes], text: bytes) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _read(pid: int, name: str) -> bytes:
    """Nothing when it is gone, or may not be looked into."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(_MOST_MAPS)
    except OSError:
        return b""


def _family(pid: int) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                waiting += map(int, _read(one, f"task/{task}/children").split())
