"""The library, as far as it is used here: any-llm, and the SDK of one provider below it.

Rules
1. Nothing of it is imported before a backend wants it, and then all of it, at the start: it takes
   seconds, in which nobody else must wait.
2. It retries nothing by itself: that is for `antiphon.backends.upstream`.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import ValidationError

from antiphon.backends.any_llm.cohere import meant
from antiphon.backends.any_llm.traits import Traits, traits_of

#: Longest wait of an SDK for bytes, beyond ours: it is the last resort.
_BEYOND: Final = 5.0


class Chunk(Protocol):
    """A ``chat.completion.chunk``."""

    def model_dump_json(self, *, exclude_none: bool) -> str:
        """As JSON."""
        ...


class Listed(Protocol):
    """A row of a model list."""

    id: str
    created: int
    owned_by: str


class Provider(Protocol):
    """An ``AnyLLM`` of one provider."""

    client: Any

    async def acompletion(self, **body: Any) -> AsyncGenerator[Chunk, None]:
        """A turn, streamed."""
        ...

    async def alist_models(self) -> Sequence[Listed]:
        """Its models."""
        ...


class Source(Protocol):
    """The connection that a blocking SDK reads from."""

    def shutdown(self) -> None:
        """Who reads from it, in whatever thread, reads its end."""
        ...

    def close(self) -> None:
        """Give it back to the system."""
        ...


@dataclass(frozen=True, slots=True)
class Library:
    """A provider that can be asked. `errors`: what it raises; `lists`: whether it has a list."""

    provider: Provider
    traits: Traits
    errors: tuple[type[Exception], ...]
    lists: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """How it is opened. `options`: more arguments of any-llm's class of the provider; `patience`:
    seconds that an SDK has to wait for bytes."""

    provider: str
    key: str | None = None
    address: str | None = None
    options: Mapping[str, Any] | None = None
    patience: float = 60.0


#: Told of the connection on which a call of a blocking SDK is answered.
SOURCE: Final[ContextVar[Callable[[Source], None]]] = ContextVar("source")


class NotOpenedError(Exception):
    """A provider cannot be asked like this: why."""


def opened(opening: Opening) -> Library:
    """The provider, ready to be asked. Raises ImportError when its SDK is missing, else
    `NotOpenedError`."""
    from any_llm import AnyLLM, AnyLLMError  # noqa: PLC0415
    from any_llm.providers.openai.base import BaseOpenAIProvider  # noqa: PLC0415

    errors = (AnyLLMError, ValidationError, NotImplementedError)
    try:
        kind = AnyLLM.get_provider_class(opening.provider)
        traits = traits_of(
            opening.provider,
            speaks_chat=issubclass(kind, BaseOpenAIProvider),
            reasons=kind.SUPPORTS_COMPLETION_REASONING,
            sees=kind.SUPPORTS_COMPLETION_IMAGE,
        )
        arguments = _arguments(opening, traits)
        if kind.MAX_RETRIES_SUPPORT != "unsupported":
            arguments["max_retries"] = 0
        provider = AnyLLM.create(
            opening.provider, api_key=opening.key, unified_exceptions=True, **arguments
        )
    except (*errors, TypeError, ValueError) as error:
        raise NotOpenedError(str(error)) from error
    if not kind.SUPPORTS_COMPLETION_STREAMING:
        raise NotOpenedError(f"any-llm cannot stream from '{opening.provider}'")
    if opening.provider == "cohere":
        provider.client.chat_stream = meant(provider.client.chat_stream)
    if traits.blocks:
        provider.client.meta.events.register("after-call.*.*", _tell_source)
    return Library(provider, traits, errors, kind.SUPPORTS_LIST_MODELS)


def _arguments(opening: Opening, traits: Traits) -> dict[str, Any]:
    """Of the class of the provider; those of the configuration come last."""
    arguments: dict[str, Any] = {}
    if opening.address is not None:
        if traits.address is None:
            raise NotOpenedError(f"any-llm takes no base_url for '{opening.provider}'")
        arguments[traits.address] = opening.address
    if traits.blocks:
        arguments["config"] = _aws_config(opening.patience)
    return {**arguments, **(opening.options or {})}


def _aws_config(patience: float) -> Any:
    from botocore.config import Config  # noqa: PLC0415

    return Config(
        read_timeout=patience + _BEYOND,
        connect_timeout=patience + _BEYOND,
        retries={"total_max_attempts": 1},
        max_pool_connections=1024,
    )


def _tell_source(http_response: Any, **_: Any) -> None:
    tell = SOURCE.get(None)
    if tell is not None:
        tell(http_response.raw)
