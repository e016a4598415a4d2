"""``antiphon worker``: background responses in a process of its own, on the database of a server.

Rules
1. The first SIGTERM or SIGINT: what is being made goes back into the queue, for whoever is there.
   Exit status 0.
2. The second one forces, as with the server.
"""

import asyncio
import signal
from pathlib import Path
from types import FrameType

import click
from uvicorn.loops.auto import auto_loop_factory

from antiphon import __version__
from antiphon.app import Antiphon
from antiphon.cli.common import (
    build,
    config_option,
    database_option,
    needs,
    read_settings,
    refused,
)
from antiphon.cli.server import Signals, force
from antiphon.errors import APIError
from antiphon.store.base import StoreError

_NEEDS_FILE = "memory:// is nobody else's memory; a worker needs the server's database"
_NEEDS_WORK = "with ANTIPHON_BACKGROUND_RUNS=0 a worker makes nothing; --background-runs says more"


@click.command()
@config_option
@database_option
@click.option("--background-runs", type=int, help="Responses that this worker makes at once.")
def worker(config: Path | None, database_url: str | None, background_runs: int | None) -> None:
    """Make background responses, beside a server on the same database."""
    settings = read_settings(
        config=config, database_url=database_url, background_runs=background_runs
    )
    needs(config)
    if settings.database_url.startswith("memory:"):
        raise refused(ValueError(_NEEDS_FILE))
    if not settings.background_runs:
        raise refused(ValueError(_NEEDS_WORK))
    antiphon = build(settings)
    try:
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(work(antiphon))
    except (StoreError, APIError) as error:
        raise refused(error) from error


async def work(antiphon: Antiphon) -> None:
    """Make background responses until a signal comes."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    came = Signals()

    def on_signal(sig: int, _frame: FrameType | None) -> None:
        which = came()
        if which == "first":
            loop.call_soon_threadsafe(stop.set)
        elif which == "second":
            force(sig, loop, antiphon.store)

    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, on_signal)
    async with antiphon.working():
        names = ", ".join(backend.name for backend in antiphon.router.backends)
        print(f"Antiphon {__version__} makes background responses (backends: {names})", flush=True)
        await stop.wait()
        await antiphon.engine.drain()
