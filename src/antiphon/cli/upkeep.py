"""``antiphon migrate | backup``."""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import click
from click.exceptions import Exit

from antiphon.app.folder import folder_of
from antiphon.cli.common import PATH, database_option, read_settings, refused
from antiphon.retrieval import index_file
from antiphon.store.backup import backup as back_up
from antiphon.store.backup import copy_index, known_files
from antiphon.store.base import StoreError
from antiphon.store.migrate import migrate as migrate_store


@click.command()
@database_option
def migrate(database_url: str | None) -> None:
    """Bring the database up to date (also done at every start)."""
    settings = read_settings(database_url=database_url)
    try:
        migrate_store(settings.database_url)
    except (StoreError, ValueError) as error:
        raise refused(error) from error
    print("The database is up to date.")


@click.command()
@click.argument("file", type=PATH, help="The copy; nothing is overwritten.")
@database_option
@click.option("--indexes", type=PATH, help="A folder for copies of the indexes of vector stores.")
def backup(file: Path, database_url: str | None, indexes: Path | None) -> None:
    """Copy the database, also while it is served. How to restore it: docs/deploying.md. Exit
    status 1: an index could not be copied; it is named, and would be made again."""
    settings = read_settings(database_url=database_url)
    try:
        if indexes is not None:
            indexes.mkdir(mode=0o700, parents=True, exist_ok=True)
        size = back_up(settings.database_url, file)
    except (StoreError, OSError) as error:
        raise refused(error) from error
    print(f"{file}: {size / 1024**2:.1f} MiB")
    if indexes is not None and not _copy_indexes(folder_of(settings).indexes, indexes, file):
        raise Exit(1)


def _copy_indexes(source: Path, target: Path, database: Path) -> bool:
    """Copy what belongs to a copied database; whether all were copied."""
    copied = failed = 0
    for index in sorted(source.glob("[!.]*.db")):
        try:
            known = known_files(database, index.stem)
            if known is not None:  # else: its store was deleted, or came later
                copy_index(index, target / index.name, partial(_forget_others, known))
                copied += 1
        except StoreError as error:
            if index.exists():  # else: its store was deleted meanwhile
                failed += 1
                print(f"antiphon: {error}", file=sys.stderr)
    print(f"{target}: indexes: {copied}")
    return not failed


def _forget_others(known: frozenset[int], copy: Path) -> None:
    """Drop all files that are not known."""
    with closing(index_file.connect(copy, "rw")) as connection:
        if others := index_file.numbers(connection) - known:
            index_file.drop(connection, others)
