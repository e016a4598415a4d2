"""A cgroup for each sandbox, where some may be made: limits that the kernel keeps (R-109).

Rules
1. Groups are made only where it is for this process to divide: in v1 below the root that it sees,
   when it is in that; in v2 beside its own group, when the one above is left to it (``Delegate=``
   and ``DelegateSubgroup=`` of systemd). What somebody else looks after stays as it is.
2. A limit that cannot be set here is none; who asks is told which ones there are.
3. A group has the number of its server in its name. It is removed after its sandbox, and one whose
   server has died before the next group is made.
"""

import itertools
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_NAME: Final = "antiphon"
#: What there can be, and the files of each: memory in bytes, processes, a share of the processors
#: that is a quarter of what others have.
_FIRST: Final[Mapping[str, Mapping[str, str]]] = {
    "memory": {"memory.limit_in_bytes": "{memory}"},
    "pids": {"pids.max": "{processes}"},
    "cpu": {"cpu.shares": "256"},
}
_SECOND: Final[Mapping[str, Mapping[str, str]]] = {
    "memory": {"memory.max": "{memory}", "memory.swap.max": "0"},
    "pids": {"pids.max": "{processes}"},
    "cpu": {"cpu.weight": "25"},
}
_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Group:
    """The folders of one sandbox: one, or in v1 one for each limit."""

    folders: tuple[Path, ...] = ()

    @property
    def doors(self) -> tuple[str, ...]:
        """Files: a process that writes its number into all of them is in the group."""
        return tuple(str(folder / "cgroup.procs") for folder in self.folders)

    def remove(self) -> bool:
        """Whether it is gone: a group with processes stays."""
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for folder in self.folders)


class Cgroups:
    """Makes groups. `root` and `own` are where the kernel shows them."""

    def __init__(self, root: Path = _ROOT, own: Path = _OWN) -> None:
        self._places: dict[str, Path] = {}
        self._files = _FIRST
        for line in _lines(own):
            _, controllers, path = line.split(":", 2)
            if not controllers and (place := _above(root, path)) is not None:
                shared = {name: place for name in _SECOND if _is_on(place, name)}
                if shared:
                    self._places, self._files = shared, _SECOND
                    return
            for name in controllers.split(","):
                if name in _FIRST and path == "/" and os.access(root / name, os.W_OK):
                    self._places[name] = root / name

    @property
    def limits(self) -> frozenset[str]:
        """Those that there are: ``memory``, ``pids``, ``cpu``."""
        return frozenset(self._places)

    def make(self, memory: int, processes: int) -> Group:
        """A new group for one sandbox, empty without any limits. Raises OSError."""
        self.reap()
        name = f"{_NAME}-{os.getpid()}-{next(_NUMBERS)}"
        group = Group(tuple(sorted({place / name for place in self._places.values()})))
        try:
            for folder in group.folders:
                folder.mkdir()
            for limit, place in self._places.items():
                for file, value in self._files[limit].items():
                    with suppress(FileNotFoundError):  # there is no swap to limit
                        _write(
                            place / name / file, value.format(memory=memory, processes=processes)
                        )
        except OSError:
            group.remove()
            raise
        return group

    def reap(self) -> None:
        """Remove groups of servers that have died."""
        for place in set(self._places.values()):
            for folder in place.glob(f"{_NAME}-*-*"):
                server = folder.name.split("-")[1]
                if not Path("/proc", server).exists():
                    with suppress(OSError):
                        folder.rmdir()


def _write(file: Path, words: str) -> None:
    """To one that is there."""
    with file.open("r+") as opened:
        opened.write(words)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _above(root: Path, path: str) -> Path | None:
    """Where groups of v2 may be made, when its files are there."""
    for base in (root, root / "unified"):
        own = base / path.lstrip("/")
        if (own / "cgroup.controllers").exists():
            is_root = path == "/" and not (own / "cgroup.type").exists()
            above = own if is_root else own.parent
            is_ours = is_root or (path != "/" and os.access(above / "cgroup.procs", os.W_OK))
            return above if is_ours and os.access(above, os.W_OK) else None
    return None


def _is_on(place: Path, limit: str) -> bool:
    """Whether groups below have it; it is turned on if it can be."""
    control = place / "cgroup.subtree_control"
    try:
        if limit not in control.read_text().split():
            _write(control, f"+{limit}")
        return limit in control.read_text().split()
    except OSError:
        return False
