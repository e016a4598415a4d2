"""Antiphon: puts the pieces together. The only module that knows concrete classes.

Rules
1. What lives as long as the server is opened in `working` and closed there in opposite order.
2. Starting needs no network: discovery asks loopback ports, briefly, and only without a
   configuration file.
3. There is always a key: when none is configured and none was ever made, the start makes one.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from antiphon import __version__
from antiphon.api.auth import (
    DEFAULT_PROJECT,
    KEY_PREFIX,
    PROJECT_RULE,
    Authenticator,
    hash_key,
    is_project,
    key_hint,
    new_key,
    parse_keys,
)
from antiphon.api.compact import compacting
from antiphon.api.conversations import ConversationEndpoints
from antiphon.api.create import CreateEndpoint, CreateOptions
from antiphon.api.errors import EXCEPTION_HANDLERS
from antiphon.api.headers import Edge
from antiphon.api.health import Check, Health, InThread
from antiphon.api.input_tokens import PATH as INPUT_TOKENS
from antiphon.api.input_tokens import counting_tokens
from antiphon.api.lanes import LaneLimits
from antiphon.api.limits import WireLimits
from antiphon.api.models import Models
from antiphon.api.openapi import describe
from antiphon.api.prompts import PromptEndpoints
from antiphon.api.responses import StoredResponses
from antiphon.api.socket import SocketEndpoint, SocketOptions
from antiphon.api.streams import Heartbeat
from antiphon.api.webhooks import WebhookEndpoints
from antiphon.backends.base import Backend
from antiphon.backends.chat_completions.backend import ChatCompletions, ChatCompletionsConfig
from antiphon.backends.discovery import discover
from antiphon.backends.profiles import PROFILES
from antiphon.backends.routing import TableRouter
from antiphon.backends.simulator.backend import Simulator
from antiphon.config import (
    BackendConfig,
    Config,
    ConfigError,
    WebhookConfig,
    WebSearchConfig,
    load_config,
)
from antiphon.egress import Egress, Policy
from antiphon.engine.calls import ToolLimits
from antiphon.engine.conversations import ConversationService
from antiphon.engine.endings import Retention
from antiphon.engine.jobs import JobOptions
from antiphon.engine.metrics import REGISTRY, watch_loop
from antiphon.engine.runner import Engine, EngineOptions
from antiphon.engine.sealing import parse_encryption_keys
from antiphon.engine.webhooks import Deliverer, DeliveryOptions
from antiphon.errors import APIError
from antiphon.protocol.webhooks import FIRED, signing_key
from antiphon.settings import Settings
from antiphon.store.base import Endpoint, KeyRow, Store, StoreError
from antiphon.store.migrate import is_current
from antiphon.store.registry import open_store
from antiphon.store.sqlite import path_of
from antiphon.tools.base import Tool
from antiphon.tools.mcp.servers import configured
from antiphon.tools.mcp.tool import Mcp
from antiphon.tools.web.providers import provider_from
from antiphon.tools.web.tool import TYPES as WEB_SEARCH
from antiphon.tools.web.tool import WebSearch, WebSearchOptions

log = structlog.get_logger(__name__)

CREATE: Final = "/v1/responses"

#: Seconds between two sweeps of expired responses, and rows of one step (R-137).
_SWEEP_EVERY: Final = 600.0
_SWEEP_ROWS: Final = 500

#: Seconds for terminal events and rows after the grace period.
_LAST_WORDS: Final = 3

#: What OpenAI's own models are called.
_OPENAI_MODELS: Final = ("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "ft:*")


class Antiphon:
    """The server: `asgi` is the application."""

    def __init__(self, settings: Settings, tools: Mapping[str, Tool] | None = None) -> None:
        """Raises `ConfigError` or ValueError when the configuration cannot be used. `tools`: more
        hosted tools by the `type` of the request's tool."""
        self.settings = settings
        config = load_config(settings.config)
        self.router = TableRouter(_backends(settings, config))
        self.store: Store = open_store(settings.database_url)
        self._static_keys = parse_keys(settings.api_keys)
        self._auth = Authenticator(self._static_keys, self.store)
        self._egress = Egress(_policy(settings))
        self._tools = {**_tools(config or Config(), self._egress.policy), **(tools or {})}
        self.engine = Engine(self.store, self.router, _engine_options(settings), self._tools)
        self._fixed_webhooks = _fixed_webhooks(config, self._egress.policy)
        self._deliverer = Deliverer(
            self.store.webhooks,
            self._egress,
            self.store.runs.wait,
            DeliveryOptions(first_retry=settings.webhook_first_retry),
        )
        #: The key that this start made, to be shown once.
        self.first_key: str | None = None
        #: Why the store could not be opened, if so.
        self.store_error: StoreError | None = None
        self.limits = WireLimits(
            header_timeout=settings.header_timeout,
            body_idle_timeout=settings.body_timeout,
            send_timeout=settings.send_timeout,
            keep_alive_timeout=settings.keep_alive,
        )
        self._heartbeat = Heartbeat(settings.heartbeat, settings.event_heartbeat)
        self._create = CreateEndpoint(
            self.engine,
            self._auth,
            CreateOptions(
                max_body_bytes=settings.max_body_bytes,
                accept_timeout=settings.accept_timeout,
                heartbeat=self._heartbeat,
            ),
        )
        self.sockets = SocketEndpoint(self.engine, self._auth, _socket_options(settings))
        self._app = self._application()
        self.asgi: ASGIApp = Edge(
            self._dispatch,
            cors_origins=settings.cors_origins,
            access_log=settings.access_log,
        )

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The hot path goes straight to its endpoint: the routers and middlewares of FastAPI would
        cost as much as the rest of our own code (docs/benchmarks.md)."""
        if scope["type"] == "http" and scope["path"] == CREATE and scope["method"] == "POST":
            await self._create(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.sockets(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _application(self) -> FastAPI:
        settings = self.settings
        app = FastAPI(
            title="Antiphon",
            version=__version__,
            description="A self-hosted Responses API in front of any model.",
            docs_url="/docs" if settings.docs else None,
            openapi_url="/openapi.json" if settings.docs else None,
            redoc_url=None,
            lifespan=self._lifespan,
            exception_handlers=EXCEPTION_HANDLERS,
            redirect_slashes=False,
        )
        app.router.routes.append(Route(CREATE, self._create, methods=["POST"]))
        compact = compacting(self.engine, self._auth, settings.max_body_bytes)
        app.router.routes.append(Route(CREATE + "/compact", compact, methods=["POST"]))
        input_tokens = counting_tokens(self.engine, self._auth, settings.max_body_bytes)
        app.router.routes.append(Route(INPUT_TOKENS, input_tokens, methods=["POST"]))
        app.include_router(StoredResponses(self.engine, self._auth, self._heartbeat).router)
        conversations = ConversationService(self.store, self.engine.sealer)
        app.include_router(
            ConversationEndpoints(conversations, self._auth, settings.max_body_bytes).router
        )
        app.include_router(
            WebhookEndpoints(self.store.webhooks, self._deliverer, self._auth).router
        )
        app.include_router(PromptEndpoints(self.store.prompts, self._auth).router)
        app.include_router(Models(self.router, self._auth).router)
        checks = _checks(settings, self.store)
        app.include_router(
            Health(self.engine, REGISTRY, self._auth, checks, public=settings.public_metrics).router
        )
        app.openapi = lambda: describe(app)  # type: ignore[method-assign]
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncGenerator[None, None]:
        async with self.working():
            self.first_key = await self._ensure_key()
            await self.store.webhooks.set_fixed(self._fixed_webhooks)
            yield

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncGenerator[None, None]:
        """All that runs beside HTTP: background responses, webhooks, sweeps. ``antiphon worker`` is
        this and nothing else; `engine.drain` first if jobs shall go back while others still end."""
        try:
            await self.store.open()
        except StoreError as error:
            self.store_error = error
            raise
        beside: list[asyncio.Task[None]] = []
        try:
            await self.engine.open()
            self._deliverer.start()
            beside = [
                asyncio.create_task(self._sweep(), name="sweep"),
                asyncio.create_task(watch_loop(), name="loop-watch"),
            ]
            yield
        finally:
            for task in beside:
                task.cancel()
            await self.engine.close()
            await self._deliverer.close()
            for tool in dict.fromkeys(self._tools.values()):
                await tool.aclose()
            await self._egress.close()
            await self.router.aclose()
            await self.store.close()

    async def _ensure_key(self) -> str | None:
        if self._static_keys or await self.store.keys():
            return None
        key = new_key()
        await self.store.add_key(make_key_row(key, "first key", DEFAULT_PROJECT))
        return key

    async def _sweep(self) -> None:
        """Delete what has expired, in small steps."""
        while True:
            try:
                deleted = await self.store.expire(int(time.time()), _SWEEP_ROWS)
            except APIError as error:
                deleted = 0
                log.warning("sweep_failed", error=error.message)
            await asyncio.sleep(_SWEEP_EVERY if deleted < _SWEEP_ROWS else 0)


def create_app() -> ASGIApp:
    """The application with settings from the environment, for any ASGI server."""
    return Antiphon(Settings()).asgi


def _checks(settings: Settings, store: Store) -> dict[str, Check]:
    """What a new request needs (R-122)."""
    url = settings.database_url
    checks: dict[str, Check] = {"database": store.ready}
    if not url.startswith("memory:"):
        folder = path_of(url).parent
        checks["schema"] = InThread(lambda: is_current(url))
        checks["disk"] = InThread(lambda: shutil.disk_usage(folder).free >= settings.min_free_disk)
    return checks


def _engine_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        retention=Retention(settings.retention_days or None, settings.event_log_hours or None),
        jobs=JobOptions(
            most=settings.background_runs,
            lease=settings.lease,
            attempts=settings.background_attempts,
            run_timeout=settings.run_timeout,
            event_heartbeat=settings.event_heartbeat,
        ),
        most_queued=settings.queue_limit,
        most_in_flight=settings.max_in_flight,
        most_in_flight_per_project=settings.max_in_flight_per_project,
        run_timeout=settings.run_timeout,
        shutdown_patience=settings.shutdown_grace + _LAST_WORDS,
        tools=ToolLimits(settings.tool_timeout, settings.tool_turns, settings.tool_output),
        encryption_keys=parse_encryption_keys(settings.encryption_keys),
    )


def _socket_options(settings: Settings) -> SocketOptions:
    return SocketOptions(
        path=CREATE,
        minutes=settings.websocket_minutes,
        event_heartbeat=settings.event_heartbeat,
        most=settings.max_websockets,
        most_per_project=settings.max_websockets_per_project,
        lanes=LaneLimits(most_bytes=settings.max_body_bytes),
        access_log=settings.access_log,
    )


def make_key_row(key: str, name: str, project: str) -> KeyRow:
    """What is stored of a new key."""
    return KeyRow(
        id="key_" + secrets.token_hex(12),
        project=project,
        name=name,
        hash=hash_key(key),
        hint=key_hint(key),
        created_at=int(time.time()),
    )


def _policy(settings: Settings) -> Policy:
    try:
        return Policy(settings.allow_private_hosts, closed=not settings.egress)
    except ValueError as error:
        raise ConfigError(f"ANTIPHON_ALLOW_PRIVATE_HOSTS: {error}") from None


def _tools(config: Config, policy: Policy) -> dict[str, Tool]:
    """The hosted tools by the `type` of a request's tool. A new one is a line here."""
    search = config.web_search
    try:
        servers = configured(config.mcp_servers, os.environ)
        provider = None if search is None else provider_from(search, os.environ)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    options = WebSearchOptions()
    if search is not None:
        allowed = search.allowed_domains
        options = WebSearchOptions(
            search.respect_robots, None if allowed is None else tuple(allowed)
        )
    web = WebSearch(provider, Egress(_pages_policy(search, closed=policy.closed)), options)
    return {"mcp": Mcp(policy, servers), **dict.fromkeys(WEB_SEARCH, web)}


