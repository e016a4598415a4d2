"""System calls that code in a sandbox may not make: a filter for Linux's seccomp (R-105).

Rules
1. Refused is what changes namespaces, mounts or the machine, looks into other processes, or is of
   no use to Python and has a history of holes; such calls fail with EPERM. All else passes:
   namespaces and limits are the walls, this only makes the kernel behind them smaller.
2. `clone3` is unknown here (ENOSYS), since a filter cannot see its flags: C libraries then use
   `clone`, whose flags are looked at.
3. Sockets are those that a kernel needs to start: unix, TCP and UDP over IPv4 (it talks to itself;
   there is nobody else in its namespace), and netlink, by which ZeroMQ asks for addresses.
4. Calls by another convention than that of the machine (32 bits, x32) end the process.
"""

import platform
import struct
from dataclasses import dataclass
from typing import Final

_LOAD: Final = 0x20
_EQUALS: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_FAIL: Final = 0x00050000
_EPERM: Final = 1
_ENOSYS: Final = 38
_EAFNOSUPPORT: Final = 97
#: Offsets in what a filter sees: number of the call, architecture, first argument (low half).
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_FIRST: Final = 16
_THIRD: Final = 32
#: The flags of new namespaces.
_NEW_SPACES: Final = 0x7E020000
#: Flags of a thread, and of one that has the files of the others: no thread has files of its own,
#: which nobody would see (`watch.py`).
_THREAD: Final = 0x10000
_SAME_FILES: Final = 0x400
#: The same of a call that closes files; its flags are the third argument.
_CLOSE_RANGE: Final = 436
_OWN_FILES: Final = 2
#: From which number on calls are those of x32.
_X32: Final = 0x40000000
#: Families of sockets, and the protocols that each may have; none: any.
_FAMILIES: Final[dict[int, tuple[int, ...]]] = {1: (), 2: (0, 6, 17), 16: (0,)}
#: The same everywhere.
_COMMON: Final = """
    io_uring_setup 425, io_uring_enter 426, io_uring_register 427, open_tree 428,
    move_mount 429, fsopen 430, fsconfig 431, fsmount 432, fspick 433,
    pidfd_getfd 438, process_madvise 440, mount_setattr 442, quotactl_fd 443,
    memfd_secret 447, open_tree_attr 467
"""


@dataclass(frozen=True, slots=True)
class _Machine:
    """The numbers of a sort of machine."""

    audit: int
    clone: int
    clone3: int
    socket: int
    socketpair: int
    #: Names and numbers.
    refused: str
    has_x32: bool = False


_X86_64: Final = _Machine(
    audit=0xC000003E,
    clone=56,
    clone3=435,
    socket=41,
    socketpair=53,
    refused="""
        shmget 29, semget 64, msgget 68, mq_open 240, inotify_init 253, migrate_pages 256,
        inotify_init1 294, fanotify_init 300, memfd_create 319,
        ptrace 101, syslog 103, uselib 134, ustat 136, sysfs 139, vhangup 153,
        modify_ldt 154, pivot_root 155, adjtimex 159, chroot 161, acct 163,
        settimeofday 164, mount 165, umount2 166, swapon 167, swapoff 168, reboot 169,
        sethostname 170, setdomainname 171, iopl 172, ioperm 173, init_module 175,
        delete_module 176, quotactl 179, lookup_dcookie 212, clock_settime 227,
        kexec_load 246, add_key 248, request_key 249, keyctl 250, unshare 272,
        move_pages 279, perf_event_open 298, name_to_handle_at 303,
        open_by_handle_at 304, clock_adjtime 305, setns 308, process_vm_readv 310,
        process_vm_writev 311, kcmp 312, finit_module 313, kexec_file_load 320, bpf 321,
        userfaultfd 323
    """,
    has_x32=True,
)
_AARCH64: Final = _Machine(
    audit=0xC00000B7,
    clone=220,
    clone3=435,
    socket=198,
    socketpair=199,
    refused="""
        inotify_init1 26, mq_open 180, msgget 186, semget 190, shmget 194,
        migrate_pages 238, fanotify_init 262, memfd_create 279,
        lookup_dcookie 18, umount2 39, mount 40, pivot_root 41, chroot 51, vhangup 58,
        quotactl 60, acct 89, unshare 97, kexec_load 104, init_module 105,
        delete_module 106, clock_settime 112, syslog 116, ptrace 117, reboot 142,
        sethostname 161, setdomainname 162, settimeofday 170, adjtimex 171, add_key 217,
        request_key 218, keyctl 219, swapon 224, swapoff 225, move_pages 239,
        perf_event_open 241, name_to_handle_at 264, open_by_handle_at 265,
        clock_adjtime 266, setns 268, process_vm_readv 270, process_vm_writev 271,
        kcmp 272, finit_module 273, bpf 280, userfaultfd 282, kexec_file_load 294
    """,
)
_MACHINES: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}


def program(machine: str = "") -> bytes | None:
    """The filter, as an array of ``struct sock_filter``; None: nobody knows this machine's
    numbers. `machine` is as `platform.machine` says it, and this one by default."""
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    sockets = _sockets()
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUALS, known.audit, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
    ]
    if known.has_x32:
        lines += [_line(_AT_LEAST, _X32, 0, 1), _line(_RETURN, _KILL)]
    for number in sorted({*_numbers(known.refused), *_numbers(_COMMON)}):
        lines += [_line(_EQUALS, number, 0, 1), _line(_RETURN, _FAIL | _EPERM)]
    lines += [
        _line(_EQUALS, known.clone3, 0, 1),
        _line(_RETURN, _FAIL | _ENOSYS),
        # clone: its flags are the first argument
        _line(_EQUALS, known.clone, 0, 6),
        _line(_LOAD, _FIRST),
        _line(_ANY_BIT, _NEW_SPACES, 2, 0),
        _line(_ANY_BIT, _THREAD, 0, 2),
        _line(_ANY_BIT, _SAME_FILES, 1, 0),
        _line(_RETURN, _FAIL | _EPERM),
        _line(_RETURN, _ALLOW),
        _line(_EQUALS, _CLOSE_RANGE, 0, 4),
        _line(_LOAD, _THIRD),
        _line(_ANY_BIT, _OWN_FILES, 0, 1),
        _line(_RETURN, _FAIL | _EPERM),
        _line(_RETURN, _ALLOW),
        _line(_EQUALS, known.socket, 1, 0),
        _line(_EQUALS, known.socketpair, 0, len(sockets)),
        *sockets,
        _line(_RETURN, _ALLOW),
    ]
    return b"".join(lines)


def _sockets() -> list[bytes]:
    """Up to a verdict about a new socket."""
    lines = []
    for family, protocols in _FAMILIES.items():
        verdict = [_line(_RETURN, _ALLOW)]
        if protocols:
            verdict = [
                _line(_LOAD, _THIRD),
                *(_line(_EQUALS, one, len(protocols) - at, 0) for at, one in enumerate(protocols)),
                _line(_RETURN, _FAIL | _EAFNOSUPPORT),
                _line(_RETURN, _ALLOW),
            ]
        lines += [_line(_LOAD, _FIRST), _line(_EQUALS, family, 0, len(verdict)), *verdict]
    return [*lines, _line(_RETURN, _FAIL | _EAFNOSUPPORT)]


def _numbers(table: str) -> list[int]:
    return [int(entry.split()[1]) for entry in table.split(",")]


def _line(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """One instruction; `if_so` and `if_not`: lines to pass over."""
    return struct.pack("=HBBI", code, if_so, if_not, value)
