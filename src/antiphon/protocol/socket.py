"""What is said on a WebSocket beside the events of a log (spec §2.6, App. E). Pure.

Rules
1. One JSON object a message. What a client says is `Create` or `Steer`; everything else is an error
   frame, and the connection stays open.
2. A ``response.create`` has the parameters of ``POST /v1/responses``, checked by the same code with
   the same texts, and `type`, `stream_id`, `generate`. Its lane is known before anything else of it
   is checked, so that what is wrong with it is said in its turn.
3. It is always streamed and never in the background: who asks for anything else is told.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from antiphon.errors import APIError, InvalidRequestError, UnsupportedParameter
from antiphon.protocol.bodies import parse_object
from antiphon.protocol.request import CreateResponse, check_request
from antiphon.protocol.validation import echo, invalid_type, missing, unknown

Json: TypeAlias = dict[str, Any]

_CREATE: Final = "response.create"
_STEER: Final = "response.steer"
_STEER_FIELDS: Final = frozenset({"type", "previous_response_id", "input"})
_STREAM_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}\Z")
_BAD_STREAM_ID: Final = (
    "The 'stream_id' field must be a non-empty string with at most 256 characters and may only "
    "contain letters, numbers, underscores, hyphens, and periods."
)
#: Fields of an HTTP answer that mean nothing in a frame.
_OF_HTTP: Final = frozenset({"connection", "www-authenticate"})


@dataclass(frozen=True, slots=True)
class Create:
    """``response.create``: `body` has only what ``POST /v1/responses`` may have, not yet checked.
    The nameless lane is ""."""

    body: Json
    stream_id: str
    generate: object

    @property
    def previous_response_id(self) -> str:
        """What it continues, if it says so; else ""."""
        named = self.body.get("previous_response_id")
        return named if isinstance(named, str) else ""

    def request(self) -> tuple[CreateResponse, bool]:
        """The request, and whether anything is to be generated. Raises `InvalidRequestError`."""
        generate = True if self.generate is None else self.generate
        if not isinstance(generate, bool):
            raise invalid_type("generate", "a boolean", generate)
        if self.body.get("background") is True:
            raise _unsupported("background", "Send it to POST /v1/responses.")
        stream = self.body.get("stream")
        if stream is False:
            raise _unsupported("stream", "Events are always streamed here.")
        request = check_request({**self.body, "stream": True if stream is None else stream})
        prewarm = (request.prompt_cache_options or {}).get("prewarm")
        return request, generate and not prewarm


@dataclass(frozen=True, slots=True)
class Steer:
    """``response.steer``: more input for a response that is being made."""

    previous_response_id: str
    input: Any

    def failed(self) -> bytes:
        """``response.steer.failed``: no model here can be steered."""
        steer = {"previous_response_id": self.previous_response_id, "input": self.input}
        error = {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "Steering is not supported by this server.",
        }
        event = {"type": "response.steer.failed", "sequence_number": 0}
        return orjson.dumps({**event, "steer": steer, "error": error})


ClientEvent: TypeAlias = Create | Steer


def parse_event(raw: bytes) -> ClientEvent:
    """What a client says. Raises `InvalidRequestError`."""
    event = parse_object(raw)
    if "type" not in event:
        raise missing("type")
    match event.pop("type"):
        case "response.create":
            stream_id = _stream_id(event.pop("stream_id", None))
            return Create(event, stream_id, event.pop("generate", None))
        case "response.steer":
            return _steer(event)
        case str(other):
            raise InvalidRequestError(
                f"Invalid value: '{echo(other)}'. Supported values are: '{_CREATE}' and "
                f"'{_STEER}'.",
                param="type",
                code="invalid_value",
            )
        case other:
            raise invalid_type("type", "a string", other)


def _stream_id(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _STREAM_ID.match(value):
        raise InvalidRequestError(_BAD_STREAM_ID, param="stream_id", code="invalid_stream_id")
    return value


def _steer(event: Json) -> Steer:
    for name in event:
        if name not in _STEER_FIELDS:
            raise unknown(echo(name))
    for name in ("previous_response_id", "input"):
        if event.get(name) is None:
            raise missing(name)
    response_id = event["previous_response_id"]
    if not isinstance(response_id, str):
        raise invalid_type("previous_response_id", "a string", response_id)
    return Steer(response_id, event["input"])


def _unsupported(name: str, instead: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"The '{name}' parameter is not supported with this value over a WebSocket. {instead}",
        param=name,
    )


def error_frame(error: APIError, stream_id: str = "") -> bytes:
    """``error``: why nothing came of an event, with the fields that an HTTP answer would have; here
    `code` is never null (spec §10)."""
    said: Json = {**error.body()["error"]}
    said["code"] = said["code"] or said["type"]
    headers = {name: text for name, text in error.headers().items() if name not in _OF_HTTP}
    if headers:
        said["headers"] = headers
    frame: Json = {"type": "error", "status": error.status, "error": said}
    if stream_id:
        frame["stream_id"] = stream_id
    return orjson.dumps(frame)


def in_lane(event: bytes, stream_id: str) -> bytes:
    """An encoded event as its lane says it: with the lane's name, if it has one."""
    if not stream_id:
        return event
    return b'%b,"stream_id":"%b"}' % (event[:-1], stream_id.encode())


# -- errors that only a WebSocket has ------------------------------------------------------------


def too_many_streams(most: int) -> InvalidRequestError:
    """The connection has used `most` stream ids, and here is another one."""
    return InvalidRequestError(
        f"This WebSocket connection has reached its maximum number of distinct stream IDs ({most})."
        " Reuse an existing stream_id or open a new WebSocket connection.",
        param="stream_id",
        code="websocket_stream_limit_reached",
    )


def time_is_over(minutes: float) -> InvalidRequestError:
    """The connection has lasted as long as one may."""
    return InvalidRequestError(
        f"Responses websocket connection limit reached ({minutes:g} minutes). Create a new "
        "websocket connection to continue.",
        code="websocket_connection_limit_reached",
    )


def not_text() -> InvalidRequestError:
    """A binary message."""
    return InvalidRequestError("Invalid message: expected text, but got binary content.")