def _pages_policy(search: WebSearchConfig | None, *, closed: bool) -> Policy:
    """A model chooses pages, and strangers tell it which: what MCP servers and webhooks may be at
    does not count for them (R-126)."""
    try:
        hosts = search.private_hosts if search is not None else ()
        return Policy(hosts, "web_search.private_hosts", closed=closed)
    except ValueError as error:
        raise ConfigError(f"web_search.private_hosts: {error}") from None


def _fixed_webhooks(config: Config | None, policy: Policy) -> list[Endpoint]:
    """The endpoints of the configuration. What waits for one is kept as long as its project and
    name are the same."""
    now = int(time.time())
    return [
        Endpoint(
            id=f"whe_{hashlib.sha256(f'{entry.project}/{name}'.encode()).hexdigest()[:48]}",
            project=entry.project,
            name=name,
            url=entry.url,
            event_types=list(FIRED) if entry.event_types is None else entry.event_types,
            secret=_webhook_secret(entry, policy),
            created_at=now,
            updated_at=now,
            fixed=True,
        )
        for entry in (config.webhooks if config is not None else ())
        for name in (entry.title,)
    ]


def _webhook_secret(entry: WebhookConfig, policy: Policy) -> str:
    """The secret of an entry in which everything else is right, too."""
    where = f"webhook '{entry.title}'"
    secret = os.environ.get(entry.secret_env)
    if not secret:
        raise ConfigError(f"{where}: {entry.secret_env} is not set")
    if not is_project(entry.project):
        raise ConfigError(f"{where}: {PROJECT_RULE}")
    if strangers := sorted(set(entry.event_types or ()) - set(FIRED)):
        raise ConfigError(
            f"{where}: no event '{strangers[0]}' happens here; there are {', '.join(FIRED)}"
        )
    try:
        signing_key(secret)
        policy.parse(entry.url)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return secret


