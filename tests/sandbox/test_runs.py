"""What a session is for the code that runs in it, one cell after the other."""

import pytest

from antiphon.sandbox.launcher import Launcher
from tests.sandbox.bench import printed, started
from tests.sandbox_environment import sandbox_environment


@pytest.mark.parametrize("code", ["exit()", "quit()", "import sys\nsys.exit()"])
async def test_a_cell_that_says_exit_does_not_end_a_later_one(code: str) -> None:
    """Models write it at the end of their code, as in a program."""
    launcher = Launcher(sandbox_environment())
    async with started(launcher) as sandbox:
        await sandbox.run(f"x = 6\n{code}", 20)
        ran = await sandbox.run("import time\ntime.sleep(1)\nprint(x)", 20)
        assert (ran.ending, printed(ran), ran.renewed) == ("ok", "6\n", False)
        ran = await sandbox.run("x", 20)
        assert (ran.ending, printed(ran), ran.renewed) == ("ok", "6\n", False)
    await launcher.aclose()
