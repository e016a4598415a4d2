"""``/v1/models`` (spec §2.5)."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.api.operations import Operations
from antiphon.backends.base import Router
from antiphon.errors import NotFoundError

JSON = "application/json"


class Models:
    """The models that clients may name."""

    def __init__(self, router: Router, auth: Authenticator) -> None:
        self._models = router
        self.operations = Operations("Models", "/v1/models", auth)
        self.operations.add("GET", "", self.list, query=None)
        # Names at hubs have slashes in them: "meta-llama/Llama-3".
        self.operations.add("GET", "/{model:path}", self.retrieve, query=None)

    async def list(self, _request: Request) -> Response:
        """All models."""
        models = [model.body() for model in await self._models.models()]
        return Response(orjson.dumps({"object": "list", "data": models}), media_type=JSON)

    async def retrieve(self, _request: Request, model: str) -> Response:
        """One model; 404 `model_not_found` when nobody lists it."""
        for known in await self._models.models():
            if known.id == model:
                return Response(orjson.dumps(known.body()), media_type=JSON)
        raise NotFoundError(
            f"The model '{printable(model, MAX_ECHO)}' does not exist or you do not have access "
            "to it.",
            param="model",
            code="model_not_found",
        )
