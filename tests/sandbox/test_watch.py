# ruff: noqa: E501 - lines of code in texts
"""How much processes have: what is counted of memory, and of whom."""

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from antiphon.sandbox import watch as module
from antiphon.sandbox.watch import Usage, spent, usage

_READY = "print('ready', flush=True); import sys; sys.stdin.read()"


def _start(code: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-I", "-c", f"{code}\n{_READY}"]
    started = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def _end(started: subprocess.Popen[str]) -> None:
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    for pipe in (started.stdin, started.stdout):
        if pipe is not None:
            pipe.close()


@pytest.fixture
def alone() -> Iterator[Usage]:
    """What a process that does nothing has."""
    started = _start("")
    yield usage(started.pid)
    _end(started)


@pytest.mark.parametrize(
    ("code", "mib"),
    [
        ("x = bytearray(b'x') * (64 << 20)", 64),
        ("import mmap; x = mmap.mmap(-1, 64 << 20)", 64),
        (
            "import mmap; x = mmap.mmap(-1, 1 << 36, 16418, 1)\nfor i in range(0, 1 << 36, 1 << 21): x[i]",
            128,
        ),
        (
            "x = bytearray(b'x') * (20 << 20)\nimport os, time\nr, w = os.pipe()\nfor _ in range(3):\n  if not os.fork():\n    x = bytearray(b'y') * (20 << 20)\n    os.write(w, b'1')\n    time.sleep(99)\nfor _ in range(3): os.read(r, 1)",
            80,
        ),
    ],
    ids=["its own", "shared and untouched", "page tables", "of children"],
)
def test_memory_is_counted(code: str, mib: int, alone: Usage) -> None:
    started = _start(code)
    try:
        more = usage(started.pid).memory - alone.memory
        assert (mib - 8) << 20 < more < (mib + 64) << 20
    finally:
        _end(started)


def test_shared_memory_counts_once() -> None:
    code = (
        "import mmap, os, time\nx = mmap.mmap(-1, 64 << 20)\n"
        "for _ in range(4): os.fork() or time.sleep(99)"
    )
    started = _start(code)
    try:
        found = usage(started.pid)
        assert found.processes == 5
        others = module._sockets(started.pid)  # of all tests that run
        assert found.memory - others < 200 << 20
        exact = usage(started.pid, is_exact=True)
        assert exact.processes == 5
        assert exact.memory < found.memory
    finally:
        _end(started)


def test_sockets_count() -> None:
    """Those of the whole network namespace: here it is that of the machine."""
    before = usage(os.getpid()).memory
    held = [socket.socketpair() for _ in range(200)]
    more = usage(os.getpid()).memory - before
    for pair in held:
        for one in pair:
            one.close()
    assert more > 100 << 20


def test_what_epoll_watches_is_counted() -> None:
    """The kernel counts it for the user."""
    code = (
        "import os, select\nheld = [os.pipe() for _ in range(50)]\nones = []\nfor _ in range(10):\n"
        "  ones.append(select.epoll())\n  for pair in held: ones[-1].register(pair[0])"
    )
    started = _start(code)
    try:
        assert usage(started.pid).watches == 510
    finally:
        _end(started)


@pytest.mark.parametrize("closed", [None, 0, 1])
def test_terminals_are_counted_once(closed: int | None) -> None:
    """One is there as long as one of its ends is, in whatever process."""
    code = "import os, time\nheld = [os.openpty() for _ in range(20)]\n"
    if closed is not None:
        code += f"for pair in held: os.close(pair[{closed}])\n"
    started = _start(code + "if not os.fork(): time.sleep(99)")
    try:
        assert usage(started.pid).terminals == 20
    finally:
        _end(started)


@pytest.mark.parametrize(
    ("code", "mib"), [("os.pipe()", 12), ("os.open('/dev/null', 0)", 200 / 256)]
)
def test_what_is_open_counts_as_memory(code: str, mib: float, alone: Usage) -> None:
    started = _start(f"import os\nfor _ in range(200): {code}")
    try:
        assert (
            (mib - 0.2) * (1 << 20)
            < usage(started.pid).memory - alone.memory
            < (mib + 8) * (1 << 20)
        )
    finally:
        _end(started)


def test_who_hides_what_is_open_has_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not where nobody can be looked into."""
    seen: dict[int, dict[str, str] | None] = {1: {}, 2: None}
    monkeypatch.setattr(module, "_open_files", seen.get)
    for first, is_first, watches in ((1, False, True), (1, True, False), (2, False, False)):
        files = module._Files(first)
        files.add(2, is_first)
        assert (files.watches > 1 << 30) == watches


def test_time_is_that_of_all_of_them() -> None:
    started = _start(
        "import os, time\nif not os.fork():\n  while time.process_time() < 0.4: pass\n  time.sleep(99)\ntime.sleep(1)"
    )
    try:
        assert 0.3 < spent(started.pid) < 5
        assert abs(usage(started.pid).seconds - spent(started.pid)) < 0.2
    finally:
        _end(started)


def test_what_is_gone_has_nothing() -> None:
    started = _start("")
    _end(started)
    assert usage(started.pid).processes == 0
    assert spent(started.pid) == 0


def test_a_look_takes_little() -> None:
    held = [mmap.mmap(-1, 4096) for _ in range(2_000)]
    before = time.perf_counter()
    usage(os.getpid())
    assert time.perf_counter() - before < 0.25
    for one in held:
        one.close()
