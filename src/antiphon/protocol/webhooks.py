"""Webhooks on the wire: names of events, request bodies, secrets, signatures (spec §2.5, App. H).

Rules
1. Everybody may ask for any event that OpenAI has; `FIRED` are those that happen here.
2. Signatures are those of Standard Webhooks: HMAC-SHA256 over ``id.timestamp.body``. By hand: the
   library takes the time as a naive `datetime` and the body as text, so it would be more code.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Final, Literal, TypeAlias, get_args

import orjson
from pydantic import BaseModel, Field, StringConstraints

from antiphon.protocol.fields import CLOSED, NO_NUL_PATTERN

EventType: TypeAlias = Literal[
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "realtime.call.incoming",
    "video.completed",
    "video.failed",
    "agent.environment.ready",
    "agent.environment.failed",
    "agent.environment.suspended",
    "agent.environment.expired",
    "agent.session.created",
    "agent.session.action_required",
    "agent.session.in_progress",
    "agent.session.idle",
    "agent.session.failed",
    "safety.alert.created",
]
#: The events of background responses, ``response.`` and the status in which one ends.
FIRED: Final[tuple[str, ...]] = tuple(
    name for name in get_args(EventType) if name.startswith("response.")
)
PREFIX: Final = "whsec_"
#: Our own limits, where OpenAI publishes none.
MAX_NAME: Final = 256
MAX_URL: Final = 2_048

_Name: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=NO_NUL_PATTERN)
]
#: What it looks like is checked by who sends to it.
_Url: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
_Types: TypeAlias = Annotated[
    list[EventType], Field(min_length=1, max_length=len(get_args(EventType)), fail_fast=True)
]


class NewEndpoint(BaseModel):
    """The body of ``POST /v1/webhook_endpoints``."""

    model_config = CLOSED

    name: _Name
    url: _Url
    event_types: _Types


class ChangedEndpoint(BaseModel):
    """The body of ``POST /v1/webhook_endpoints/{id}``; null is the same as absent."""

    model_config = CLOSED

    name: _Name | None = None
    url: _Url | None = None
    event_types: _Types | None = None


class Rotation(BaseModel):
    """The body of ``POST /v1/webhook_endpoints/{id}/rotate_secret``."""

    model_config = CLOSED

    keep_old_secret_active_for_24_hours: bool | None = None


class Trial(BaseModel):
    """The body of ``POST /v1/webhook_endpoints/{id}/test``."""

    model_config = CLOSED

    event_type: EventType


def event_body(id_: str, type_: str, created_at: int, subject: str) -> bytes:
    """The event itself; `subject` is the id of what it happened to."""
    return orjson.dumps(
        {
            "id": id_,
            "object": "event",
            "type": type_,
            "created_at": created_at,
            "data": {"id": subject},
        }
    )


def signing_key(secret: str) -> bytes:
    """The bytes that sign. A secret without the prefix is what it says, as for OpenAI's SDKs.
    Raises ValueError."""
    if not secret.startswith(PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error as error:
            raise ValueError(f"what follows {PREFIX} is not base64") from error
    if len(key) < 16:
        raise ValueError("a secret has at least 16 bytes")
    return key


def secret_of(key: bytes) -> str:
    """A secret as it is shown."""
    return PREFIX + base64.b64encode(key).decode()


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """One entry of ``webhook-signature``; times in Unix seconds."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return (
        "v1," + base64.b64encode(hmac.digest(signing_key(secret), signed, hashlib.sha256)).decode()
    )
