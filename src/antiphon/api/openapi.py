"""The description of the API: ``/openapi.json`` and ``/docs``.

What an operation says of itself is taken from there; bodies, which endpoints read by themselves,
and plain ASGI routes are added by hand.
"""

import asyncio
import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from antiphon import __version__
from antiphon.api.operations import Operation
from antiphon.protocol import compaction, counting
from antiphon.protocol.containers import NewContainer, NewContainerFile
from antiphon.protocol.conversations import ChangedConversation, NewConversation, NewItems
from antiphon.protocol.files import CompletedUpload, NewFile, NewUpload
from antiphon.protocol.prompts import ChangedPrompt, NewPrompt, NewVersion
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.vector_stores import (
    ChangedStoreFile,
    ChangedVectorStore,
    NewFileBatch,
    NewStoreFile,
    NewVectorStore,
    VectorStoreSearch,
)
from antiphon.protocol.webhooks import ChangedEndpoint, NewEndpoint, Rotation, Trial

_CREATE: Final = "/v1/responses"
_SCHEMAS: Final = "#/components/schemas/"
_ENDPOINTS: Final = "/v1/webhook_endpoints"
_ENDPOINT: Final = _ENDPOINTS + "/{webhook_endpoint_id}"
_CONVERSATIONS: Final = "/v1/conversations"
_CONVERSATION: Final = _CONVERSATIONS + "/{conversation_id}"
_PROMPTS: Final = "/v1/prompts"
_PROMPT: Final = _PROMPTS + "/{prompt_id}"
_FILES: Final = "/v1/files"
_UPLOADS: Final = "/v1/uploads"
_UPLOAD: Final = _UPLOADS + "/{upload_id}"
_STORES: Final = "/v1/vector_stores"
_STORE: Final = _STORES + "/{vector_store_id}"
_CONTAINERS: Final = "/v1/containers"
_CONTAINER_FILES: Final = _CONTAINERS + "/{container_id}/files"
#: What is posted where, and whether it must be; these bodies are read by hand, too.
_BODIES: Final[Mapping[str, tuple[type[BaseModel], bool]]] = {
    _CREATE: (CreateResponse, True),
    _CONVERSATIONS: (NewConversation, False),
    _CONVERSATION: (ChangedConversation, True),
    _CONVERSATION + "/items": (NewItems, True),
    _PROMPTS: (NewPrompt, True),
    _PROMPT: (ChangedPrompt, True),
    _PROMPT + "/versions": (NewVersion, False),
    _ENDPOINTS: (NewEndpoint, True),
    _ENDPOINT: (ChangedEndpoint, True),
    _ENDPOINT + "/rotate_secret": (Rotation, False),
    _ENDPOINT + "/test": (Trial, True),
    _UPLOADS: (NewUpload, True),
    _UPLOAD + "/complete": (CompletedUpload, True),
    _STORES: (NewVectorStore, False),
    _STORE: (ChangedVectorStore, False),
    _STORE + "/search": (VectorStoreSearch, True),
    _STORE + "/files": (NewStoreFile, True),
    _STORE + "/files/{file_id}": (ChangedStoreFile, True),
    _STORE + "/file_batches": (NewFileBatch, True),
    _CONTAINERS: (NewContainer, True),
    _CONTAINER_FILES: (NewContainerFile, True),
}
_BINARY: Final[dict[str, Any]] = {"type": "string", "format": "binary"}
#: Forms: the name of their file, and what they have beside it.
_FORMS: Final[Mapping[str, tuple[str, type[BaseModel] | None]]] = {
    _FILES: ("file", NewFile),
    _UPLOAD + "/parts": ("data", None),
    _CONTAINER_FILES: ("file", None),
}


#: Plain routes whose bodies are parts of that of a response: summary, description, fields.
_PARTS: Final[Mapping[str, tuple[str, str, Collection[str]]]] = {
    _CREATE + "/compact": (
        "Compact",
        "Make a summary that stands for a long input.",
        compaction.FIELDS,
    ),
    _CREATE + "/input_tokens": (
        "Count Input Tokens",
        "Count the tokens that a request would begin with.",
        counting.FIELDS,
    ),
}


#: What is passed on as it is: summary, tag.
_RELAYED: Final[Mapping[str, tuple[str, str]]] = {
    "/v1/chat/completions": ("Create chat completion", "Chat"),
    "/v1/embeddings": ("Create embeddings", "Embeddings"),
}

_BYTES: Final = "application/octet-stream"
#: What is answered with something else than JSON, and with what.
_ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    _FILES + "/{file_id}/content": {_BYTES: {"schema": _BINARY}},
    _CONTAINER_FILES + "/{file_id}/content": {_BYTES: {"schema": _BINARY}},
    "/metrics": {"text/plain": {"schema": {"type": "string"}}},
}

#: https://github.com/swagger-api/swagger-ui/blob/master/docs/usage/installation.md
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Antiphon</title>
  <link rel="stylesheet" href="https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js"></script>
  <script>SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true})</script>
