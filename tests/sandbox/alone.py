"""Programs for tests: a process of its own that starts sandboxes. Its first word says what it does.

``hold FOLDER N``: start so many, print the processes of all, and wait to be killed.
``try FOLDER CASE…``: print a line of JSON with what each case of the escape corpus printed.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from antiphon.sandbox.launcher import Launcher
from tests.sandbox.bench import LIMITS, SECRET, descendants, outside, printed
from tests.sandbox.cases import ESCAPES


async def hold(folder: Path, number: int) -> None:
    """Sandboxes with a process that would like to stay."""
    launcher = Launcher(folder)
    sandboxes = await asyncio.gather(*(launcher.start(LIMITS) for _ in range(number)))
    stay = (
        "import os, signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"
        "if not os.fork():\n    os.setsid()\n    while True: time.sleep(1)"
    )
    for sandbox in sandboxes:
        await sandbox.run(stay, 10)
    run = asyncio.create_task(sandboxes[0].run("while True: pass", 60))
    await asyncio.sleep(0.2)
    print(json.dumps(descendants(os.getpid())), flush=True)
    await run


async def attempt(folder: Path, names: list[str]) -> None:
    """Cases, as the user of this process. A secret is in its environment and command line."""
    os.environ["ANTIPHON_API_KEYS"] = SECRET
    launcher = Launcher(folder)
    said: dict[str, list[str]] = {"unusable": [await launcher.unusable() or ""]}
    with outside() as world:
        sandbox = await launcher.start(LIMITS)
        for name in names:
            ran = await sandbox.run(world.code(ESCAPES[name]), 30)
            said[name] = [ran.ending, printed(ran)]
    await launcher.aclose()
    said["left"] = list(map(str, descendants(os.getpid())))
    print(json.dumps(said), flush=True)


def main() -> None:
    """See the module."""
    word, folder, *rest = sys.argv[1:]
    if word == "hold":
        asyncio.run(hold(Path(folder), int(rest[0])))
    else:
        asyncio.run(attempt(Path(folder), [one for one in rest if one in ESCAPES]))


if __name__ == "__main__":
    main()
