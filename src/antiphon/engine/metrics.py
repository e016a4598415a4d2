"""Counters of the engine (reliability R-138): Prometheus names, no tenant text in labels."""

import asyncio
from collections import Counter as Sums
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from antiphon.errors import APIError
from antiphon.protocol.response import Usage

REGISTRY: Final = CollectorRegistry()


class Tally(Collector):
    """A counter with one label. Only the event loop adds to it, so it needs no lock: with those of
    `Counter` the end of each response would cost three times as much."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        #: By the value of the label.
        self.sums: Sums[str] = Sums()
        REGISTRY.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For the registry."""
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, total in self.sums.copy().items():
            family.add_metric([value], total)
        yield family


IN_FLIGHT: Final = Gauge(
    "antiphon_responses_in_flight", "Responses that are being made.", registry=REGISTRY
)
_RESPONSES: Final = Tally("antiphon_responses", "Responses that ended, by final status.", "status")
_FAILURES: Final = Counter(
    "antiphon_failures",
    "Failed responses, by HTTP status of the error.",
    ["http_status"],
    registry=REGISTRY,
)
_TOKENS: Final = Tally("antiphon_tokens", "Tokens that backends reported.", "direction")
SHED: Final = Counter(
    "antiphon_requests_shed",
    "Requests that were turned away: the server, the project or the queue was full.",
    ["scope"],
    registry=REGISTRY,
)
QUEUE_LENGTH: Final = Gauge(
    "antiphon_queue_length", "Background responses that nobody works on yet.", registry=REGISTRY
)
RECOVERED: Final = Counter(
    "antiphon_responses_recovered",
    "Responses that a dead process left behind: ended as failed, or put back into the queue.",
    ["outcome"],
    registry=REGISTRY,
)
DATABASE_WAIT: Final = Histogram(
    "antiphon_database_wait_seconds",
    "How long the write of a heartbeat waited for its commit.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
    registry=REGISTRY,
)
LOOP_LAG: Final = Histogram(
    "antiphon_loop_lag_seconds",
    "How late the event loop was, asked again and again.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
    registry=REGISTRY,
)
LOG_LINES_DROPPED: Final = Counter(
    "antiphon_log_lines_dropped",
    "Log lines that were lost because nobody took them in time.",
    registry=REGISTRY,
)
TOOL_CALLS: Final = Counter(
    "antiphon_tool_calls",
    "Calls of hosted tools that ended, by type of their items and status.",
    ["type", "status"],
    registry=REGISTRY,
)
for _scope in ("project", "queue", "server"):
    SHED.labels(_scope)  # shown as 0 from the start
for _direction in ("input", "output"):
    _TOKENS.sums[_direction] = 0
for _outcome in ("failed", "queued"):
    RECOVERED.labels(_outcome)


async def watch_loop(interval: float = 0.25) -> None:
    """Measure `LOOP_LAG` for ever; `interval` in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        LOOP_LAG.observe(max(0.0, loop.time() - due))


def count(status: str, usage: Usage, error: APIError | None) -> None:
    """A response has ended."""
    _RESPONSES.sums[status] += 1
    _TOKENS.sums["input"] += usage.input_tokens
    _TOKENS.sums["output"] += usage.output_tokens
    if error is not None:
        _FAILURES.labels(str(error.status)).inc()
