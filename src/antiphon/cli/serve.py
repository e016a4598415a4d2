"""``antiphon serve``."""

import logging
from typing import Annotated

import typer
import uvicorn

from antiphon.api.wire import guarded_protocol
from antiphon.api.wire_socket import guarded_socket
from antiphon.app import Antiphon
from antiphon.app.folder import folder_of
from antiphon.cli.common import ConfigFile, DatabaseUrl, build, needs, read_settings, refused
from antiphon.cli.server import LAST_WORDS, Server
from antiphon.store.base import StoreError


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    check: Annotated[bool, typer.Option(help="Check the configuration and stop.")] = False,
) -> None:
    """Serve the API."""
    settings = read_settings(host=host, port=port, config=config, database_url=database_url)
    needs(config)
    antiphon = build(settings)
    if check:
        try:
            folder_of(settings).check()
        except StoreError as error:
            raise refused(error) from error
        print("The configuration can be used.")
        return
    run(antiphon)


def run(antiphon: Antiphon, model: str = "simulator") -> None:
    """Serve until it is told to end. `model`: with which it can be tried."""
    server = server_of(antiphon, model)
    # Why the store cannot be opened is said in one line; uvicorn would say it with a trace.
    logging.getLogger("uvicorn.error").addFilter(lambda _: antiphon.store_error is None)
    server.run()
    if not server.started:
        raise typer.Exit(3)


def server_of(antiphon: Antiphon, model: str = "simulator") -> Server:
    """The server that serves it, not yet running."""
    settings = antiphon.settings
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
        model,
    )
