"""``antiphon migrate | models``."""

import asyncio
from typing import Annotated

import typer

from antiphon.cli.common import build, read_settings, refused
from antiphon.store.base import StoreError
from antiphon.store.migrate import migrate as migrate_store

DatabaseUrl = Annotated[str | None, typer.Option(help="Where responses are kept.")]


def migrate(database_url: DatabaseUrl = None) -> None:
    """Bring the database up to date (also done at every start)."""
    settings = read_settings(database_url=database_url)
    try:
        migrate_store(settings.database_url)
    except (StoreError, ValueError) as error:
        raise refused(error) from error
    print("The database is up to date.")


def models() -> None:
    """List the models that clients may name."""
    antiphon = build(read_settings())

    async def list_models() -> None:
        for model in await antiphon.router.models():
            print(f"{model.id}\t{model.owned_by}")
        await antiphon.router.aclose()

    asyncio.run(list_models())
