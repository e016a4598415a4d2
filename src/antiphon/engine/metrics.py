"""Counters of the engine (reliability R-138): Prometheus names, no tenant text in labels."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

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
_INPUT: Final = _TOKENS.labels("input")
_OUTPUT: Final = _TOKENS.labels("output")


def count(status: str, usage: Usage, error: APIError | None) -> None:
    """A response has ended."""
    _RESPONSES.labels(status).inc()
    _INPUT.inc(usage.input_tokens)
    _OUTPUT.inc(usage.output_tokens)
    if error is not None:
        _FAILURES.labels(str(error.status)).inc()
