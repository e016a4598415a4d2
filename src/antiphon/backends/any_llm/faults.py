"""What any-llm and the SDKs below it raise → an answer as a server would have given it. Pure.

Rules
1. A status counts, and what the provider says with it. any-llm's class tells more only where there
   is a status or where any-llm itself has refused; else it is a guess by the words of the message.
2. Without a status it was not the provider who refused: what Python or an SDK says of its arguments
   before anything was sent is about the request; all else is a broken connection.
3. The text goes to where it is matched and logged, never to a client (`chat_completions.faults`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

#: What any-llm itself says, without having asked the provider → as a status.
_OWN: Final[Mapping[str, int]] = {
    "AuthenticationError": 401,
    "ContentFilterError": 400,
    "ContextLengthExceededError": 400,
    "InvalidRequestError": 400,
    "MissingApiKeyError": 401,
    "ModelNotFoundError": 404,
    "RateLimitError": 429,
    "UnsupportedParameterError": 400,
}
#: What AWS says in the middle of a stream, where there is no status; and what its statuses hide.
_AWS: Final[Mapping[str, int]] = {
    "AccessDeniedException": 403,
    "InternalServerException": 500,
    "ModelErrorException": 500,
    "ModelStreamErrorException": 500,
    "ModelTimeoutException": 504,
    "ResourceNotFoundException": 404,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "ValidationException": 400,
}
_CODES: Final[Mapping[str, str]] = {
    "ContentFilterError": "content_filter",
    "ContextLengthExceededError": "context_length_exceeded",
}
#: The words of Cohere and of the models at Bedrock.
_TOO_LONG: Final = re.compile(
    r"too many (input )?tokens|input is too long|input tokens? exceed", re.IGNORECASE
)
_NO_MODEL: Final = re.compile(r"model identifier is invalid", re.IGNORECASE)
#: any-llm's names of parameters, where they are none of chat completions.
_PARAMS: Final[Mapping[str, str]] = {"strict": "tools", "file content": "input"}


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure as a server says it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def fault_of(error: Exception, *, early: bool) -> Fault | OSError:
    """`early`: nothing had come yet. An `OSError` is a connection that broke, or took too long."""
    kind = type(error).__name__
    status = _status(error, kind)
    if status is None and early and _is_of_arguments(error):
        status = 400
    if status is None or 200 <= status < 400:
        return _broken(error)
    said = {"message": _message(error), "type": kind, **_details(error, kind, status)}
    return Fault(status, orjson.dumps({"error": said}), _headers(error))


def event_of(fault: Fault) -> bytes:
    """The same in the middle of a stream."""
    error = orjson.loads(fault.body)["error"]
    error.setdefault("code", str(fault.status))
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def _status(error: Exception, kind: str) -> int | None:
    match error:
        case object(original_exception=object(response={"Error": {"Code": str(code)}})) if (
            code in _AWS
        ):
            return _AWS[code]
        case object(
            original_exception=object(
                response={"ResponseMetadata": {"HTTPStatusCode": int(status)}}
            )
        ):
            return status
        case object(status_code=int(status)):
            return status
        case object(original_exception=None):
            return _OWN.get(kind)
    return None


def _is_of_arguments(error: Exception) -> bool:
    """What Python, pydantic or botocore say of what they are given."""
    match error:
        case ValueError() | NotImplementedError():
            return True
        case object(original_exception=Exception() as original):
            named = type(original).__name__ == "ParamValidationError"
            return named or isinstance(original, TypeError | ValueError)
    return False


def _details(error: Exception, kind: str, status: int) -> dict[str, Any]:
    """`code` and `param` in OpenAI's words."""
    text = _message(error)
    said: dict[str, Any] = {}
    match error:
        case object(parameter_name=str(name)):
            said["param"] = _PARAMS.get(name, name.partition(" ")[0])
        case object(param=str(name)):
            said["param"] = name
    if status in (400, 422):
        if kind in _CODES:
            said["code"] = _CODES[kind]
        elif _TOO_LONG.search(text):
            said["code"] = "context_length_exceeded"
        elif _NO_MODEL.search(text):
            said["code"] = "model_not_found"
    return said


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case object(retry_after=str(seconds)):
            return {"retry-after": seconds}
        case object(
            original_exception=object(response={"ResponseMetadata": {"HTTPHeaders": dict(headers)}})
        ):
            return {name: value for name, value in headers.items() if name == "retry-after"}
    return {}


def _message(error: Exception) -> str:
    match error:
        case object(message=str(message)):
            return message
    return str(error)


def _broken(error: Exception) -> OSError:
    match error:
        case object(original_exception=Exception() as original):
            error = original
    late = any("Timeout" in base.__name__ for base in type(error).__mro__)
    detail = f"{type(error).__name__}: {error}"
    return TimeoutError(detail) if late else ConnectionError(detail)
