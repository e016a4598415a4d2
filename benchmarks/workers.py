"""What several workers are worth: ``python -m benchmarks.workers [WORKERS]``, 2 or more.

Rules
1. A server of one worker and one of several, asked for stored plain answers in turns, 64 at once.
   Both may use all cores.
2. The generator and the upstream have no core of their own: what they take is missing to the
   workers. So the table says how much of the cores each server had.
"""

import contextlib
import os
import platform
import statistics
import sys
from typing import Final

import uvloop

from benchmarks.load import load
from benchmarks.meter import Meter, antiphon, upstream
from benchmarks.works import ANTIPHON, Work

_WORK: Final = Work("plain", "plain", 64, 5000)
_REPEATS: Final = 5


def _measured(server: Meter, upstream_port: int) -> tuple[float, float, float]:
    """Answers a second, microseconds of CPU for each, and cores that the server had."""
    target = _WORK.served(ANTIPHON, server.port, upstream_port)
    before = server.cpu()
    sample = uvloop.run(load(target, _WORK.requests, _WORK.at_once))
    spent, answers = server.cpu() - before, len(sample.latencies)
    return answers / sample.wall, spent / answers * 1e6, spent / sample.wall


def main(workers: int) -> None:
    """Measure and print a table."""
    rows: dict[int, list[tuple[float, float, float]]] = {1: [], workers: []}
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(upstream())
        servers = {
            n: stack.enter_context(antiphon(model.port, alone=False, workers=n)) for n in rows
        }
        for server in servers.values():
            _measured(server, model.port)  # warm-up
        for _ in range(_REPEATS):
            for n, server in servers.items():
                rows[n].append(_measured(server, model.port))
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores\n")
    print("| workers | answers/s | CPU per request, µs | cores that they had |")
    print("|---|---|---|---|")
    medians = {
        n: [statistics.median(column) for column in zip(*rows[n], strict=True)] for n in rows
    }
    for n, (rate, cpu, cores) in medians.items():
        print(f"| {n} | {rate:,.0f} | {cpu:,.0f} | {cores:.2f} |")
    ratios = [more[0] / one[0] for one, more in zip(rows[1], rows[workers], strict=True)]
    print(
        f"\n{workers} workers: {statistics.median(ratios):.2f} × (each time: "
        + ", ".join(f"{ratio:.2f}" for ratio in ratios)
        + ")"
    )


if __name__ == "__main__":
    main(max(2, int(sys.argv[1]) if len(sys.argv) > 1 else 2))
