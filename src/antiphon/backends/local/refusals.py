"""What a model here is never sent, whichever way it comes. Pure.

Rules
1. llama.cpp makes a grammar of a schema with all turns waiting; of a list of 20,000 words it does
   so for hours. What is larger than `_MOST_SCHEMA` is refused.
2. It fetches whatever address an image or a sound has, and nothing keeps it from that: they come as
   bytes (R-83).
3. A model that makes vectors would talk, too, but say nothing; one that talks makes none.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from antiphon.backends.base import RelayPath
from antiphon.errors import InvalidRequestError, UnsupportedParameter
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.content import PARTS_IN, seen_of
from antiphon.protocol.request import CreateResponse

#: Bytes of a schema.
_MOST_SCHEMA: Final = 32 * 1024
#: Of chat completions: what becomes a grammar, or is one.
_GRAMMARS: Final = ("grammar", "json_schema", "response_format")
#: How an address begins that llama.cpp fetches.
_FETCHED: Final = ("http", "file:")


def refuse_task(path: RelayPath, *, vectors: bool) -> None:
    """Raise `InvalidRequestError` for what the model is not made for. `vectors`: it makes them."""
    if vectors and path != "/embeddings":
        raise InvalidRequestError(
            "This model makes vectors and does not talk: use it at /v1/embeddings.",
            param="model",
            code="unsupported_value",
        )
    if not vectors and path == "/embeddings":
        raise InvalidRequestError(
            "This model talks and makes no vectors: /v1/embeddings needs a model file that does.",
            param="model",
            code="unsupported_value",
        )


def refuse_long_schemas(request: CreateResponse) -> None:
    """Raise `InvalidRequestError` for a schema that would take too long (rule 1)."""
    schema = ((request.text or {}).get("format") or {}).get("schema")
    _refuse_long("text.format.schema", schema)
    for i, tool in enumerate(request.tools or ()):
        _refuse_long(f"tools[{i}].parameters", tool.get("parameters"))


def refuse_addresses(items: Sequence[Item]) -> None:
    """Raise `InvalidRequestError` for a sound that is an address; what has one among the images the
    engine has fetched."""
    for item in items:
        parts = item.get(PARTS_IN.get(item["type"], ""), "")
        for part in () if isinstance(parts, str) else map(seen_of, parts):
            if part["type"] == "input_audio":
                _refuse_address("input", part["input_audio"])


def refuse_relayed(body: dict[str, Any]) -> None:
    """Raise `InvalidRequestError` for a body of chat completions, or of embeddings, with something
    that the model must not get, or would not heed."""
    if body.get("dimensions") is not None:
        raise UnsupportedParameter(
            "Unsupported parameter: 'dimensions' is not supported with this model, whose vectors "
            "have one length.",
            param="dimensions",
        )
    for param in _GRAMMARS:
        _refuse_long(param, body.get(param))
    for i, tool in enumerate(_listed(body.get("tools"))):
        _refuse_long(f"tools[{i}]", tool)
    for path, part in _parts(body):
        for source in part.values():
            _refuse_address(path, source)


def _parts(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in the contents of messages, with their paths."""
    for i, message in enumerate(_listed(body.get("messages"))):
        content = message.get("content") if isinstance(message, dict) else None
        for j, part in enumerate(_listed(content)):
            if isinstance(part, dict):
                yield f"messages[{i}].content[{j}]", part


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _refuse_long(param: str, schema: object) -> None:
    if schema is not None and len(orjson.dumps(schema)) > _MOST_SCHEMA:
        raise InvalidRequestError(
            f"Schemas of more than {_MOST_SCHEMA:,} bytes are not taken by this model backend.",
            param=param,
        )


def _refuse_address(param: str, source: object) -> None:
    """`source`: what a part has under its kind: ``{"url": ...}``, ``{"data": ...}``."""
    values = source.values() if isinstance(source, dict) else ()
    if any(isinstance(value, str) and value.lower().startswith(_FETCHED) for value in values):
        raise InvalidRequestError(
            "This model backend takes images and sounds inline only, and fetches nothing.",
            param=param,
            code="unsupported_value",
        )
