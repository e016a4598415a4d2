"""``antiphon sandbox install | check``: the Python that code of models runs with, and whether it
runs (docs/tools.md, "Code interpreter")."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import click
from click.exceptions import Exit

from antiphon.app.sandbox import sandbox_folder
from antiphon.cli.common import Group, read_settings, refused
from antiphon.sandbox.base import Limits, Ran, SandboxGone, Text
from antiphon.sandbox.environment import NoEnvironment, install
from antiphon.sandbox.launcher import Launcher
from antiphon.sandbox.state import Fact
from antiphon.settings import Settings

_MIB: Final = 1 << 20
#: Code that says what it is and what it sees.
_CODE: Final = """
import os, platform, socket
import matplotlib, numpy, pandas
print("Python", platform.python_version(), "with numpy", numpy.__version__, "pandas",
      pandas.__version__, "matplotlib", matplotlib.__version__)
print("It is user", os.getuid(), "on", socket.gethostname(), "with the networks",
      ", ".join(name for _, name in socket.if_nameindex()) or "of nobody")
"""


@click.group(cls=Group)
def sandbox() -> None:
    """Where code of models runs."""


@sandbox.command("install")
@click.option(
    "--python", help="The Python that it is made of; by default one that fits is looked for."
)
def install_environment(python: str | None) -> None:
    """Make the Python of code_interpreter. A kernel, numpy, pandas, matplotlib: about 400 MB, in
    ANTIPHON_SANDBOX; what was made there is made again. Interrupted, it can be run again."""
    settings = read_settings()
    folder: Path = sandbox_folder(settings)
    try:
        if not settings.sandbox:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        install(folder, python, lambda step: print(step, file=sys.stderr, flush=True))
    except (NoEnvironment, OSError) as error:
        raise refused(error) from error
    print(f"{folder}: ready. `antiphon sandbox check` says whether code runs here.")


@sandbox.command("check")
def check_sandbox() -> None:
    """Run code in a sandbox. It is started as for code_interpreter, and the code says what it sees.
    Exit status 1: code does not run here."""
    settings = read_settings()
    try:
        asyncio.run(_check(settings))
    except SandboxGone as error:
        print("Code does not run here:", str(error) or "the sandbox has ended")
        raise Exit(1) from error


async def _check(settings: Settings) -> None:
    """Raises `SandboxGone`."""
    launcher = Launcher(sandbox_folder(settings))
    limits, seconds = Limits(disk=settings.container_disk), settings.tool_timeout
    try:
        state = await launcher.state()
        if state.reason is not None:
            raise SandboxGone(state.reason)
        print(f"Code of {sandbox_folder(settings)} runs behind {state.walls}:")
        for fact in state.facts:
            print(" ", _said(fact))
        print(f"It has {_size(limits)}, and {seconds:g} seconds for each run.")
        began = time.monotonic()
        box = await launcher.start(limits)
        print(f"A sandbox starts in {time.monotonic() - began:.1f} s.")
        ran = await box.run(_CODE, seconds)
        print(_text(ran), end="")
        if ran.ending != "ok":
            raise SandboxGone(f"a run ended with '{ran.ending}'")
        began = time.monotonic()
        await box.run("1 + 1", seconds)
        print(f"The next run takes {(time.monotonic() - began) * 1000:.0f} ms.")
    finally:
        await launcher.aclose()


def _said(fact: Fact) -> str:
    note = f" ({fact.note})" if fact.note else ""
    return f"{'yes' if fact.holds else 'NO '}  {fact.what}{note}"


def _size(limits: Limits) -> str:
    return (
        f"{limits.memory // _MIB} MiB of memory, {limits.disk // _MIB} MiB in /mnt/data, "
        f"{limits.scratch // _MIB} MiB in /tmp, {limits.processes} processes"
    )


def _text(ran: Ran) -> str:
    return "".join(shown.text for shown in ran.shown if isinstance(shown, Text))
