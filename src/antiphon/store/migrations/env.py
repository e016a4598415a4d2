"""Alembic's entry: runs the scripts on the connection of `store/scripts.py`, or, for the alembic
command, on the database of ANTIPHON_DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection

from antiphon.store import sqlite
from antiphon.store.scripts import engine
from antiphon.store.tables import metadata


def run(connection: Connection) -> None:
    """All steps in the one transaction that is open."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    path = sqlite.path_of(
        os.environ.get("ANTIPHON_DATABASE_URL", "sqlite+aiosqlite:///./antiphon.db")
    )
    sqlite.create(path)
    with engine(path).begin() as opened:
        run(opened)
