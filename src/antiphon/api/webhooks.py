"""``/v1/webhook_endpoints`` and ``/v1/webhook_event_types`` (spec §2.5, App. H).

Rules
1. A secret is shown when it is made and never again; lists show how it ends.
2. An endpoint of the configuration can be read and tested, not changed.
3. A test that gets no answer is one error, whatever the reason was (reliability R-94).
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.api.operations import Operations
from antiphon.api.query import EveryQuery, Limit
from antiphon.api.responses import paginate
from antiphon.engine.webhooks import Deliverer
from antiphon.errors import InvalidRequestError, NotFoundError
from antiphon.protocol.webhooks import (
    FIRED,
    ChangedEndpoint,
    NewEndpoint,
    Rotation,
    Trial,
    secret_of,
)
from antiphon.store.base import Change, Endpoint, Webhooks

JSON: Final = "application/json"
#: Endpoints of one project.
MOST_ENDPOINTS: Final = 100
#: How long the old secret signs beside the new one, in seconds.
OLD_SECRET: Final = 24 * 3600
#: Bytes of a body: far more than a good one has.
_MAX_BODY: Final = 64 * 1024

_log = structlog.get_logger(__name__)


class ListQuery(EveryQuery):
    """The query of ``GET /v1/webhook_endpoints``."""

    after: str | None = None
    limit: Limit = 20


class WebhookEndpoints:
    """The endpoints on webhook endpoints."""

    def __init__(
        self,
        webhooks: Webhooks,
        deliverer: Deliverer,
        auth: Authenticator,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._webhooks = webhooks
        self._deliverer = deliverer
        self._clock = clock
        self.operations = Operations("Webhooks", "/v1", auth)
        add, every = self.operations.add, "/webhook_endpoints"
        one = every + "/{webhook_endpoint_id}"
        add("GET", "/webhook_event_types", self.event_types)
        add("POST", every, self.create)
        add("GET", every, self.list, ListQuery)
        add("GET", one, self.retrieve)
        add("POST", one, self.update)
        add("DELETE", one, self.delete)
        add("POST", one + "/rotate_secret", self.rotate_secret)
        add("POST", one + "/test", self.test)

    async def event_types(self, _request: Request) -> Response:
        """The events that happen here."""
        return _json({"object": "list", "data": list(FIRED)})

    async def create(self, request: Request) -> Response:
        """A new endpoint, with its secret."""
        body = await read_form(request, NewEndpoint, limit=_MAX_BODY)
        self._check_url(body.url)
        now = self._now()
        endpoint = Endpoint(
            id="whe_" + secrets.token_hex(24),
            project=request.state.project,
            name=body.name,
            url=body.url,
            event_types=list(dict.fromkeys(body.event_types)),
            secret=_new_secret(),
            created_at=now,
            updated_at=now,
        )
        if not await self._webhooks.add(endpoint, MOST_ENDPOINTS):
            raise InvalidRequestError(
                f"This project has {MOST_ENDPOINTS} webhook endpoints, which is the limit. Delete "
                "one to add another."
            )
        return _json({**_shape(endpoint), "signing_secret": endpoint.secret})

    async def list(self, request: Request, query: ListQuery) -> Response:
        """The endpoints of the project, newest first."""
        found = await self._webhooks.endpoints(request.state.project)
        oldest_first = [_shape(endpoint) for endpoint in reversed(found)]
        return _json(paginate(oldest_first, query.limit, "desc", query.after))

    async def retrieve(self, request: Request, webhook_endpoint_id: str) -> Response:
        """One endpoint."""
        return _json(_shape(await self._endpoint(request, webhook_endpoint_id)))

    async def update(self, request: Request, webhook_endpoint_id: str) -> Response:
        """Change an endpoint; one that was disabled is enabled again."""
        body = await read_form(request, ChangedEndpoint, limit=_MAX_BODY)
        if body.url is not None:
            self._check_url(body.url)
        types = None if body.event_types is None else [*map(str, dict.fromkeys(body.event_types))]
        change = Change(body.name, body.url, types)
        project = request.state.project
        done = await self._webhooks.change(project, webhook_endpoint_id, change, self._now())
        return _json(_shape(await self._changed(request, webhook_endpoint_id, done=done)))

    async def delete(self, request: Request, webhook_endpoint_id: str) -> Response:
        """Forget an endpoint and what was still to be sent to it."""
        if not await self._webhooks.delete(request.state.project, webhook_endpoint_id):
            await self._changed(request, webhook_endpoint_id, done=False)
        return _json(
            {"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}
        )

    async def rotate_secret(self, request: Request, webhook_endpoint_id: str) -> Response:
        """A new secret; if asked, the old one signs as well for a day."""
        body = await read_form(request, Rotation, limit=_MAX_BODY, absent=b"{}")
        secret, now = _new_secret(), self._now()
        until = now + OLD_SECRET if body.keep_old_secret_active_for_24_hours else None
        project = request.state.project
        done = await self._webhooks.rotate(project, webhook_endpoint_id, secret, now, until)
        endpoint = await self._changed(request, webhook_endpoint_id, done=done)
        endpoint.secret = secret
        return _json({**_shape(endpoint), "signing_secret": secret})

    async def test(self, request: Request, webhook_endpoint_id: str) -> Response:
        """Send an event of no importance, once and now; what the endpoint answered."""
        body = await read_form(request, Trial, limit=_MAX_BODY)
        endpoint = await self._endpoint(request, webhook_endpoint_id)
        try:
            status = await self._deliverer.test(endpoint, body.event_type)
        except ConnectionError as error:
            _log.info("webhook_test_failed", endpoint=endpoint.id, error=str(error))
            raise InvalidRequestError(
                "The webhook endpoint could not be reached.", code="webhook_endpoint_unreachable"
            ) from None
        return _json(
            {
                "object": "webhook_endpoint.test",
                "webhook_endpoint_id": endpoint.id,
                "event_type": body.event_type,
                "status_code": status,
                "success": True,
            }
        )

    def _check_url(self, url: str) -> None:
        try:
            self._deliverer.sender.check(url)
        except ValueError as error:
            raise InvalidRequestError(
                f"Invalid 'url': {error}.", param="url", code="invalid_value"
            ) from None

    async def _endpoint(self, request: Request, id_: str) -> Endpoint:
        found = await self._webhooks.endpoint(request.state.project, id_)
        if found is None:
            shown = printable(id_, MAX_ECHO)
            raise NotFoundError(f"Webhook endpoint with id '{shown}' not found.")
        return found

    async def _changed(self, request: Request, id_: str, *, done: bool) -> Endpoint:
        """The endpoint as it is now, or why it could not be changed."""
        endpoint = await self._endpoint(request, id_)
        if not done:
            raise InvalidRequestError(
                "This webhook endpoint comes from the configuration of the server and can only be "
                "changed there."
            )
        return endpoint

    def _now(self) -> int:
        return int(self._clock())


def _new_secret() -> str:
    return secret_of(secrets.token_bytes(32))


def _shape(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": f"whsec_...{endpoint.secret[-4:]}",
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