def _backends(settings: Settings, config: Config | None) -> list[tuple[Backend, Mapping[str, str]]]:
    """Every backend with the names that lead to it; the simulator is always the last."""
    table: list[tuple[Backend, Mapping[str, str]]] = []
    if config is not None:
        table += [(KINDS[entry.kind](entry), entry.models) for entry in config.backends]
    else:
        table += _without_config(settings)
    if not any(isinstance(backend, Simulator) for backend, _ in table):
        table.append((Simulator(), {"simulator": "simulator"}))
    return table


def _without_config(settings: Settings) -> list[tuple[Backend, Mapping[str, str]]]:
    table: list[tuple[Backend, Mapping[str, str]]] = []
    key = os.environ.get("OPENAI_API_KEY")
    if key and _is_our_own(key, settings):
        log.info("openai_api_key_ignored", reason="it is a key of this server")
    elif key:
        openai = ChatCompletions(
            ChatCompletionsConfig(
                name="openai",
                base_url=os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1",
                api_key=key,
                profile="openai",
            )
        )
        table.append((openai, {name: name for name in _OPENAI_MODELS}))
    for server in discover(settings.port) if settings.discover else ():
        backend = ChatCompletions(
            ChatCompletionsConfig(
                name=server.profile, base_url=server.base_url, profile=server.profile
            )
        )
        log.info("found_model_server", server=server.profile, models=list(server.models))
        # Exact names first; the wildcard is for models that it gets later.
        table.append((backend, {**{name: name for name in server.models}, "*": "*"}))
    return table


