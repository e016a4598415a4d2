"""Values that all model servers give, of the type that they must have. Pure.

Rule: a value of another type raises one of `reader.ANOTHER_SHAPE`.
"""

from typing import Any, Final

from antiphon.protocol.deltas import Logprob

#: OpenAI's "-9999.0 signifies that the token is very unlikely" (API reference, logprobs).
UNLIKELY: Final = -9999.0


def string_of(value: Any) -> str:
    """The value, if it is a string."""
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def token_of(token: Any, logprob: Any, spelled: Any = None) -> Logprob:
    """One token without alternatives; its bytes are added where the server left them out."""
    text = string_of(token)
    if spelled is None:
        spelled = text.encode()
    elif not isinstance(spelled, list):
        raise TypeError(type(spelled).__name__)
    if not isinstance(logprob, int | float):
        raise TypeError(type(logprob).__name__)
    return {
        "token": text,
        "bytes": list(bytes(spelled)),
        "logprob": float(logprob),
    }
