"""The interactive description at ``/docs``: the plain ASGI routes are added by hand."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

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


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        paths = document["paths"]
        document["paths"] = {_CREATE: {**paths.pop(_CREATE), "post": _create()}, **paths}
        for path, (form, required) in _BODIES.items():
            body = form.model_json_schema(ref_template=_SCHEMAS + "{model}")
            schemas.update(body.pop("$defs", {}))
            schemas[form.__name__] = body
            document["paths"][path]["post"]["requestBody"] = {
                "required": required,
                "content": {"application/json": {"schema": {"$ref": _SCHEMAS + form.__name__}}},
            }
        for path, (file, fields_of) in _FORMS.items():
            schema = _form(file, fields_of, schemas)
            body = document["paths"][path]["post"].setdefault("requestBody", {"content": {}})
            body["required"] = True
            body["content"]["multipart/form-data"] = {"schema": schema}
        for path, (name, description, fields) in _PARTS.items():
            document["paths"][path] = {"post": _part(name, description, fields, schemas)}
        for path, (name, tag) in _RELAYED.items():
            document["paths"][path] = {"post": _relayed(name, tag, schemas)}
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = document
    return app.openapi_schema


def _form(file: str, form: type[BaseModel] | None, schemas: dict[str, Any]) -> dict[str, Any]:
    """An object of a file and the fields of `form`."""
    if form is None:
        return {"type": "object", "properties": {file: _BINARY}, "required": [file]}
    body = form.model_json_schema(ref_template=_SCHEMAS + "{model}")
    schemas.update(body.pop("$defs", {}))
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
