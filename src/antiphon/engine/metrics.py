"""Counters of the engine (reliability R-138): plain Prometheus names, no tenant text in labels."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY: Final = CollectorRegistry()

RESPONSES: Final = Counter(
    "antiphon_responses", "Responses that ended, by terminal status.", ["status"], registry=REGISTRY
)
IN_FLIGHT: Final = Gauge(
    "antiphon_responses_in_flight", "Responses that are being made.", registry=REGISTRY
)
TOKENS: Final = Counter(
    "antiphon_tokens", "Tokens that backends reported.", ["direction"], registry=REGISTRY
)
FAILURES: Final = Counter(
    "antiphon_failures", "Failed responses, by error code.", ["code"], registry=REGISTRY
)
