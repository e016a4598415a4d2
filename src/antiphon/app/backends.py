"""The backends of the configuration, and those that are found without one.

Adapters of the large providers are loaded when the configuration has one (tests/test_start.py).
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import structlog

from antiphon.api.auth import KEY_PREFIX, hash_key, parse_keys
from antiphon.app.local import local_of, located, models_folder
from antiphon.backends.anthropic import BASE_URL as ANTHROPIC
from antiphon.backends.anthropic.profiles import is_known
from antiphon.backends.base import Backend, Relay
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.discovery import discover
from antiphon.backends.fallback import Target
from antiphon.backends.gemini import BASE_URL as GOOGLE
from antiphon.backends.local.backend import Local
from antiphon.backends.profiles import PROFILES
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.responses import BASE_URL as OPENAI
from antiphon.backends.responses.backend import Responses
from antiphon.backends.routing import Route
from antiphon.backends.simulator.backend import Simulator
from antiphon.backends.upstream import UpstreamConfig
from antiphon.config import (
    BackendConfig,
    Config,
    ConfigError,
    RouteConfig,
    TargetConfig,
    key_of,
)
from antiphon.config.values import base_url
from antiphon.settings import Settings

#: Kinds whose servers have chat completions and embeddings.
_RELAYS: Final = (ChatCompletions, Local, Responses)

log = structlog.get_logger(__name__)

#: What OpenAI's own models are called.
_OPENAI_MODELS: Final = ("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "ft:*")


def backends_of(
    settings: Settings, config: Config | None
) -> list[tuple[Backend, Mapping[str, str]]]:
    """Every backend with the names that lead to it; the simulator is always the last."""
    table: list[tuple[Backend, Mapping[str, str]]] = []
    if config is not None:
        folder = models_folder(settings)
        entries = [located(entry, folder) for entry in config.backends]
        table += [(KINDS[entry.kind](entry), entry.models) for entry in entries]
    else:
        table += _without_config(settings)
    if not any(backend.name == "simulator" for backend, _ in table):
        table.append((Simulator(), {"simulator": "simulator"}))
    return table


def relays_of(table: list[tuple[Backend, Mapping[str, str]]]) -> dict[str, Relay]:
    """Backends whose servers have endpoints that are passed on, by their names."""
    return {backend.name: backend for backend, _ in table if isinstance(backend, _RELAYS)}


def routes_of(config: Config | None, table: list[tuple[Backend, Mapping[str, str]]]) -> list[Route]:
    """The routes of the configuration. Raises `ConfigError`."""
    if config is None:
        return []
    backends = {backend.name: backend for backend, _ in table}
    for entry in config.routes:
        _check_keys(entry, config.backends)
        _check_tools(entry, config.backends)

    def targets(entries: list[TargetConfig]) -> list[Target]:
        return [Target(backends[entry.backend], entry.model) for entry in entries]

    return [
        Route(
            entry.model,
            targets(entry.targets),
            [target.weight for target in entry.targets],
            targets(entry.fallbacks),
            entry.first_byte_timeout,
        )
        for entry in config.routes
    ]


def _check_keys(route: RouteConfig, backends: Iterable[BackendConfig]) -> None:
    """A client's key is for one server, and its bill is the client's: a route may neither take it
    to another one nor go on at the operator's expense."""
    named = {target.backend for target in (*route.targets, *route.fallbacks)}
    taking = [entry for entry in backends if entry.name in named and entry.client_key]
    if not taking:
        return
    if len(taking) < len(named):
        raise ConfigError(
            f"route '{route.model}' leads to backends with and without client_key: who brings a "
            "key would be answered at your expense"
        )
    servers = {urlsplit(entry.base_url or _ADDRESSES.get(entry.kind, ""))[:2] for entry in taking}
    if len(servers) > 1:
        raise ConfigError(
            f"route '{route.model}' leads to backends with client_key on several servers: a key "
            "for one would go to another"
        )


def _check_tools(route: RouteConfig, backends: Iterable[BackendConfig]) -> None:
    """Which of the targets is asked is chance: where a tool runs is none."""
    named = {target.backend for target in route.targets}
    if len({frozenset(entry.hosted_tools) for entry in backends if entry.name in named}) > 1:
        raise ConfigError(
            f"route '{route.model}' has targets with different hosted_tools: a tool would run now "
            "here, now there"
        )


def _without_config(settings: Settings) -> list[tuple[Backend, Mapping[str, str]]]:
    table: list[tuple[Backend, Mapping[str, str]]] = []
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if key and _is_our_own(key, settings):
        log.info("openai_api_key_ignored", reason="it is a key of this server")
    elif key:
        openai = ChatCompletions(
            UpstreamConfig(
                name="openai",
                base_url=_openai(),
                api_key=key,
                profile="openai",
            )
        )
        table.append((openai, {name: name for name in _OPENAI_MODELS}))
    for server in discover(settings.port) if settings.discover else ():
        backend = ChatCompletions(
            UpstreamConfig(name=server.profile, base_url=server.base_url, profile=server.profile)
        )
        log.info("found_model_server", server=server.profile, models=list(server.models))
        # Exact names first; the wildcard is for models that it gets later.
        table.append((backend, {**{name: name for name in server.models}, "*": "*"}))
    return table


