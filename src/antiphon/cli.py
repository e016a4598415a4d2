"""The command line: ``antiphon serve | migrate | models | keys``."""

import asyncio
import gc
import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvicorn
from pydantic import ValidationError

from antiphon import __version__
from antiphon.api.auth import DEFAULT_PROJECT, PROJECT_RULE, is_project, new_key
from antiphon.api.logs import trace
from antiphon.api.wire import guarded_protocol
from antiphon.app import Antiphon, make_key_row
from antiphon.config import ConfigError
from antiphon.errors import Overloaded
from antiphon.settings import Settings
from antiphon.store.base import KeyRow, Store, StoreError
from antiphon.store.migrate import migrate as migrate_store
from antiphon.store.registry import open_store

cli = typer.Typer(
    name="antiphon", no_args_is_help=True, add_completion=False, help="A Responses API server."
)
keys = typer.Typer(no_args_is_help=True, help="API keys.")
cli.add_typer(keys, name="keys")

#: Seconds for terminal events and rows after the grace period.
_LAST_WORDS = 5
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"antiphon {__version__}")
        raise typer.Exit


@cli.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Which this is.")
    ] = False,
) -> None:
    """A Responses API server."""


class _Server(uvicorn.Server):
    """Says where it listens and how to try it, once it really does."""

    def __init__(self, config: uvicorn.Config, antiphon: Antiphon) -> None:
        super().__init__(config)
        self._antiphon = antiphon

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Turn new requests away, let running ones end, stop them when the grace is over (R-73).

        An orderly end is exit status 0: uvicorn would raise the signal once more.
        """
        engine = self._antiphon.engine
        engine.stopping = True
        grace = self._antiphon.settings.shutdown_grace
        timer = asyncio.get_running_loop().call_later(grace, engine.stop)
        await super().shutdown(sockets)
        timer.cancel()
        self._captured_signals.clear()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, then print the banner."""
        try:
            await super().startup(sockets)
        except SystemExit:
            if self._antiphon.store_error is not None:
                raise _refused(self._antiphon.store_error) from None
            raise
        if self.started:
            # What the start has made lives as long as the process: the collector need not look at
            # it again and again, which would hold every request up.
            gc.collect()
            gc.freeze()
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            _banner(self._antiphon, host, port)


def _banner(antiphon: Antiphon, host: str, port: int) -> None:
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    backends = ", ".join(backend.name for backend in antiphon.router.backends)
    key = antiphon.first_key or "$OPENAI_API_KEY"
    print(f"Antiphon {__version__} at {base_url} (backends: {backends})")
    if antiphon.first_key:
        print(
            f"\n  No API key was configured, so this start made one. It is shown only now:\n\n"
            f"    {antiphon.first_key}\n\n"
            "  Give it to clients as OPENAI_API_KEY. More: `antiphon keys create`.\n"
        )
    print(
        f'Try it:\n  curl {base_url}/responses -H "Authorization: Bearer {key}" '
        "-H 'Content-Type: application/json' "
        '-d \'{"model": "simulator", "input": "Hello!"}\'',
        flush=True,
    )


