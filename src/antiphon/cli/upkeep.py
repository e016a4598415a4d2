"""``antiphon migrate | backup | models``."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import DatabaseUrl, build, read_settings, refused
from antiphon.store.backup import backup as back_up
from antiphon.store.base import StoreError
from antiphon.store.migrate import migrate as migrate_store


def migrate(database_url: DatabaseUrl = None) -> None:
    """Bring the database up to date (also done at every start)."""
    settings = read_settings(database_url=database_url)
    try:
        migrate_store(settings.database_url)
    except (StoreError, ValueError) as error:
        raise refused(error) from error
    print("The database is up to date.")


def backup(
    file: Annotated[Path, typer.Argument(help="The copy; nothing is overwritten.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Copy the database, also while it is served. docs/deploying.md says how to restore it."""
    settings = read_settings(database_url=database_url)
    try:
        size = back_up(settings.database_url, file)
    except StoreError as error:
        raise refused(error) from error
    print(f"{file}: {size / 1024**2:.1f} MiB")


def models() -> None:
    """List the models that clients may name."""
    antiphon = build(read_settings())

    async def list_models() -> None:
        for model in await antiphon.router.models():
            print(f"{model.id}\t{model.owned_by}")
        await antiphon.router.aclose()

    asyncio.run(list_models())