def _openai() -> str:
    """Where OpenAI is, for its own SDKs too. Raises `ConfigError`."""
    try:
        return base_url(os.environ.get("OPENAI_BASE_URL") or OPENAI)
    except ValueError as error:
        raise ConfigError(f"OPENAI_BASE_URL: {error}") from None


def _is_our_own(key: str, settings: Settings) -> bool:
    """Clients have our keys under OpenAI's name, often in the shell that the server starts from:
    such a key must not be sent to OpenAI (R-92)."""
    return key.startswith(KEY_PREFIX) or hash_key(key) in parse_keys(settings.api_keys)


def _server(entry: BackendConfig) -> UpstreamConfig:
    """Where its server is, and how that is asked. Raises `ConfigError`."""
    key = key_of(f"backend '{entry.name}'", entry.api_key_env, os.environ)
    if entry.think is not None and entry.kind != "chat_completions":
        kinds = "kinds 'chat_completions' and 'any_llm'"
        raise ConfigError(f"backend '{entry.name}': 'think' is for {kinds}")
    is_profile, there_are = _PROFILES.get(entry.kind, _NO_PROFILES)
    if entry.profile is not None and not is_profile(entry.profile):
        raise ConfigError(
            f"backend '{entry.name}': no profile '{entry.profile}'; there are {there_are}"
        )
    keys = key or entry.headers or entry.client_key
    if entry.base_url is None and not keys:
        raise ConfigError(f"backend '{entry.name}' needs an api_key_env")
    return UpstreamConfig(
        name=entry.name,
        base_url=entry.base_url or _ADDRESSES[entry.kind],
        api_key=key,
        client_key=entry.client_key,
        account=None if entry.headers else entry.api_key_env,
        profile=entry.profile,
        headers=entry.headers,
        windows=entry.windows,
        vision=entry.seeing,
        json_schema=entry.having_schemas,
        hosted_tools=frozenset(entry.hosted_tools),
        connect_timeout=entry.connect_timeout,
        first_byte_timeout=entry.first_byte_timeout,
        idle_timeout=entry.idle_timeout,
        total_timeout=entry.total_timeout,
        max_retries=entry.max_retries,
        max_concurrency=entry.max_concurrency,
        breaker=BreakerSettings(entry.breaker_failures, entry.breaker_cool_down),
    )


def _anthropic(entry: BackendConfig) -> Backend:
    from antiphon.backends.anthropic.backend import Anthropic  # noqa: PLC0415

    return Anthropic(_server(entry))


def _simulator(entry: BackendConfig) -> Backend:
    if extra := sorted(entry.model_fields_set - _OF_SIMULATORS):
        raise ConfigError(f"backend '{entry.name}': '{extra[0]}' is not for kind 'simulator'")
    return Simulator(entry.name, entry.windows)


def _any_llm(entry: BackendConfig) -> Backend:
    from antiphon.app.any_llm import any_llm_of  # noqa: PLC0415

    return any_llm_of(entry)


def _gemini(entry: BackendConfig) -> Backend:
    from antiphon.backends.gemini.backend import Gemini  # noqa: PLC0415

    return Gemini(_server(entry))


#: What the configuration says of a simulator.
_OF_SIMULATORS: Final = frozenset({"name", "kind", "models", "context_window"})
#: Whether a name is a profile, and which there are.
_Profiles: TypeAlias = tuple[Callable[[str], bool], str]
_SERVERS: Final[_Profiles] = (PROFILES.__contains__, ", ".join(PROFILES))
_NO_PROFILES: Final[_Profiles] = (lambda _: False, "none for this kind")
#: Kind in the configuration → its profiles.
_PROFILES: Final[Mapping[str, _Profiles]] = {
    "anthropic": (is_known, "the names of all Claude models"),
    "chat_completions": _SERVERS,
    "responses": _SERVERS,
}
#: Kind in the configuration → where its server is, unless the entry says so.
_ADDRESSES: Final[Mapping[str, str]] = {
    "anthropic": ANTHROPIC,
    "gemini": GOOGLE,
    "responses": OPENAI,
}
#: Kind in the configuration → how it is made. A new backend is one line here.
KINDS: Final[Mapping[str, Callable[[BackendConfig], Backend]]] = {
    "anthropic": _anthropic,
    "any_llm": _any_llm,
    "chat_completions": lambda entry: ChatCompletions(_server(entry), entry.think),
    "gemini": _gemini,
    "local": local_of,
    "responses": lambda entry: Responses(_server(entry)),
    "simulator": _simulator,
}
