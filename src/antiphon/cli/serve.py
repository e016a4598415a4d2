"""``antiphon serve``."""

import asyncio
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click
import uvicorn
from click.exceptions import Exit

from antiphon.api.limits import WireLimits
from antiphon.api.wire import guarded_protocol
from antiphon.app import Antiphon
from antiphon.cli.common import (
    build,
    config_option,
    database_option,
    needs,
    read_settings,
    say_checked,
)
from antiphon.cli.server import LAST_WORDS, Announce, Server, banner
from antiphon.cli.together import serve_together


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@config_option
@database_option
@click.option("--workers", type=int, help="Processes that serve together.")
@click.option("--check/--no-check", help="Check the configuration and stop.")
def serve(
    host: str | None,
    port: int | None,
    config: Path | None,
    database_url: str | None,
    workers: int | None,
    check: bool,
) -> None:
    """Serve the API."""
    settings = read_settings(
        host=host, port=port, config=config, database_url=database_url, workers=workers
    )
    needs(config)
    if settings.workers > 1:
        serve_together(settings, only_check=check)
        return
    antiphon = build(settings)
    if check:
        say_checked(settings)
        return
    run(antiphon)


def run(antiphon: Antiphon, model: str = "simulator") -> None:
    """Serve until it is told to end. `model`: with which it can be tried."""

    async def announce(host: str, port: int) -> None:
        await antiphon.ensure_key(antiphon.store)
        banner(antiphon, host, port, model)

    server = server_of(antiphon, announce)
    server.run()
    if not server.started:
        raise Exit(3)


def _socket(limits: WireLimits) -> Callable[..., asyncio.Protocol]:
    """What uvicorn makes of a WebSocket; loaded for the first one."""

    @cache
    def guarded() -> type[asyncio.Protocol]:
        from antiphon.api.wire_socket import guarded_socket  # noqa: PLC0415

        return guarded_socket(limits)

    def connected(**given: Any) -> asyncio.Protocol:
        return guarded()(**given)

    return connected


def server_of(antiphon: Antiphon, announce: Announce) -> Server:
    """The server that serves it, not yet running; `announce` is told where it listens."""
    settings = antiphon.settings
    # Why the store cannot be opened is said in one line; uvicorn would say it with a trace.
    logging.getLogger("uvicorn.error").addFilter(lambda _: antiphon.store_error is None)
    return Server(
        uvicorn.Config(
            antiphon.asgi,
            host=settings.host,
            port=settings.port,
            http=guarded_protocol(antiphon.limits, lambda: antiphon.engine.stopping),
            ws=_socket(antiphon.limits),  # type: ignore[arg-type]  # it calls it, no more
            ws_max_size=settings.max_body_bytes,
            # A few bytes of events do not get smaller, and what a client sends could get too large.
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(settings.shutdown_grace) + LAST_WORDS,
        ),
        antiphon,
        announce,
    )
