"""Backends by way of the library any-llm."""

import os
import time
from importlib.util import find_spec
from typing import Final

import structlog

from antiphon.backends.any_llm.backend import AnyLLM
from antiphon.backends.any_llm.library import Library, NotOpenedError, Opening, opened
from antiphon.backends.base import Backend
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.config import BackendConfig, ConfigError, key_of

_log = structlog.get_logger(__name__)

#: Keys that the library has no place for.
_OF_SERVERS: Final = ("connect_timeout", "client_key", "headers", "profile")


def any_llm_of(entry: BackendConfig) -> Backend:
    """The backend; any-llm and the SDK of its provider are imported here. Raises `ConfigError`."""
    where = f"backend '{entry.name}'"
    if entry.provider is None:
        raise ConfigError(f"{where} needs a provider")
    if extra := [key for key in _OF_SERVERS if key in entry.model_fields_set]:
        raise ConfigError(f"{where}: '{extra[0]}' is not for kind 'any_llm'")
    key = key_of(where, entry.api_key_env, os.environ)
    config = UpstreamConfig(
        name=entry.name,
        base_url=entry.base_url or "",
        api_key=key,
        windows=entry.windows,
        vision=entry.seeing,
        json_schema=entry.having_schemas,
        first_byte_timeout=entry.first_byte_timeout,
        idle_timeout=entry.idle_timeout,
        total_timeout=entry.total_timeout,
        max_retries=entry.max_retries,
        max_concurrency=entry.max_concurrency,
        breaker=BreakerSettings(entry.breaker_failures, entry.breaker_cool_down),
    )
    patience = max(entry.first_byte_timeout, entry.idle_timeout)
    opening = Opening(entry.provider, key, entry.base_url, entry.options, patience)
    return AnyLLM(config, _opened(opening, where), entry.think)


def _opened(opening: Opening, where: str) -> Library:
    if find_spec("any_llm") is None:
        raise ConfigError(
            f"{where}: the package 'any-llm-sdk' is missing: pip install 'antiphon[any-llm]'"
        )
    began = time.monotonic()
    try:
        library = opened(opening)
    except ImportError as error:
        raise ConfigError(
            f"{where}: its SDK is missing: pip install 'any-llm-sdk[{opening.provider}]' ({error})"
        ) from None
    except NotOpenedError as error:
        raise ConfigError(f"{where}: {error}") from None
    _log.info(
        "any_llm_opened", provider=opening.provider, seconds=round(time.monotonic() - began, 1)
    )
    return library
