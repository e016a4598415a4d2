"""The newest schema, made at once from the tables: what all migrations would make of an empty file
(held by tests/store/test_migrate.py), without Alembic.
"""

import secrets
import sqlite3
from functools import cache
from typing import Final

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from antiphon.store.tables import INDEXES, metadata
from antiphon.store.triggers import TRIGGERS

#: As Alembic makes it.
_REVISION: Final = """
    CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL,
        CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    )
"""


@cache
def statements() -> tuple[str, ...]:
    """What makes the tables, indexes and triggers."""
    dialect = sqlite.dialect()
    made = [str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables]
    made += [str(CreateIndex(index).compile(dialect=dialect)) for index in INDEXES]
    return (*made, *TRIGGERS.values())


def create(connection: sqlite3.Connection, revision: str) -> None:
    """Make an empty file a database of the newest `revision`, in one transaction; unless somebody
    else just did. Raises sqlite3's errors."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone():
            return
        for statement in (*statements(), _REVISION):
            connection.execute(statement)
        connection.execute("INSERT INTO removals (number) VALUES (0)")
        connection.execute("INSERT INTO database_id (id) VALUES (?)", [secrets.token_hex(16)])
        connection.execute("INSERT INTO alembic_version (version_num) VALUES (?)", [revision])
