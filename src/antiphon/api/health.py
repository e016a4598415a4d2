"""``/health/live``, ``/health/ready``, ``/metrics`` (reliability R-122, R-138).

Rules
1. Live: the process answers, whatever else is wrong. Ready: a new request would work.
2. Backends that rest are counted, not named, and make nobody unready: they are asked again by the
   next request only.
3. Who asks while others ask hears the same answer: asking often costs nothing. A check that hangs
   has failed.
4. What failed is named, without paths or reasons (R-129): those are in the log.
5. Metrics carry no names of tenants, models of tenants or ids in their labels.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.figures import Figures
from antiphon.api.operations import Operations
from antiphon.backends.base import Backend
from antiphon.engine.runner import Engine

#: Seconds after which a check has failed: less than what those who ask wait for an answer.
LIMIT: Final = 3.0

Check: TypeAlias = Callable[[], Awaitable[bool]]


class InThread:
    """A look at something that may hang, such as a disk; no second one begins meanwhile."""

    def __init__(self, look: Callable[[], bool]) -> None:
        """`look` raises what it likes: then it is bad."""
        self._look = look
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._looking: asyncio.Future[bool] | None = None

    async def __call__(self) -> bool:
        """Whether it is good."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(self._thread, self._look)
        looking = self._looking
        await asyncio.wait([looking])
        return looking.exception() is None and looking.result()


class Backends(Collector):
    """Metrics of backends: their names are the operator's, so they may be seen there (R-138)."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    def collect(self) -> Iterable[Metric]:
        """As they are now."""
        calls = CounterMetricFamily(
            "antiphon_backend_calls", "Calls of backends that ended.", labels=["backend", "outcome"]
        )
        resting = GaugeMetricFamily(
            "antiphon_backend_resting",
            "Whether a backend has failed too often and is not asked for a while.",
            labels=["backend"],
        )
        for backend in self._backends:
            health = backend.health()
            resting.add_metric([backend.name], float(health.is_resting))
            for outcome, count in health.outcomes.items():
                calls.add_metric([backend.name, outcome], count)
        return [calls, resting]

    @property
    def counts(self) -> dict[str, int]:
        """How many can be asked, and how many rest."""
        resting = sum(backend.health().is_resting for backend in self._backends)
        return {"ok": len(self._backends) - resting, "resting": resting}


class Health:
    """What operators and their machines ask."""

    def __init__(
        self,
        engine: Engine,
        figures: Figures,
        auth: Authenticator,
        checks: Mapping[str, Check],
        backends: Backends,
        *,
        public: bool,
    ) -> None:
        """`checks`: what a new request needs, by name."""
        self._backends = backends
        self._engine = engine
        self._figures = figures
        self._checks = checks
        self._asking: asyncio.Task[list[str]] | None = None
        self.operations = Operations("Operation")
        self.operations.add("GET", "/health/live", self.live, query=None)
        self.operations.add("GET", "/health/ready", self.ready, query=None)
        seen = Operations("Operation", auth=None if public else auth)
        seen.add("GET", "/metrics", self.metrics, query=None)
        self.operations += seen

    async def live(self, _request: Request) -> Response:
        """200 while the process answers."""
        return _status("ok", 200)

    async def ready(self, _request: Request) -> Response:
        """200 when requests can be served, else 503."""
        if self._engine.stopping:
            return _status("shutting down", 503)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._failed())
        failed = await asyncio.shield(self._asking)
        if failed:
            return _status("not ready", 503, failed)
        return _status("ready", 200, backends=self._backends.counts)

    async def _failed(self) -> list[str]:
        passed = await asyncio.gather(*(_passes(check) for check in self._checks.values()))
        return [name for name, good in zip(self._checks, passed, strict=True) if not good]

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text; needs an API key unless the settings make it public."""
        return Response(await self._figures.text(), media_type=CONTENT_TYPE_LATEST)


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(LIMIT):
            return await check()
    except TimeoutError:
        return False


def _status(status: str, code: int, failed: Sequence[str] = (), **more: Any) -> Response:
    body = {"status": status, **({"failed": failed} if failed else {}), **more}
    return Response(orjson.dumps(body), code, media_type="application/json")
