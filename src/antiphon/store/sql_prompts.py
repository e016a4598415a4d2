"""Prompts in SQLite (`store.base.prompts`).

Rules
1. Whoever changes a prompt reads it in the same step of the writer, so each version gets a number
   of its own, whoever publishes at the same time.
2. What a client is told of is durable.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

from antiphon.store import prompt_statements as statements
from antiphon.store import prompts
from antiphon.store.base import (
    MOST_PROMPTS,
    PromptChange,
    PromptRow,
    PromptVersion,
    Template,
)
from antiphon.store.readers import Readers
from antiphon.store.writer import Value, Writer


class SqlitePrompts:
    """See `Prompts`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, prompt: PromptRow, template: Template) -> bool:
        """See `Prompts.add`."""
        values, first = _row(prompt), _version(prompt.id, 1, prompt.created_at, template)

        def step(connection: sqlite3.Connection) -> bool:
            (count,) = connection.execute(statements.COUNT, {"project": prompt.project}).fetchone()
            if count >= MOST_PROMPTS:
                return False
            connection.execute(statements.ADD, values)
            connection.execute(statements.ADD_VERSION, first)
            return True

        try:
            return await self._writer.run(step, durable=True, told=False)
        except sqlite3.IntegrityError as error:
            raise ValueError("A prompt with this id exists.") from error

    async def get(self, project: str, id: str) -> PromptRow | None:  # noqa: A002
        """See `Prompts.get`."""
        return await self._readers.ask(lambda connection: _prompt(connection, project, id))

    async def all(self, project: str) -> list[PromptRow]:
        """See `Prompts.all`."""
        return await self._readers.ask(
            lambda connection: [
                PromptRow(*row) for row in connection.execute(statements.ALL, {"project": project})
            ]
        )

    async def change(self, project: str, id: str, change: PromptChange, now: int) -> bool:  # noqa: A002
        """See `Prompts.change`."""

        def step(connection: sqlite3.Connection) -> bool:
            known = _prompt(connection, project, id)
            new = prompts.changed(known, change, now) if known is not None else None
            if new is not None:
                connection.execute(statements.CHANGE, _row(new))
            return new is not None

        return await self._writer.run(step, durable=True, told=False)

    async def publish(
        self,
        project: str,
        id: str,  # noqa: A002
        template: Template | None,
        now: int,
        *,
        default: bool,
    ) -> int | None:
        """See `Prompts.publish`."""

        def step(connection: sqlite3.Connection) -> int | None:
            known = _prompt(connection, project, id)
            said = known.draft if known is not None and template is None else template
            if known is None or said is None:
                return None
            new = prompts.published(known, now, default=default, drop_draft=template is None)
            if new is None:
                return None
            connection.execute(statements.CHANGE, _row(new))
            connection.execute(statements.ADD_VERSION, _version(id, new.versions, now, said))
            return new.versions

        return await self._writer.run(step, durable=True, told=False)

    async def version(self, project: str, id: str, version: int | None) -> PromptVersion | None:  # noqa: A002
        """See `Prompts.version`."""

        def question(connection: sqlite3.Connection) -> PromptVersion | None:
            known = _head(connection, project, id)
            if known is None:
                return None
            number = known.default_version if version is None else version
            if not 1 <= number <= known.versions:
                return None
            values = {"id": id, "version": number}
            row = connection.execute(statements.VERSION, values).fetchone()
            return _read_version(row) if row else None

        return await self._readers.ask(question)

    async def dates(self, project: str, id: str) -> list[int] | None:  # noqa: A002
        """See `Prompts.dates`."""

        def question(connection: sqlite3.Connection) -> list[int] | None:
            if _head(connection, project, id) is None:
                return None
            return [time for (time,) in connection.execute(statements.DATES, {"id": id})]

        return await self._readers.ask(question)

    async def versions(self, project: str, id: str) -> list[PromptVersion] | None:  # noqa: A002
        """See `Prompts.versions`."""

        def question(connection: sqlite3.Connection) -> list[PromptVersion] | None:
            if _head(connection, project, id) is None:
                return None
            rows = connection.execute(statements.VERSIONS, {"id": id})
            return [_read_version(row) for row in rows]

        return await self._readers.ask(question)

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Prompts.delete`."""

        def step(connection: sqlite3.Connection) -> bool:
            gone = connection.execute(statements.DELETE, {"id": id, "project": project})
            if gone.rowcount:
                connection.execute(statements.DELETE_VERSIONS, {"id": id})
            return gone.rowcount > 0

        return await self._writer.run(step, durable=True, told=False)


def _prompt(connection: sqlite3.Connection, project: str, id_: str) -> PromptRow | None:
    row = connection.execute(statements.GET, {"project": project, "id": id_}).fetchone()
    return _read(row) if row else None


def _head(connection: sqlite3.Connection, project: str, id_: str) -> PromptRow | None:
    """It without its draft, which may be large."""
    row = connection.execute(statements.HEAD, {"project": project, "id": id_}).fetchone()
    return PromptRow(*row) if row else None


def _row(prompt: PromptRow) -> dict[str, Value]:
    draft = None if prompt.draft is None else orjson.dumps(prompt.draft)
    return {
        "id": prompt.id,
        "project": prompt.project,
        "name": prompt.name,
        "created_at": prompt.created_at,
        "updated_at": prompt.updated_at,
        "default_version": prompt.default_version,
        "versions": prompt.versions,
        "draft": draft,
    }


def _read(row: Sequence[Any]) -> PromptRow:
    prompt = PromptRow(*row)
    if row[-1] is not None:
        prompt.draft = orjson.loads(row[-1])
    return prompt


def _version(id_: str, number: int, now: int, template: Template) -> dict[str, Value]:
    encoded = orjson.dumps(template)
    return {"prompt_id": id_, "version": number, "created_at": now, "template": encoded}


def _read_version(row: Sequence[Any]) -> PromptVersion:
    version = PromptVersion(*row)
    version.template = orjson.loads(row[-1])
    return version
