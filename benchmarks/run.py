"""Antiphon's cost beside the goals of its design, and beside its peers: ``scripts/bench``.

Rules
1. Real processes over loopback: generator → server → upstream. The baseline, generator → upstream,
   is taken in the same run, since absolutes drift with the machine; so does a fixed loop of Python.
2. Every figure is the median of the repeats.
3. Every answer is checked; a bad one of Antiphon ends the run without a table. A peer that cannot
   be installed, started or asked stands in the table with the reason.
"""

import argparse
import contextlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.load import ServerError
from benchmarks.measuring import Lane, measure_all, reason
from benchmarks.meter import cores_are_shared, free_port, running, upstream
from benchmarks.page import pictures, rewritten, section
from benchmarks.peers import peers
from benchmarks.peers.base import Peer, Site
from benchmarks.peers.installing import NotInstalled, installed
from benchmarks.table import Bench
from benchmarks.works import ANTIPHON, FULL, QUICK, Scale

_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "antiphon-bench"


def say(what: str) -> None:
    """Where it is."""
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def calibration() -> float:
    """Milliseconds of a fixed loop, the best of five: how fast this machine is just now."""

    def once() -> float:
        started = time.perf_counter()
        total = 0
        for number in range(1_000_000):
            total += number ^ 0x55
        assert total
        return (time.perf_counter() - started) * 1e3

    return min(once() for _ in range(5))


@contextlib.contextmanager
def _lane(peer: Peer, place: Path, model: Lane) -> Iterator[Lane]:
    """A server that runs."""
    with tempfile.TemporaryDirectory(
        prefix=f"bench-{peer.folder}-", ignore_cleanup_errors=True
    ) as folder:
        site = Site(place, Path(folder), free_port(), model.meter.port)
        with running(peer.start(site)) as meter:
            name = peer.name if peer is ANTIPHON else f"{peer.name} {peer.version}"
            yield Lane(name, meter, model.meter, peer)


def _start(stack: contextlib.ExitStack, bench: Bench, peer: Peer, cache: Path) -> None:
    """Install a peer and start it, or note why not."""
    try:
        say(f"{peer.name} {peer.version}: installing into {cache / peer.folder}, if it is not")
        place = installed(cache, peer.folder, peer.install)
        say(f"{peer.name}: starting")
        bench.lanes.append(stack.enter_context(_lane(peer, place, bench.alone)))
    except (NotInstalled, ServerError) as error:
        bench.absent[f"{peer.name} {peer.version}"] = reason(error)
        say(f"{peer.name}: {error}")


def run(scale: Scale, others: tuple[Peer, ...], cache: Path) -> Bench:
    """Everything."""
    busy, first = os.getloadavg()[0], calibration()
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(upstream())
        bench = Bench(scale, [Lane("upstream alone", model, model)])
        here = Path(__file__).parents[1]
        bench.lanes.append(stack.enter_context(_lane(ANTIPHON, here, bench.alone)))
        for peer in others:
            _start(stack, bench, peer, cache)
        uvloop.run(measure_all(scale, bench.lanes, say))
    bench.load, bench.loop = busy, (first, calibration())
    return bench


def machine() -> str:
    """What it was measured on."""
    cores = "one core for all" if cores_are_shared() else "one for the server, one for the rest"
    python = f"Python {platform.python_version()}, {platform.machine()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {python}, {os.cpu_count()} cores ({cores})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, once")
    parser.add_argument("--peers", action="store_true", help="beside other servers")
    parser.add_argument("--only", metavar="NAMES", help="of the peers: names with commas between")
    parser.add_argument("--peers-dir", type=Path, default=_CACHE, help="where peers are installed")
    parser.add_argument(
        "--responses-js", type=Path, metavar="FOLDER", help="a checkout of responses.js"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="replace the marked section of FILE"
    )
    options = parser.parse_args()
    if options.write:
        rewritten(options.write, "")  # fails now if it would fail later
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: terminated"))
    others = peers(options.responses_js) if options.peers else ()
    if options.only:
        names = options.only.lower().split(",")
        others = tuple(peer for peer in others if peer.name.lower() in names)
    try:
        bench = run(QUICK if options.quick else FULL, others, options.peers_dir)
    except ServerError as error:
        sys.exit(f"scripts/bench: {error}")
    text = section(bench, machine())
    print(text, end="")
    if options.write:
        options.write.write_text(rewritten(options.write, text), encoding="utf-8")
        folder = options.write.with_suffix("")
        folder.mkdir(exist_ok=True)
        for name, picture in pictures(bench).items():
            (folder / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