def _is_our_own(key: str, settings: Settings) -> bool:
    """Clients have our keys under OpenAI's name, often in the shell that the server starts from:
    such a key must not be sent to OpenAI (R-92)."""
    return key.startswith(KEY_PREFIX) or hash_key(key) in parse_keys(settings.api_keys)


def _chat_completions(entry: BackendConfig) -> Backend:
    key = os.environ.get(entry.api_key_env) if entry.api_key_env else None
    if entry.api_key_env and not key:
        raise ConfigError(f"backend '{entry.name}': {entry.api_key_env} is not set")
    if entry.profile is not None and entry.profile not in PROFILES:
        raise ConfigError(
            f"backend '{entry.name}': no profile '{entry.profile}'; there are {', '.join(PROFILES)}"
        )
    return ChatCompletions(
        ChatCompletionsConfig(
            name=entry.name,
            base_url=entry.base_url or "",
            api_key=key,
            profile=entry.profile,
            headers=entry.headers,
            windows=entry.windows,
            connect_timeout=entry.connect_timeout,
            first_byte_timeout=entry.first_byte_timeout,
            idle_timeout=entry.idle_timeout,
            total_timeout=entry.total_timeout,
            max_retries=entry.max_retries,
        )
    )


#: Kind in the configuration → how it is made. A new backend is one line here.
KINDS: Final[Mapping[str, Callable[[BackendConfig], Backend]]] = {
    "chat_completions": _chat_completions,
    "simulator": lambda entry: Simulator(entry.name, entry.windows),
}
