"""What bubblewrap has started and what does not die with it yet (R-113)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from antiphon.sandbox.base import Limits
from antiphon.sandbox.box import MOST_LINE, Box
from antiphon.sandbox.orphans import end, reap
from tests.api.raw import eventually

#: It starts another program as `argv[1:]` says, in its own group, and says which it is.
STARTER = """
import os, sys, time
child = os.fork()
if not child:
    os.execv(sys.executable, [sys.argv[1], "-c", "import time; time.sleep(60)", *sys.argv[2:]])
print(child, flush=True)
time.sleep(60)
"""


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def argv(pid: int) -> list[str]:
    with suppress(OSError), open(f"/proc/{pid}/cmdline") as words:
        return words.read().split("\0")
    return []


class Pair:
    """What starts, and what was started."""

    def __init__(self, *words: str) -> None:
        self.leader = subprocess.Popen(
            [sys.executable, "-c", STARTER, *words], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.leader.stdout is not None
        self.child = int(self.leader.stdout.readline())
        assert eventually(lambda: argv(self.child)[:1] == [words[0]], 5)

    def kill_leader(self, *, is_reaped: bool = True) -> None:
        self.leader.kill()
        if is_reaped:
            self.leader.wait()
        else:
            assert eventually(lambda: not is_there(self.leader.pid), 5)

    def close(self) -> None:
        end(self.leader.pid)
        with suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        self.leader.wait()
        assert self.leader.stdout is not None
        self.leader.stdout.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made: list[Pair] = []
    yield made
    for pair in made:
        pair.close()


@pytest.mark.parametrize("is_reaped", [True, False])
def test_what_a_dead_server_left_is_ended(pairs: list[Pair], *, is_reaped: bool) -> None:
    """Nothing else is: that of a server that lives, of another folder, of another program."""
    words = ("/opt/bwrap", "--ro-bind", "/data/sandbox", "/opt/python")
    pairs += [Pair(*words), Pair(*words), Pair(words[0], "/data/other"), Pair("/bin/x", *words[1:])]
    for pair in (pairs[0], *pairs[2:]):
        pair.kill_leader(is_reaped=is_reaped)
    assert reap("/opt/bwrap", "/data/sandbox") == 1
    assert eventually(lambda: not is_there(pairs[0].child), 5)
    assert all(is_there(pair.child) for pair in pairs[1:])
    assert reap("/opt/bwrap", "/data/sandbox") == 0


async def test_closing_ends_all_that_is_in_its_group() -> None:
    """Else it waits for what still has its pipe."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, "bwrap"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MOST_LINE,
        start_new_session=True,
    )
    assert program.stdout is not None
    child = int(await program.stdout.readline())
    async with asyncio.timeout(5):
        await Box(program, Limits()).close()
    assert eventually(lambda: not is_there(child), 5)
