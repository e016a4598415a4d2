"""Antiphon: puts the pieces together. The only module that knows concrete classes.

Rules
1. What lives as long as the server is opened in `working` and closed there in opposite order.
2. Starting needs no network: discovery asks loopback ports, briefly, and only without a
   configuration file.
3. There is always a key: when none is configured and none was ever made, the start makes one, once
   it listens: a start that fails would keep it to itself.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from antiphon.api.auth import (
    DEFAULT_PROJECT,
    Authenticator,
    hash_key,
    key_hint,
    new_key,
    parse_keys,
)
from antiphon.api.compact import compacting
from antiphon.api.containers import ContainerEndpoints
from antiphon.api.conversations import ConversationEndpoints
from antiphon.api.create import CreateEndpoint, CreateOptions
from antiphon.api.errors import EXCEPTION_HANDLERS
from antiphon.api.figures import Figures, SharedFigures
from antiphon.api.files import FileEndpoints
from antiphon.api.headers import Edge
from antiphon.api.health import Backends, Check, Health, InThread
from antiphon.api.input_tokens import PATH as INPUT_TOKENS
from antiphon.api.input_tokens import counting_tokens
from antiphon.api.models import Models
from antiphon.api.openapi import Description
from antiphon.api.operations import Operation
from antiphon.api.prompts import PromptEndpoints
from antiphon.api.responses import StoredResponses
from antiphon.api.siblings import PATHS, Sibling
from antiphon.api.socket import SocketEndpoint
from antiphon.api.streams import Heartbeat
from antiphon.api.uploads import UploadEndpoints
from antiphon.api.vector_stores import VectorStoreEndpoints
from antiphon.api.webhooks import WebhookEndpoints
from antiphon.app.backends import backends_of, relays_of, routes_of
from antiphon.app.images import image_generation_of
from antiphon.app.library import Library
from antiphon.app.local import preload
from antiphon.app.options import CREATE, engine_options, socket_options, wire_limits
from antiphon.app.sandbox import code_interpreter_of, sessions_of
from antiphon.app.sharing import Share
from antiphon.app.tools import policy_of, tools_of
from antiphon.app.webhooks import fixed_webhooks
from antiphon.backends.routing import TableRouter
from antiphon.config import Config, load_config
from antiphon.egress import Egress
from antiphon.engine.conversations import ConversationService
from antiphon.engine.loops import for_ever
from antiphon.engine.metrics import REGISTRY, watch_loop
from antiphon.engine.runner import Engine
from antiphon.engine.uploads import UploadService
from antiphon.engine.webhooks import Deliverer, DeliveryOptions
from antiphon.errors import APIError
from antiphon.settings import Settings
from antiphon.store.base import KeyRow, Store, StoreError
from antiphon.store.migrate import is_current
from antiphon.store.registry import open_store
from antiphon.store.sqlite import path_of
from antiphon.tools.base import Tool
from antiphon.tools.file_search.tool import FileSearch
from antiphon.tools.image_generation.tool import ImageGeneration

log = structlog.get_logger(__name__)

#: Seconds between two sweeps of expired responses, and rows of one step (R-137).
_SWEEP_EVERY: Final = 600.0
_SWEEP_ROWS: Final = 500


class Antiphon:
    """The server: `asgi` is the application."""

    def __init__(
        self,
        settings: Settings,
        tools: Mapping[str, Tool] | None = None,
        share: Share | None = None,
    ) -> None:
        """Raises `ConfigError` or ValueError when the configuration cannot be used. `tools`: more
        hosted tools by the `type` of the request's tool. `share`: this is one of several
        processes."""
        config = load_config(settings.config)
        if share is not None:
            settings, config = share.settings(settings), share.config(config)
        self.settings = settings
        table = backends_of(settings, config)
        self.router = TableRouter(table, routes_of(config, table))
        self._relays = relays_of(table)
        self.store: Store = open_store(settings.database_url)
        self._library = Library(settings, config or Config(), self.store)
        self._static_keys = parse_keys(settings.api_keys)
        self._auth = Authenticator(self._static_keys, self.store)
        self._egress = Egress(policy_of(settings))
        self._tools = {**tools_of(config or Config(), self._egress.policy), **(tools or {})}
        self._tools.setdefault("file_search", FileSearch(self._library.vector_stores))
        self._tools.setdefault("image_generation", self._image_generation(config or Config()))
        self._sessions = sessions_of(settings, self._library.containers)
        python = code_interpreter_of(self._library.containers, self._sessions)
        self._tools.setdefault("code_interpreter", python)
        self.engine = Engine(
            self.store,
            self.router,
            engine_options(settings),
            self._tools,
            self._library.attachments(),
        )
        self._ingester = self._library.ingester(self.engine.jobs.owner)
        self._fixed_webhooks = fixed_webhooks(config, self._egress.policy)
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
        self._backends = Backends(self.router.backends)
        self._figures = _figures(self._backends, share)
        self.limits = wire_limits(settings)
        self._heartbeat = Heartbeat(settings.heartbeat, settings.event_heartbeat)
        self._create = self._creating()
        self.sockets = SocketEndpoint(
            self.engine, self._auth, socket_options(settings), self._library.images
        )
        self._app = self._application()
        self.asgi: ASGIApp = Edge(
            self._dispatch,
            cors_origins=settings.cors_origins,
            access_log=settings.access_log,
        )

    def _creating(self) -> CreateEndpoint:
        options = CreateOptions(
            max_body_bytes=self.settings.max_body_bytes,
            accept_timeout=self.settings.accept_timeout,
            heartbeat=self._heartbeat,
        )
        return CreateEndpoint(self.engine, self._auth, options, self._library.images)

    def _image_generation(self, config: Config) -> ImageGeneration:
        pictures, elsewhere = self._library.pictures(), self.settings.egress
        return image_generation_of(
            config.image_generation, pictures, os.environ, elsewhere=elsewhere
        )

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The hot path goes straight to its endpoint: the router and middlewares of Starlette would
        cost as much as the rest of our own code (docs/benchmarks.md)."""
        if scope["type"] == "http" and scope["path"] == CREATE and scope["method"] == "POST":
            await self._create(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.sockets(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _application(self) -> Starlette:
        """All but the hot path; `CREATE` is among the routes for the sake of its 405."""
        limit = self.settings.max_body_bytes
        posts: dict[str, ASGIApp] = {
            CREATE: self._create,
            CREATE + "/compact": compacting(self.engine, self._auth, limit),
            INPUT_TOKENS: counting_tokens(self.engine, self._auth, limit),
        }
        for path in PATHS:
            relay = Sibling(path, self.router.places, self._relays, self._auth, limit)
            posts["/v1" + path] = relay
        operations = self._operations()
        routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
        routes += [operation.route() for operation in operations]
        if self.settings.docs:
            routes += Description(operations).routes()
        app = Starlette(
            routes=routes, exception_handlers=EXCEPTION_HANDLERS, lifespan=self._lifespan
        )
        app.router.redirect_slashes = False
        return app

    def _operations(self) -> list[Operation]:
        auth, images, library = self._auth, self._library.images, self._library
        conversations = ConversationService(self.store, self.engine.sealer)
        health = Health(
            *(self.engine, self._figures, auth, _checks(self.settings, self.store), self._backends),
            public=self.settings.public_metrics,
        )
        endpoints = (
            StoredResponses(self.engine, auth, self._heartbeat, images),
            ConversationEndpoints(conversations, auth, self.settings.max_body_bytes, images),
            WebhookEndpoints(self.store.webhooks, self._deliverer, auth),
            PromptEndpoints(self.store.prompts, auth),
            FileEndpoints(library.files, auth),
            VectorStoreEndpoints(library.vector_stores, auth),
            ContainerEndpoints(library.containers, auth),
            UploadEndpoints(UploadService(library.files), auth),
            Models(self.router, auth),
            health,
        )
        return [operation for some in endpoints for operation in some.operations]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None, None]:
        async with self.working():
            with self._said():
                await self.store.webhooks.set_fixed(self._fixed_webhooks)
            yield

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncGenerator[None, None]:
        """All that runs beside HTTP: background responses, webhooks, sweeps. ``antiphon worker`` is
        this and nothing else; `engine.drain` first if jobs shall go back while others still end."""
        with self._said():
            await self._open()
        beside: list[asyncio.Task[None]] = []
        try:
            with self._said():
                await self.engine.open()
            self._sessions.start()
            self._ingester.start()
            self._deliverer.start()
            preload(self.router.backends)
            beside = [
                asyncio.create_task(for_ever(self._sweep, "sweep"), name="sweep"),
                asyncio.create_task(watch_loop(), name="loop-watch"),
                asyncio.create_task(for_ever(self._figures.tell_on, "figures"), name="figures"),
            ]
            yield
        finally:
            for task in beside:
                task.cancel()
            await self._ingester.close()
            await self.engine.close()
            await self._deliverer.close()
            for tool in dict.fromkeys(self._tools.values()):
                await tool.aclose()
            await self._sessions.aclose()
            await self._egress.close()
            await self._library.aclose()
            await self.router.aclose()
            await self.store.close()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Why a start fails is for the operator. Raises `StoreError`."""
        try:
            yield
        except APIError as error:
            where = path_of(self.settings.database_url)
            self.store_error = StoreError(f"The database {where} takes no writes (see the log).")
            raise self.store_error from error
        except StoreError as error:
            self.store_error = error
            raise

    async def prepare(self) -> None:
        """What is done once, before several processes start: the schema, the folder. Nothing stays
        open. Raises `StoreError`."""
        await self._open()
        await self._library.aclose()
        await self.store.close()

    async def _open(self) -> None:
        await self.store.open()
        try:
            await self._library.open()
        except StoreError:
            await self.store.close()
            raise

    async def ensure_key(self, store: Store) -> None:
        """Make a `first_key` if there is no key. Whoever calls this shows it: nobody else can.
        Raises `APIError`."""
        if self._static_keys or await store.keys():
            return
        key = new_key()
        await store.add_key(make_key_row(key, "first key", DEFAULT_PROJECT))
        self.first_key = key

    async def _sweep(self) -> None:
        """Delete what has expired, and what belongs to nobody, in small steps."""
        while True:
            try:
                deleted = await self.store.expire(int(time.time()), _SWEEP_ROWS)
            except APIError as error:
                deleted = 0
                log.warning("sweep_failed", error=error.message)
            swept = await self._library.sweep(int(time.time()), _SWEEP_ROWS)
            await asyncio.sleep(_SWEEP_EVERY if max(deleted, swept) < _SWEEP_ROWS else 0)


def _figures(backends: Backends, share: Share | None) -> Figures:
    own = CollectorRegistry()
    own.register(backends)
    registries = [REGISTRY, own]
    if share is None:
        return Figures(registries)
    return SharedFigures(registries, share.folder, share.number)


def create_app() -> ASGIApp:
    """The application with settings from the environment, for any ASGI server. It makes no key:
    `antiphon keys create` does."""
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
