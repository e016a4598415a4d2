"""The abuse corpus against real sandboxes (`abuses.py`, R-108)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from antiphon.sandbox import box as box_module
from antiphon.sandbox.base import Ran, Sandbox, SandboxGone
from antiphon.sandbox.launcher import Launcher
from tests.sandbox.abuses import ABUSES, Abuse
from tests.sandbox.bench import Traces, descendants, lateness, p99, printed, started, works
from tests.sandbox_environment import sandbox_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")
#: Seconds that a run may take longer than it may: an interrupt, another session.
_AFTER = 12.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    patch = pytest.MonkeyPatch()
    patch.setattr(box_module, "_GRACE", 0.7)
    made = Launcher(sandbox_environment())
    before = Traces.here()
    yield made
    await made.aclose()
    patch.undo()
    assert Traces.here() <= before


def _patience(abuse: Abuse) -> float:
    """What ends by itself has time for it on a busy machine, too."""
    return abuse.seconds if "timeout" in abuse.endings else max(20.0, abuse.seconds)


async def _run(sandbox: Sandbox, abuse: Abuse) -> Ran | None:
    """None: the sandbox has ended."""
    try:
        return await sandbox.run(abuse.text, _patience(abuse))
    except SandboxGone:
        return None


@pytest.mark.parametrize("name", ABUSES)
async def test_nothing_is_taken_for_long(name: str, launcher: Launcher) -> None:
    abuse, before = ABUSES[name], set(descendants(os.getpid()))  # of other tests
    async with started(launcher) as sandbox:
        await _abused(name, abuse, sandbox)
    assert set(descendants(os.getpid())) <= before


async def _abused(name: str, abuse: Abuse, sandbox: Sandbox) -> None:
    async with lateness() as calm:
        await works(sandbox)
        await asyncio.sleep(0.2)
    before, began = Traces.here(), time.monotonic()
    async with lateness() as late:
        ran = await _run(sandbox, abuse)
    took = time.monotonic() - began
    text = "" if ran is None else printed(ran)
    ending = "gone" if ran is None else ran.ending
    print(f"{name}: {ending} {took:.1f} s, {p99(late) * 1000:.1f} ms, {text[:80]!r}")
    assert ending in abuse.endings, text[-500:]
    assert abuse.says in text
    assert "YES" not in text
    assert ran is None or ran.cut == abuse.cut or ending != "ok" or abuse.cut is None
    assert len(text) <= (1 << 20)
    assert took < _patience(abuse) + _AFTER
    assert p99(late) < max(0.15, 2 * p99(calm))
    if ran is not None:
        assert sandbox.is_alive
        heard = [(await sandbox.run("print('heard')", 20)).ending for _ in range(4)]
        assert {"ok", "error"} & set(heard)  # what was full may end, and is there again
        assert Traces.here().tasks <= before.tasks
