"""Alembic runs the scripts of `store/migrations` on a database file. Only an old schema, which has
to change, loads this module (`migrate.py`): it takes 0.3 s and 10 MB.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from antiphon.store import sqlite


def upgrade(path: Path, scripts: Path, revision: str) -> None:
    """Go forward to `revision`, in one transaction. `scripts`: their folder. Raises `DBAPIError`
    and sqlite3's errors."""
    with engine(path).begin() as connection:
        command.upgrade(_config(connection, scripts), revision)


def downgrade(path: Path, scripts: Path, revision: str) -> None:
    """Go back to `revision`, as `upgrade` goes forward."""
    with engine(path).begin() as connection:
        command.downgrade(_config(connection, scripts), revision)


def engine(path: Path) -> Engine:
    """For migrations only: every transaction takes the write lock at its beginning."""
    made = create_engine(
        "sqlite://", creator=lambda: sqlite.connect(path, "rw"), poolclass=NullPool
    )

    @event.listens_for(made, "begin")
    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def _config(connection: Connection, scripts: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    return config