</body>
</html>
"""


class Description:
    """``/openapi.json``, and ``/docs``, which shows it in a browser."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = operations
        self._document: dict[str, Any] = {}

    def routes(self) -> list[Route]:
        """For Starlette."""
        return [Route("/openapi.json", self.document), Route("/docs", self.page)]

    async def document(self, request: Request) -> Response:
        """The OpenAPI document, made once, in a thread: that takes a while (R-118)."""
        if not self._document:
            self._document = await asyncio.to_thread(describe, self._operations)
        root = request.scope.get("root_path")
        document = {**self._document, "servers": [{"url": root}]} if root else self._document
        return Response(orjson.dumps(document), media_type="application/json")

    async def page(self, _request: Request) -> Response:
        """Swagger UI, which the browser loads from a CDN."""
        return Response(_PAGE, media_type="text/html")


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {_CREATE: {"post": _create()}}
    schemas = _schemas()
    for operation in operations:
        path = re.sub(r":\w+}", "}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(path, operation)
    for path, (form, required) in _BODIES.items():
        paths[path]["post"]["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": {"$ref": _SCHEMAS + form.__name__}}},
        }
    for path, (file, fields_of) in _FORMS.items():
        schema = _form(file, fields_of, schemas)
        body = paths[path]["post"].setdefault("requestBody", {"content": {}})
        body["required"] = True
        body["content"]["multipart/form-data"] = {"schema": schema}
    for path, (name, description, fields) in _PARTS.items():
        paths[path] = {"post": _part(name, description, fields, schemas)}
    for path, (name, tag) in _RELAYED.items():
        paths[path] = {"post": _relayed(name, tag, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Antiphon",
            "version": __version__,
            "description": "A self-hosted Responses API in front of any model.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    """What is written nowhere but at the endpoint: its name, its docstring, its query."""
    name = operation.endpoint.__name__
    method = operation.method.lower()
    in_path = [
        {"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}
        for parameter in operation.in_path
    ]
    in_query = [] if operation.query is None else operation.query.parameters()
    answer: Mapping[str, Any] = {"application/json": {"schema": {}}}
    return {
        **({"security": []} if operation.auth is None else {}),
        "tags": [operation.tag],
        "summary": name.replace("_", " ").title(),
        "description": inspect.getdoc(operation.endpoint),
        "operationId": re.sub(r"\W", "_", f"{name}{path}_{method}"),
        "parameters": in_path + in_query,
        "responses": {
            "200": {"description": "The answer.", "content": _ANSWERS.get(path, answer)},
            "4XX": {"description": "OpenAI's error envelope."},
        },
    }


def _schemas() -> dict[str, Any]:
    """Those of all bodies and of what they refer to, by their names; pydantic sees to it that no
    two have the same one."""
    forms = [form for form, _ in _BODIES.values()]
    forms += [form for _, form in _FORMS.values() if form is not None]
    asked: list[tuple[type[BaseModel], Literal["validation"]]]
    asked = [(form, "validation") for form in dict.fromkeys(forms)]
    _, made = models_json_schema(asked, ref_template=_SCHEMAS + "{model}")
    found: dict[str, Any] = made["$defs"]
    return found


def _form(file: str, form: type[BaseModel] | None, schemas: dict[str, Any]) -> dict[str, Any]:
    """An object of a file and the fields of `form`."""
    if form is None:
        return {"type": "object", "properties": {file: _BINARY}, "required": [file]}
    body = schemas[form.__name__]
    properties, required = {file: _BINARY, **body["properties"]}, [file, *body["required"]]
    return {**body, "properties": properties, "required": required}


def _part(
    name: str, description: str, fields: Collection[str], schemas: dict[str, Any]
) -> dict[str, Any]:
    whole = schemas[CreateResponse.__name__]
    some = {key: value for key, value in whole["properties"].items() if key in fields}
    form = name.replace(" ", "")
    schemas[form] = {**whole, "title": form, "description": description, "properties": some}
    body = {"$ref": _SCHEMAS + form}
    answer = {"schema": {"type": "object"}}
    return {
        "tags": ["Responses"],
        "summary": name,
        "description": description,
        "operationId": name.lower().replace(" ", "_"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": answer}},
            "4XX": {"description": "OpenAI's error envelope."},
        },
    }


def _relayed(name: str, tag: str, schemas: dict[str, Any]) -> dict[str, Any]:
    named = {"type": "object", "properties": {"model": {"type": "string"}}, "required": ["model"]}
    schemas["Relayed"] = {**named, "title": "Relayed", "description": "Anything that has a model."}
    body = {"schema": {"$ref": _SCHEMAS + "Relayed"}}
    anything = {"schema": {"type": "object"}}
    return {
        "tags": [tag],
        "summary": name,
        "description": "Passed on to the backend of the model, and back, as it is.",
        "operationId": name.lower().replace(" ", "_"),
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": anything}},
            "4XX": {"description": "OpenAI's error envelope."},
        },
    }


def _create() -> dict[str, Any]:
    return {
        "tags": ["Responses"],
        "summary": "Create",
        "description": "Make a response: JSON, or server-sent events with `stream: true`.",
        "operationId": "create_response",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and body get the same response for 24 hours.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 255,
                    "pattern": "^[!-~]+$",
                },
            }
        ],
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
