"""``antiphon files add | list | delete``: files of this machine in vector stores (docs/files.md).

Rules
1. The database and the folder of files are worked on themselves, as by all commands: that needs no
   key, and no server. One that runs on them sees at once what comes, and reads with.
2. Until all is read, this process is one of those that read, whoever put it there; what it leaves
   when it is stopped is read by the next one.
3. Before a command ends indexes forget what it took out of stores, also without a server (R-104).
4. On a terminal there is a bar and what went wrong; elsewhere a line for each file.
"""

import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
import orjson
from click.exceptions import Exit
from pydantic import ValidationError

from antiphon.api.auth import DEFAULT_PROJECT, PROJECT_RULE, is_project
from antiphon.app.library import Library
from antiphon.cli.adding import Adder, StoreTrouble, Terms, all_files, files_of, store_of
from antiphon.cli.common import PATH, Group, read_settings, refused, with_store
from antiphon.cli.found import Found, Outcome, collect, counted
from antiphon.config import Config, ConfigError, load_config
from antiphon.documents.limits import MOST_FILE
from antiphon.engine.leases import Leases
from antiphon.engine.mint import SystemMint
from antiphon.errors import APIError, InvalidRequestError, NotFoundError
from antiphon.protocol.validation import refusal
from antiphon.protocol.vector_stores import CHUNK_OVERLAP, CHUNK_SIZE, NewStoreFile, chunk_sizes
from antiphon.store.base import FileRow, Store, StoreFile

Json: TypeAlias = dict[str, Any]
_LACK: Final = "memory:// keeps no files"
_TOO_EARLY: Final = "--replace has to wait until the new files are read: not with --no-wait"
_project_option: Final = click.option(
    "--project", default=DEFAULT_PROJECT, help="The project that the files belong to."
)


@click.group(cls=Group)
def files() -> None:
    """Files, and vector stores that find them."""


@files.command("add")
@click.argument("paths", nargs=-1, required=True, type=PATH, help="Files, and folders of files.")
@click.option("--store", required=True, help="Name or id of the vector store; made if need be.")
@_project_option
@click.option("--attribute", multiple=True, help="KEY=VALUE, to filter by; may be repeated.")
@click.option("--chunk-size", type=int, help="Tokens of a chunk.")
@click.option("--chunk-overlap", type=int, help="Tokens that chunks share with the one before.")
@click.option("--again", is_flag=True, help="Read those again that are there.")
@click.option("--replace", is_flag=True, help="Take older versions of the files out of the store.")
@click.option("--wait/--no-wait", default=True, help="Wait until all are read.")
def add_files(
    paths: tuple[Path, ...],
    store: str,
    project: str,
    attribute: tuple[str, ...],
    chunk_size: int | None,
    chunk_overlap: int | None,
    again: bool,
    replace: bool,
    wait: bool,
) -> None:
    """Put files into a vector store. Exit status 1: some failed; they are named."""
    if replace and not wait:
        raise refused(ValueError(_TOO_EARLY))
    terms = _terms(project, attribute, (chunk_size, chunk_overlap))
    terms = dataclasses.replace(terms, again=again, replace=replace)

    async def work(library: Library, rows: Store) -> None:
        limit = min(library.files.options.max_file, MOST_FILE)
        found = list(collect(paths, limit))
        left = [one for one in found if isinstance(one, Outcome)]
        if len(left) == len(found):
            for one in left:
                print(one.line())
            raise StoreTrouble("there is no file to add")
        row = await store_of(library.vector_stores, project, store, make=True)
        adder = Adder(library.files, library.vector_stores, row.id, terms)
        outcomes = await _Adding(adder, rows, library).run(found, wait=wait)
        print(f"vector store {row.id} ({row.name}): {counted(outcomes)}")
        await _forget(library)
        if any(one.state == "failed" for one in outcomes):
            raise Exit(1)

    _run(project, work)


@files.command("list")
@_project_option
@click.option("--store", help="Only those of this vector store.")
def list_files(project: str, store: str | None) -> None:
    """List files, newest first."""

    async def work(library: Library, _: Store) -> None:
        held: dict[str, StoreFile] | None = None
        if store is not None:
            row = await store_of(library.vector_stores, project, store, make=False)
            held = await files_of(library.vector_stores, project, row.id)
        async for file in all_files(library.files, project):
            if held is None or file.id in held:
                print(_line(file, None if held is None else held[file.id]))

    _run(project, work)


@files.command("delete")
@click.argument("ids", nargs=-1, required=True, help="As in `antiphon files list`.")
@_project_option
def delete_files(ids: tuple[str, ...], project: str) -> None:
    """Delete files, here and in all vector stores. Exit status 1: some are unknown."""

    async def work(library: Library, _: Store) -> None:
        unknown = False
        for id_ in ids:
            try:
                await library.files.delete(project, id_)
                print(f"{id_} is deleted.")
            except NotFoundError:
                print(f"antiphon: no file {id_} in project '{project}'", file=sys.stderr)
                unknown = True
        await _forget(library)
        if unknown:
            raise Exit(1)

    _run(project, work)


