"""``/v1/models`` (spec §2.5)."""

import orjson
from fastapi import APIRouter, Request, Response

from antiphon.api.auth import Authenticator
from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.backends.base import Router
from antiphon.errors import NotFoundError

JSON = "application/json"


class Models:
    """The models that clients may name."""

    def __init__(self, router: Router, auth: Authenticator) -> None:
        self._models = router
        self._auth = auth
        self.router = APIRouter(prefix="/v1/models", tags=["Models"])
        self.router.add_api_route("", self.list, methods=["GET"])
        # Names at hubs have slashes in them: "meta-llama/Llama-3".
        self.router.add_api_route("/{model:path}", self.retrieve, methods=["GET"])

    async def list(self, request: Request) -> Response:
        """All models."""
        await self._auth.project(request.scope)
        models = [model.body() for model in await self._models.models()]
        return Response(orjson.dumps({"object": "list", "data": models}), media_type=JSON)

    async def retrieve(self, request: Request, model: str) -> Response:
        """One model; 404 `model_not_found` when nobody lists it."""
        await self._auth.project(request.scope)
        for known in await self._models.models():
            if known.id == model:
                return Response(orjson.dumps(known.body()), media_type=JSON)
        raise NotFoundError(
            f"The model '{printable(model, MAX_ECHO)}' does not exist or you do not have access "
            "to it.",
            param="model",
            code="model_not_found",
        )
