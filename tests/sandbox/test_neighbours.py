"""Two sandboxes at once know nothing of one another; what one leaves behind costs nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from antiphon.sandbox.base import Sandbox, SandboxGone
from antiphon.sandbox.cgroups import Cgroups
from antiphon.sandbox.launcher import Launcher
from tests.pace import pace
from tests.sandbox.bench import printed, started, works
from tests.sandbox.cases import PRELUDE
from tests.sandbox_environment import sandbox_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: What the first one has, and how the second looks for it.
NEIGHBOURS = {
    "files": (
        "for p in ('/mnt/data/a', '/tmp/a', '/dev/shm/a', '/run/a'): write(p, 'of the neighbour')",
        "for p in ('/mnt/data/a', '/tmp/a', '/dev/shm/a', '/run/a'): attempt(read, p)",
    ),
    "processes": (
        "child = subprocess.Popen(['sleep', '4242'])",
        "attempt(find, b'4242', [f'/proc/{p}/cmdline' for p in range(2, 40_000)])",
    ),
    "abstract sockets": (
        "one = socket.socket(socket.AF_UNIX); one.bind(chr(0) + 'neighbour'); one.listen()",
        "attempt(socket.socket(socket.AF_UNIX).connect, chr(0) + 'neighbour')",
    ),
    "ports": (
        "two = socket.create_server(('127.0.0.1', 4567))",
        "attempt(socket.create_connection, ('127.0.0.1', 4567), 2)",
    ),
    "shared memory": (
        "four = open('/dev/shm/neighbour', 'w')",
        "attempt(read, '/dev/shm/neighbour')",
    ),
    "variables": ("of_the_neighbour = 5", "attempt(lambda: of_the_neighbour)"),
    "use of shared files": ("import xml.dom.minidom", "attempt(call, 294, 0)\nattempt(call, 253)"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    made = Launcher(sandbox_environment())
    yield made
    await made.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(launcher: Launcher) -> AsyncIterator[tuple[Sandbox, Sandbox]]:
    async with started(launcher) as one, started(launcher) as other:
        yield one, other


@pytest.mark.parametrize("name", NEIGHBOURS)
async def test_neighbours_are_strangers(name: str, pair: tuple[Sandbox, Sandbox]) -> None:
    has, looks = NEIGHBOURS[name]
    first = await pair[0].run(PRELUDE + has, 10)
    second = await pair[1].run(PRELUDE + looks, 20)
    assert first.ending == second.ending == "ok", printed(first) + printed(second)
    assert "no:" in printed(second)
    assert "YES" not in printed(second)


async def test_a_bomb_leaves_room_for_others(pair: tuple[Sandbox, Sandbox]) -> None:
    """R-109: the limit is one of each sandbox, though all of them may have one user."""
    bomb = "\ntry:\n    while True:\n        if not os.fork(): time.sleep(99)\nexcept OSError: pass"
    assert (await pair[0].run(PRELUDE + bomb, 10)).ending == "ok"
    forks = "all_ = [os.fork() or os._exit(0) for _ in range(30)]\nprint(len(all_))"
    ran = await pair[1].run(PRELUDE + forks, 10)
    assert printed(ran) == "30\n"


async def test_what_is_left_behind_is_stopped(launcher: Launcher) -> None:
    code = """
if not os.fork():
    os.setsid()
    if not os.fork():
        while True: pass
    os._exit(0)
count = 0
def go():
    global count
    while True: count += 1
threading.Thread(target=go, daemon=True).start()
time.sleep(0.2)
"""
    async with started(launcher) as sandbox:
        assert (await sandbox.run(PRELUDE + code, 10)).ending == "ok"
        first = int(printed(await sandbox.run("print(count)", 10)))
        await asyncio.sleep(2)
        again = int(printed(await sandbox.run("print(count)", 10)))
        assert 0 <= again - first < 5_000_000
        assert sandbox.is_alive


async def test_who_wakes_itself_up_is_ended(launcher: Launcher) -> None:
    code = """
signal.signal(signal.SIGCONT, lambda *_: None)
event = (ctypes.c_byte * 64)()
ctypes.c_int.from_buffer(event, 8).value = signal.SIGCONT
timer = ctypes.c_void_p()
libc.timer_create(1, ctypes.byref(event), ctypes.byref(timer))
times = (ctypes.c_long * 4)(0, 50_000_000, 0, 50_000_000)
libc.timer_settime(timer, 0, ctypes.byref(times), None)
def go():
    while True: pass
threading.Thread(target=go, daemon=True).start()
"""
    async with started(launcher) as sandbox:
        assert (await sandbox.run(PRELUDE + code, 10)).ending == "ok"
        for _ in range(60):
            await asyncio.sleep(0.1)
            if not sandbox.is_alive:
                break
        assert not sandbox.is_alive
        with pytest.raises(SandboxGone):
            await works(sandbox)


async def test_nobody_takes_the_processors_by_sessions(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cgroup the kernel may share time by sessions."""
    monkeypatch.setattr(launcher, "_cgroups", Cgroups(Path("/nowhere"), Path("/nowhere")))
    code = """
for _ in range(40):
    if not os.fork():
        os.setsid()
        while True: pass
time.sleep(200)
"""
    async with started(launcher) as sandbox:
        with pytest.raises(SandboxGone):
            await asyncio.wait_for(sandbox.run(PRELUDE + code, 200), 10 * pace())
    async with started(launcher) as sandbox:
        ran = await sandbox.run(
            "for _ in range(4): get_ipython().system('sleep 0.2; echo yes')", 20
        )
        assert printed(ran).split() == ["yes"] * 4


async def test_a_run_that_is_left_ends(launcher: Launcher) -> None:
    async with started(launcher) as sandbox:
        run = asyncio.create_task(sandbox.run("x = 1\nwhile True: pass", 60))
        await asyncio.sleep(0.5)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        ran = await asyncio.wait_for(sandbox.run("print(x)", 10), 5)
        assert printed(ran) == "1\n"
