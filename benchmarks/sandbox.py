"""Sandboxes: how long one takes to start and to run a cell, and twenty at once.

``python -m benchmarks.sandbox [FOLDER]``, the folder of the environment (``antiphon sandbox
install``), by default that of the tests. The goals are those of issue 7: a cold start in 1.5 s, the
next cell in 20 ms.
"""

import asyncio
import sys
import time
from pathlib import Path
from statistics import median

from tests.sandbox_environment import sandbox_environment

from antiphon.sandbox.base import Limits, Sandbox
from antiphon.sandbox.launcher import Launcher
from antiphon.sandbox.watch import usage

_STARTS = 5
_CELLS = 50
_AT_ONCE = 20
_GOAL_START = 1.5
_GOAL_CELL = 0.020


async def _answered(sandbox: Sandbox) -> float:
    """Seconds that a cell takes."""
    began = time.perf_counter()
    ran = await sandbox.run("6 * 7", 30)
    assert ran.ending == "ok"
    return time.perf_counter() - began


async def _first_answer(launcher: Launcher) -> tuple[float, Sandbox]:
    """Seconds until a new sandbox has answered."""
    began = time.perf_counter()
    sandbox = await launcher.start(Limits())
    await _answered(sandbox)
    return time.perf_counter() - began, sandbox


async def _alone(launcher: Launcher) -> None:
    starts = []
    for _ in range(_STARTS):
        seconds, sandbox = await _first_answer(launcher)
        starts.append(seconds)
        cells = [await _answered(sandbox) for _ in range(_CELLS)]
        await sandbox.close()
    start, cell = median(starts), median(cells)
    print(f"start to first answer  p50 {start:7.3f} s   {start / _GOAL_START:5.2f} of the goal")
    print(f"next cell              p50 {cell * 1e3:7.2f} ms  {cell / _GOAL_CELL:5.2f} of the goal")


async def _together(launcher: Launcher) -> None:
    began = time.perf_counter()
    found = await asyncio.gather(*(_first_answer(launcher) for _ in range(_AT_ONCE)))
    seconds = time.perf_counter() - began
    again = time.perf_counter()
    await asyncio.gather(*(_answered(sandbox) for _, sandbox in found))
    cells = time.perf_counter() - again
    boxes = launcher.pids
    memory = sum(usage(pid, is_exact=True).memory for pid in boxes) / len(boxes)
    print(f"{_AT_ONCE} at once, all answered {seconds:6.2f} s   {seconds / _AT_ONCE:5.2f} s each")
    print(f"one cell in each       {cells * 1e3:11.1f} ms")
    print(f"memory of each         {memory / (1 << 20):11.1f} MiB (shared pages in part)")
    await asyncio.gather(*(sandbox.close() for _, sandbox in found))


async def main(folder: Path) -> None:
    """All of it."""
    launcher = Launcher(folder)
    reason = await launcher.unusable()
    if reason is not None:
        sys.exit(f"no sandboxes here: {reason}")
    try:
        await _alone(launcher)
        await _together(launcher)
    finally:
        await launcher.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else sandbox_environment()))
