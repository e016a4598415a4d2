"""What the commands share: settings, the log, a store, and how a refusal is said.

Rules
1. Nothing but the answer of a command goes to stdout; refusals are one line on stderr.
2. Exit status 2: it cannot be done with these settings; 1: it was done, and the answer is no; 130:
   it was interrupted.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
from click.exceptions import Exit
from pydantic import ValidationError

from antiphon.api.logbook import close_log, open_log
from antiphon.app import Antiphon
from antiphon.app.folder import folder_of
from antiphon.app.sharing import Share
from antiphon.config import ConfigError
from antiphon.errors import Overloaded
from antiphon.settings import Settings
from antiphon.store.base import Store, StoreError
from antiphon.store.registry import open_store

PATH: Final = click.Path(path_type=Path)
config_option: Final = click.option("--config", type=PATH, help="The file antiphon.toml.")
database_option: Final = click.option("--database-url", help="Where responses are kept.")


class Group(click.Group):
    """Lists its commands as they were added, not by their names. Ctrl-C ends them silently."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Their names."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Exit(130) from error  # as shells have it


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment, with the options of the command on top; opens the log."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        for problem in error.errors():
            name = "ANTIPHON_" + str(problem["loc"][0]).upper() if problem["loc"] else "settings"
            print(f"antiphon: {name}: {problem['msg']}", file=sys.stderr)
        raise Exit(2) from error
    except (OSError, UnicodeDecodeError) as error:
        raise refused(ValueError(f".env: {error}")) from error
    open_log(settings.log_level, settings.log_format)
    return settings


def needs(config: Path | None) -> None:
    """Refuse a file that was named and is not there."""
    with suppress(OSError):  # whoever reads it says so
        if config is not None and not config.exists():
            raise refused(ConfigError(f"{config}: there is no such file"))


def build(settings: Settings, share: Share | None = None) -> Antiphon:
    """The server, or one of several processes of it, not yet started."""
    try:
        return Antiphon(settings, share=share)
    except (ConfigError, StoreError, ValueError) as error:
        raise refused(error) from error


def say_checked(settings: Settings) -> None:
    """The answer of ``--check`` when the rest is right."""
    try:
        folder_of(settings).check()
    except StoreError as error:
        raise refused(error) from error
    print("The configuration can be used.")


def refused(error: Exception) -> Exit:
    """Say in one line, the last one, what cannot be used."""
    close_log()
    print(f"antiphon: {error}", file=sys.stderr)
    return Exit(2)


def with_store(
    use: Callable[[Store], Awaitable[None]],
    lack: str = "memory:// keeps no keys; ANTIPHON_API_KEYS gives them",
) -> None:
    """Run `use` with the store of the settings, open; `lack`: why one in memory is of no use."""
    url = read_settings().database_url
    if url.startswith("memory:"):
        raise refused(StoreError(lack))

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
        raise refused(StoreError("the database cannot be used now; the log says why")) from error
    except StoreError as error:
        raise refused(error) from error