def _run(project: str, work: Callable[[Library, Store], Awaitable[None]]) -> None:
    """Do it with the library of the settings."""
    if not is_project(project):
        raise refused(ValueError(PROJECT_RULE))
    settings = read_settings()

    async def use(store: Store) -> None:
        # Whatever servers leave to others: this process reads.
        able = settings.model_copy(update={"ingestions": max(1, settings.ingestions)})
        try:
            library = Library(able, load_config(settings.config) or Config(), store)
        except ConfigError as error:
            raise refused(error) from error
        try:
            await library.open()
            await work(library, store)
        except (StoreTrouble, OSError, APIError) as error:
            raise refused(error) from error
        finally:
            await library.aclose()

    with_store(use, _LACK)


async def _forget(library: Library) -> None:
    """Rule 3."""
    await library.ingester(_owner()).forget()


def _owner() -> str:
    return f"proc_{SystemMint().partition}"


# -- adding --------------------------------------------------------------------------------------


class _Adding:
    """One call of ``files add``, and what is seen of it."""

    def __init__(self, adder: Adder, store: Store, library: Library) -> None:
        self._adder = adder
        self._store = store
        self._library = library
        #: By path: the last word counts.
        self._outcomes: dict[Path, Outcome] = {}
        self._has_bar = sys.stdout.isatty() and sys.stderr.isatty()

    async def run(self, found: list[Found | Outcome], *, wait: bool) -> list[Outcome]:
        """Add what was found, and see it through."""
        await self._adder.open()
        with self._bar(2 * len(found)) as bar:
            if wait:
                async with _reading(self._library, self._store):
                    await self._add(found, bar, wait=True)
                    async for outcome in self._adder.ended(self._store.runs):
                        self._note(outcome, bar)
            else:
                await self._add(found, bar, wait=False)
        outcomes = list(self._outcomes.values())
        for outcome in outcomes if self._has_bar else ():
            if outcome.state in ("failed", "left out"):
                print(outcome.line())
        async for outcome in self._adder.older():
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
        return outcomes

    async def _add(self, found: list[Found | Outcome], bar: Any, *, wait: bool) -> None:
        for one in found:
            outcome = one if isinstance(one, Outcome) else await self._adder.add(one)
            self._note(outcome, bar, is_last=not wait or outcome.state != "stored")

    def _note(self, outcome: Outcome, bar: Any, *, is_last: bool = True) -> None:
        known = outcome.path in self._outcomes
        self._outcomes[outcome.path] = outcome
        if self._has_bar:
            bar.update(1 if known or not is_last else 2)
        elif is_last:
            print(outcome.line(), flush=True)

    def _bar(self, length: int) -> AbstractContextManager[Any]:
        if not self._has_bar:
            return nullcontext()
        return click.progressbar(length=length, label="Adding and reading", file=sys.stderr)


@asynccontextmanager
async def _reading(library: Library, store: Store) -> AsyncIterator[None]:
    """Read what waits to be read, as one of the processes that do."""
    runs = store.runs
    owner = _owner()

    async def bury(other: str, beat: int | None) -> None:
        # Responses that a dead server has left are ended by the next one: it looks for them.
        await runs.release(other, died=True, beat=beat)

    leases = Leases(runs, owner, read_settings().lease, bury)
    ingester = library.ingester(owner)
    await leases.open()
    ingester.start()
    try:
        yield
    finally:
        await ingester.close()
        await leases.close()
        await runs.release(owner, died=False)


# -- what is asked -------------------------------------------------------------------------------


def _terms(
    project: str,
    attributes: tuple[str, ...],
    sizes: tuple[int | None, int | None],
) -> Terms:
    """As the API would take them."""
    size = CHUNK_SIZE if sizes[0] is None else sizes[0]
    overlap = min(CHUNK_OVERLAP, size // 2) if sizes[1] is None else sizes[1]
    static = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    body: Json = {
        "file_id": "file",
        "attributes": dict(map(_attribute, attributes)),
        "chunking_strategy": {"type": "static", "static": static},
    }
    try:
        form = NewStoreFile.model_validate(body)
        chunk_sizes(form.chunking_strategy)
    except ValidationError as error:
        raise refused(refusal(error, body)) from None
    except InvalidRequestError as error:
        raise refused(error) from error
    return Terms(project, form.attributes or {}, size, overlap)


def _attribute(text: str) -> tuple[str, str | float | bool]:
    """``year=2026`` is a number, ``draft=true`` true or false, ``x="1"`` and all else a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise refused(ValueError(f"an attribute is KEY=VALUE, not '{text}'"))
    try:
        read = orjson.loads(value)
    except orjson.JSONDecodeError:
        return key, value
    return key, read if isinstance(read, str | float | int) else value


def _line(file: FileRow, held: StoreFile | None) -> str:
    made = time.strftime("%Y-%m-%d", time.gmtime(file.created_at))
    line = f"{file.id}\t{file.bytes}\t{made}\t{file.purpose}\t{file.filename}"
    if held is None:
        return line
    return f"{line}\t{held.status}" + (f"\t{held.error[1]}" if held.error else "")
