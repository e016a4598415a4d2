"""Starting sandboxes: what is tried, what is said when none can be started, what stays after."""

import asyncio
import os
from pathlib import Path
from shutil import which

import pytest

from antiphon.sandbox import bubblewrap, seccomp
from antiphon.sandbox import launcher as module
from antiphon.sandbox.base import SandboxGone
from antiphon.sandbox.box import Box
from antiphon.sandbox.cgroups import Group
from antiphon.sandbox.environment import NoEnvironment, environment
from antiphon.sandbox.launcher import Launcher
from tests.sandbox.bench import LIMITS, Traces, descendants, printed, works
from tests.sandbox_environment import sandbox_environment


def _program(folder: Path, code: str) -> str:
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o755)
    folder.chmod(0o755)
    return str(program)


async def _reason(monkeypatch: pytest.MonkeyPatch, program: str | None) -> str | None:
    monkeypatch.setattr(bubblewrap, "program", lambda: program)
    launcher = Launcher(sandbox_environment())
    try:
        reason = await launcher.unusable()
        assert (await launcher.state()).reason == reason
        if reason is not None:
            with pytest.raises(SandboxGone):
                await launcher.start(LIMITS)
        return reason
    finally:
        await launcher.aclose()


async def test_without_an_environment_there_is_none(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    assert "antiphon sandbox install" in (await launcher.unusable() or "")
    with pytest.raises(NoEnvironment):
        environment(tmp_path)
    state = await launcher.state()
    assert not state.is_usable
    assert state.facts == ()
    await launcher.aclose()


async def test_without_bubblewrap_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "bubblewrap is missing" in (await _reason(monkeypatch, None) or "")


async def test_why_it_does_not_work_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path = _open(tmp_path)
    program = _program(tmp_path, "echo no namespaces here >&2; exit 1")
    assert await _reason(monkeypatch, program) == "no namespaces here"
    assert await _reason(monkeypatch, _program(tmp_path, "exit 1")) == "it does not start"
    assert await _reason(monkeypatch, str(tmp_path / "none"))
    monkeypatch.setattr(module, "_TRY", 0.2)
    slow = _program(tmp_path, "exec sleep 60")
    assert await _reason(monkeypatch, slow) == "a sandbox takes too long to start"


def _open(folder: Path) -> Path:
    """One that everybody may enter."""
    for one in (folder, *folder.parents[:-2]):
        if one.owner() == Path.home().owner():
            one.chmod(0o755)
    return folder


async def test_without_proc_it_still_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = bubblewrap.program()
    program = _program(
        _open(tmp_path),
        f'case " $* " in *" --proc "*|*" --disable-userns "*) echo no proc >&2; exit 1;; esac; '
        f'exec {real} "$@"',
    )
    monkeypatch.setattr(bubblewrap, "program", lambda: program)
    launcher = Launcher(sandbox_environment())
    assert await launcher.unusable() is None
    state = await launcher.state()
    assert [fact.holds for fact in state.facts if fact.what == "own /proc"] == [False]
    sandbox = await launcher.start(LIMITS)
    await works(sandbox)
    ran = await sandbox.run("import os; print(os.path.exists('/proc/self'))", 10)
    assert printed(ran) == "False\n"
    nested = "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"
    assert printed(await sandbox.run(nested, 10)) == "-1\n", "the filter does it"
    await launcher.aclose()
    monkeypatch.setattr(seccomp, "program", lambda: None)
    assert await _reason(monkeypatch, program) == "no proc"


async def test_what_did_not_work_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody has installed it meanwhile: no restart is needed."""
    tmp_path = _open(tmp_path)
    launcher = Launcher(tmp_path / "sandbox")
    assert await launcher.unusable()
    (tmp_path / "sandbox").symlink_to(sandbox_environment())
    assert await launcher.unusable(), "not at once"
    monkeypatch.setattr(module, "_ANEW", 0)
    assert await launcher.unusable() is None
    await launcher.aclose()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs it")
async def test_root_needs_a_way_to_be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "which", lambda name: None if name == "setpriv" else which(name))
    reason = await _reason(monkeypatch, bubblewrap.program())
    assert reason == "as root it needs the program setpriv"


async def test_the_state_says_what_holds() -> None:
    launcher = Launcher(sandbox_environment())
    state = await launcher.state()
    assert state.is_usable
    assert state.walls == "bubblewrap"
    assert all(fact.holds or fact.note for fact in state.facts)
    await launcher.aclose()


async def test_nothing_stays_of_what_is_closed_or_cancelled() -> None:
    launcher = Launcher(sandbox_environment())
    before, others = Traces.here(), set(descendants(os.getpid()))
    starts = [asyncio.create_task(launcher.start(LIMITS)) for _ in range(4)]
    await asyncio.sleep(0.3)
    starts[0].cancel()
    starts[3].cancel()
    await asyncio.gather(*starts, return_exceptions=True)
    await launcher.aclose()
    await asyncio.sleep(0.1)
    assert set(descendants(os.getpid())) <= others
    assert Traces.here() <= before


async def test_those_that_wait_to_start_see_the_end() -> None:
    launcher, others = Launcher(sandbox_environment()), set(descendants(os.getpid()))
    starts = [asyncio.create_task(launcher.start(LIMITS)) for _ in range(4)]
    await launcher.unusable()
    await asyncio.sleep(0.05)
    await launcher.aclose()
    ends = await asyncio.gather(*starts, return_exceptions=True)
    assert {type(end) for end in ends} == {SandboxGone}
    assert set(descendants(os.getpid())) <= others
    assert not launcher.pids
    with pytest.raises(SandboxGone, match="the server stops"):
        await launcher.start(LIMITS)


async def test_a_start_that_is_cancelled_leaves_no_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launcher = Launcher(sandbox_environment())
    walls = await launcher._walls()
    assert not isinstance(walls, str)
    group = Group((tmp_path / "group",))
    (tmp_path / "group").mkdir()
    monkeypatch.setattr(launcher._cgroups, "make", lambda *_: group)

    async def fail(*_: object, **__: object) -> None:
        await asyncio.sleep(0.1)
        raise OSError

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fail)
    start = asyncio.create_task(launcher._box(walls, LIMITS))
    await asyncio.sleep(0.05)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await launcher.aclose()
    assert not (tmp_path / "group").exists()


async def test_a_start_can_be_cancelled_at_any_time() -> None:
    """With nothing left of it; asyncio cannot do that while a program starts."""
    launcher = Launcher(sandbox_environment())
    await launcher.unusable()
    before, others = Traces.here(), set(descendants(os.getpid()))
    for steps in range(1, 8):
        start = asyncio.create_task(launcher.start(LIMITS))
        for _ in range(steps):
            await asyncio.sleep(0)
        start.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(start, return_exceptions=True)
    await asyncio.wait_for(launcher.aclose(), 20)
    assert set(descendants(os.getpid())) <= others
    assert Traces.here() <= before


async def test_trouble_with_one_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher(sandbox_environment())
    monkeypatch.setattr(module, "_LOOK", 0.02)
    looks = []

    async def look(box: object, _: object) -> None:
        looks.append(box)
        if len(looks) > 2:
            launcher._boxes.clear()
        raise RuntimeError

    monkeypatch.setattr(launcher, "_look_once", look)
    box = await launcher.start(LIMITS)
    for _ in range(100):
        if len(looks) > 2:
            break
        await asyncio.sleep(0.02)
    await box.close()
    await launcher.aclose()
    assert len(looks) == 3


async def test_short_runs_between_two_looks_are_no_unrest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look must not take what was run since the last one for what nobody has asked for."""
    monkeypatch.setattr(module, "_LOOK", 60.0)
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.2)
    launcher, idle = Launcher(sandbox_environment()), dict[Box, tuple[int, float]]()
    await launcher.start(LIMITS)
    [box] = launcher._boxes
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    for _ in range(3):
        await launcher._look_once(box, idle)
        ran = await box.run(code, 20)
        assert ran.ending == "ok"
    assert box.is_alive
    await launcher.aclose()


async def test_one_that_dies_is_forgotten() -> None:
    launcher = Launcher(sandbox_environment())
    sandbox = await launcher.start(LIMITS)
    await sandbox.close()
    for _ in range(30):
        if not launcher._boxes:
            break
        await asyncio.sleep(0.1)
    assert not launcher._boxes
    other = await launcher.start(LIMITS)
    await works(other)
    await launcher.aclose()
