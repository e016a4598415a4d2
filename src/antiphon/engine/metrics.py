"""Counters of the engine (reliability R-138): Prometheus names, no tenant text in labels."""

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from antiphon.errors import APIError
from antiphon.protocol.response import Usage

REGISTRY: Final = CollectorRegistry()

IN_FLIGHT: Final = Gauge(
    "antiphon_responses_in_flight", "Responses that are being made.", registry=REGISTRY
)
_RESPONSES: Final = Counter(
    "antiphon_responses", "Responses that ended, by final status.", ["status"], registry=REGISTRY
)
_FAILURES: Final = Counter(
    "antiphon_failures",
    "Failed responses, by HTTP status of the error.",
    ["http_status"],
    registry=REGISTRY,
)
_TOKENS: Final = Counter(
    "antiphon_tokens", "Tokens that backends reported.", ["direction"], registry=REGISTRY
)
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
_INPUT: Final = _TOKENS.labels("input")
_OUTPUT: Final = _TOKENS.labels("output")


for _scope in ("project", "queue", "server"):
    SHED.labels(_scope)  # shown as 0 from the start
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
    _RESPONSES.labels(status).inc()
    _INPUT.inc(usage.input_tokens)
    _OUTPUT.inc(usage.output_tokens)
    if error is not None:
        _FAILURES.labels(str(error.status)).inc()
