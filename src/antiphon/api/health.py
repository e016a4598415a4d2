"""``/health/live``, ``/health/ready``, ``/metrics`` (reliability R-122, R-138).

Rules
1. Live: the process answers. Ready: a new request would work (store writable, not shutting down).
2. Metrics carry no names of tenants, models of tenants or ids in their labels.
"""

import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from antiphon.api.auth import Authenticator
from antiphon.engine.runner import Engine


class Health:
    """What operators and their machines ask."""

    def __init__(
        self, engine: Engine, registry: CollectorRegistry, auth: Authenticator, *, public: bool
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._auth = auth
        self._public = public
        self.router = APIRouter(tags=["Operation"])
        self.router.add_api_route("/health/live", self.live, methods=["GET"])
        self.router.add_api_route("/health/ready", self.ready, methods=["GET"])
        self.router.add_api_route("/metrics", self.metrics, methods=["GET"])

    async def live(self) -> Response:
        """200 while the process answers."""
        return _status("ok", 200)

    async def ready(self) -> Response:
        """200 when requests can be served, else 503."""
        if self._engine.stopping:
            return _status("shutting down", 503)
        if await self._engine.store.ready():
            return _status("ready", 200)
        return _status("store unavailable", 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text; needs an API key unless the settings make it public."""
        if not self._public:
            await self._auth.project(request.scope)
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


def _status(status: str, code: int) -> Response:
    return Response(orjson.dumps({"status": status}), code, media_type="application/json")
