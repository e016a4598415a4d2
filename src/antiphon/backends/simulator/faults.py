"""How upstreams fail: kind → the error that the chat-completions backend raises for it.

Rules
1. Before the first token nothing was spent and the client may try again; afterwards
   `should_retry` is false (R-52).
2. A 401 of an upstream is the operator's fault, not the client's (R-41).
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    ModelNotFound,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)

#: The model's name → the error.
_Error: TypeAlias = Callable[[str], APIError]


class Fault(NamedTuple):
    """One way to fail."""

    before: _Error
    after: _Error
    #: Tokens that come first when the directive does not say.
    tokens: int = 0


def _broken(_: str) -> APIError:
    return UpstreamError()


def _cut(_: str) -> APIError:
    return UpstreamError(should_retry=False)


def _too_long(_: str) -> APIError:
    return ContextLengthExceeded()


FAULTS: Final[dict[str, Fault]] = {
    "401": Fault(_broken, _cut),
    "404": Fault(ModelNotFound, _cut),
    "429": Fault(
        lambda _: RateLimitError(retry_after=1), lambda _: RateLimitError(should_retry=False)
    ),
    "500": Fault(_broken, _cut),
    "context": Fault(_too_long, _too_long),
    "cut": Fault(_cut, _cut, tokens=1),
    "empty": Fault(_broken, _cut),
    "error": Fault(_cut, _cut),
    "html": Fault(_broken, _cut),
    "timeout": Fault(lambda _: UpstreamTimeout(), lambda _: UpstreamTimeout(should_retry=False)),
}
