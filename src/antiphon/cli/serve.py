"""``antiphon serve``."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
import uvicorn

from antiphon.api.wire import guarded_protocol
from antiphon.api.wire_socket import guarded_socket
from antiphon.app import Antiphon
from antiphon.cli.common import ConfigFile, DatabaseUrl, build, needs, read_settings, say_checked
from antiphon.cli.server import LAST_WORDS, Server, banner
from antiphon.cli.together import serve_together


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve together.")] = None,
    check: Annotated[bool, typer.Option(help="Check the configuration and stop.")] = False,
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
    server = server_of(antiphon, partial(banner, antiphon, model=model))
    server.run()
    if not server.started:
        raise typer.Exit(3)


def server_of(antiphon: Antiphon, announce: Callable[[str, int], None] | None = None) -> Server:
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
            ws=guarded_socket(antiphon.limits),
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
        announce or partial(banner, antiphon),
    )