def _settings(**overrides: object) -> Settings:
    """Settings from the environment, with the options of the command on top; also sets up the log,
    so that nothing but the answer of a command goes to stdout."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        for problem in error.errors():
            name = "ANTIPHON_" + str(problem["loc"][0]).upper() if problem["loc"] else "settings"
            print(f"antiphon: {name}: {problem['msg']}", file=sys.stderr)
        raise typer.Exit(2) from error
    configure_logging(settings)
    return settings


def _antiphon(settings: Settings) -> Antiphon:
    try:
        return Antiphon(settings)
    except (ConfigError, StoreError, ValueError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> typer.Exit:
    """Say in one line what cannot be used."""
    print(f"antiphon: {error}", file=sys.stderr)
    return typer.Exit(2)


def configure_logging(settings: Settings) -> None:
    """Log lines to stderr; a trace is as `api.logs` bounds it, whoever logs it (R-119, R-130)."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(lambda raised: trace(raised[1])),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            _LEVELS.get(settings.log_level, logging.ERROR)
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s"
    )


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    config: Annotated[Path | None, typer.Option(help="The file antiphon.toml.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Where responses are kept.")] = None,
    check: Annotated[bool, typer.Option(help="Check the configuration and stop.")] = False,
) -> None:
    """Serve the API."""
    settings = _settings(host=host, port=port, config=config, database_url=database_url)
    if config is not None and not config.exists():
        raise _refused(ConfigError(f"{config}: there is no such file"))
    antiphon = _antiphon(settings)
    if check:
        print("The configuration can be used.")
        return
    server = _Server(
        uvicorn.Config(
            antiphon.asgi,
            host=settings.host,
            port=settings.port,
            http=guarded_protocol(antiphon.limits),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(settings.shutdown_grace) + _LAST_WORDS,
        ),
        antiphon,
    )
    # Why the store cannot be opened is said in one line; uvicorn would say it with a trace.
    logging.getLogger("uvicorn.error").addFilter(lambda _: antiphon.store_error is None)
    server.run()
    if not server.started:
        raise typer.Exit(3)


@cli.command()
def migrate(
    database_url: Annotated[str | None, typer.Option(help="Where responses are kept.")] = None,
) -> None:
    """Bring the database up to date (also done at every start)."""
    settings = _settings(database_url=database_url)
    try:
        migrate_store(settings.database_url)
    except (StoreError, ValueError) as error:
        raise _refused(error) from error
    print("The database is up to date.")


@cli.command()
def models() -> None:
    """List the models that clients may name."""
    antiphon = _antiphon(_settings())

    async def list_models() -> None:
        for model in await antiphon.router.models():
            print(f"{model.id}\t{model.owned_by}")
        await antiphon.router.aclose()

    asyncio.run(list_models())


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    project: Annotated[str, typer.Option(help="The project it belongs to.")] = DEFAULT_PROJECT,
) -> None:
    """Make an API key. It is shown once."""
    if not is_project(project):
        raise _refused(ValueError(PROJECT_RULE))
    if not name.isprintable():
        raise _refused(ValueError("a name has only printable characters"))
    key = new_key()
    row = make_key_row(key, name, project)

    async def add(store: Store) -> None:
        await store.add_key(row)

    _with_store(add)
    print(key)
    print(f"{row.id}, project {project}. It is shown only now.", file=sys.stderr)


@keys.command("list")
def list_keys() -> None:
    """List API keys, newest first."""

    async def show(store: Store) -> None:
        for key in await store.keys():
            print(_line(key))

    _with_store(show)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="As in `antiphon keys list`.")]) -> None:
    """Revoke an API key. A running server follows within five seconds."""

    async def revoke(store: Store) -> None:
        if not await store.revoke_key(key_id, int(time.time())):
            print(f"antiphon: no key {key_id} that is not revoked", file=sys.stderr)
            raise typer.Exit(1)

    _with_store(revoke)
    print(f"{key_id} is revoked.")


def _line(key: KeyRow) -> str:
    made = time.strftime("%Y-%m-%d", time.gmtime(key.created_at))
    state = "revoked" if key.revoked_at else "active"
    return f"{key.id}\t…{key.hint}\t{key.project}\t{made}\t{state}\t{key.name}"


def _with_store(use: Any) -> None:
    url = _settings().database_url
    if url.startswith("memory:"):
        raise _refused(StoreError("memory:// keeps no keys; ANTIPHON_API_KEYS gives them"))

    async def work() -> None:
        store = open_store(url)
        await store.open()
        try:
            await use(store)
        finally:
            await store.close()

    try:
        asyncio.run(work())
    except Overloaded as error:
        raise _refused(StoreError("the database cannot be used now; the log says why")) from error
    except StoreError as error:
        raise _refused(error) from error


def main() -> None:
    """The console script."""
    cli()


if __name__ == "__main__":
    main()
