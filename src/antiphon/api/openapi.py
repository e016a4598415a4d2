"""The interactive description at ``/docs``: the plain ASGI routes are added by hand."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from antiphon.protocol.request import CreateResponse

_SCHEMAS: Final = "#/components/schemas/"


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        body = CreateResponse.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(body.pop("$defs", {}))
        schemas["CreateResponse"] = body
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        document["paths"] = {"/v1/responses": {"post": _create()}, **document["paths"]}
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = document
    return app.openapi_schema


def _create() -> dict[str, Any]:
    return {
        "tags": ["Responses"],
        "summary": "Create",
        "description": "Make a response: JSON, or server-sent events with `stream: true`.",
        "operationId": "create_response",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _SCHEMAS + "CreateResponse"}}},
        },
        "responses": {
            "200": {
                "description": "The Response object, or its events.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            "4XX": {"description": "OpenAI's error envelope."},
        },
    }
