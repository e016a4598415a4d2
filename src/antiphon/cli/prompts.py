"""``antiphon prompts export | import``: prompt templates in a folder, reviewable in git.

Rules
1. Everything is read and compared before anything is stored: what contradicts a stored version is
   refused, and then nothing is imported.
2. Import is idempotent. A changed text of the newest version becomes a new one, and nothing else
   does; what is stored and not in the folder stays.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import orjson

from antiphon.api.auth import DEFAULT_PROJECT, PROJECT_RULE, is_project
from antiphon.cli.common import PATH, Group, refused, with_store
from antiphon.cli.prompt_files import (
    PROMPT,
    VERSIONS,
    PromptFileError,
    PromptFiles,
    known_folders,
    new_folder,
    read_folder,
    write_prompt,
)
from antiphon.protocol.templates import Template
from antiphon.store.base import (
    MOST_PROMPTS,
    MOST_VERSIONS,
    PromptChange,
    PromptRow,
    Prompts,
    Store,
)

_folder_argument: Final = click.argument(
    "folder", type=PATH, help="One folder in it for each prompt."
)
_project_option: Final = click.option(
    "--project", default=DEFAULT_PROJECT, help="The project that the prompts belong to."
)


@click.group(cls=Group)
def prompts() -> None:
    """Prompt templates in files."""


@prompts.command("export")
@_folder_argument
@_project_option
def export_prompts(folder: Path, project: str) -> None:
    """Write all prompts of a project to files."""

    async def work(stored: Prompts) -> None:
        async for line in export_to(folder, project, stored):
            print(line)

    _run(project, work)


@prompts.command("import")
@_folder_argument
@_project_option
def import_prompts(folder: Path, project: str) -> None:
    """Store the prompts of a folder. The same files again change nothing."""

    async def work(stored: Prompts) -> None:
        async for line in import_from(folder, project, stored):
            print(line)

    _run(project, work)


def _run(project: str, work: Callable[[Prompts], Awaitable[None]]) -> None:
    if not is_project(project):
        raise refused(ValueError(PROJECT_RULE))

    async def use(store: Store) -> None:
        try:
            await work(store.prompts)
        except (PromptFileError, OSError) as error:
            raise refused(error) from error

    with_store(use, "memory:// keeps no prompts")


# -- export --------------------------------------------------------------------------------------


async def export_to(folder: Path, project: str, stored: Prompts) -> AsyncGenerator[str, None]:
    """Write every prompt into the folder that has its id, else a new one; a line for each."""
    rows = await stored.all(project)
    known = known_folders(folder, project)
    if not rows and not known:
        yield f"no prompts in project '{project}'"
    for row in reversed(rows):
        path = known.pop(row.id, None) or new_folder(folder, row.name, row.id)
        older = await _templates(stored, row)
        newest = older.pop(row.versions)
        files = PromptFiles(path, row.id, row.name, row.default_version, newest, older)
        yield f"{path}: {'written' if write_prompt(files) else 'unchanged'}"
    for path in known.values():
        yield f"{path}: not stored in project {project}; left as it is"


async def _templates(stored: Prompts, row: PromptRow) -> dict[int, Template]:
    """All versions of a prompt by their numbers, the first one first."""
    versions = await stored.versions(row.project, row.id) or []
    return {version.version: version.template for version in reversed(versions)}


# -- import --------------------------------------------------------------------------------------


async def import_from(folder: Path, project: str, stored: Prompts) -> AsyncGenerator[str, None]:
    """Store what the folder has, once all of it is known to fit; a line for each prompt. Raises
    `PromptFileError` or OSError."""
    changes = [await _plan(stored, project, files) for files in read_folder(folder, project)]
    new = sum(change.row is None for change in changes)
    if new and len(await stored.all(project)) + new > MOST_PROMPTS:
        raise PromptFileError(folder, _full(project))
    if not changes:
        yield f"no prompts in folder '{folder}'"
    for change in changes:
        yield f"{change.files.path}: {await _store(stored, project, change)}"


@dataclass(frozen=True, slots=True)
class _Change:
    """What has to happen for the store to have what the files say."""

    files: PromptFiles
    row: PromptRow | None
    publish: list[Template]
    default_version: int


async def _plan(stored: Prompts, project: str, files: PromptFiles) -> _Change:
    """Raises `PromptFileError` when the files contradict what is stored, or are not complete."""
    row = await stored.get(project, files.id)
    templates = {} if row is None else await _templates(stored, row)
    for number, template in files.older.items():
        if number in templates and not _same(templates[number], template):
            raise PromptFileError(
                files.path / VERSIONS / f"{number}.yaml",
                f"version {number} of {files.id} is stored with another text, and versions never "
                "change",
            )
    publish, number = _missing(files, templates)
    if len(templates) + len(publish) > MOST_VERSIONS:
        raise PromptFileError(files.path, f"a prompt has at most {MOST_VERSIONS} versions")
    default = files.default_version or number
    if default > len(templates) + len(publish):
        raise PromptFileError(
            files.path / PROMPT, f"there is no version {default} that could be the default one"
        )
    return _Change(files, row, publish, default)


def _missing(files: PromptFiles, stored: dict[int, Template]) -> tuple[list[Template], int]:
    """The versions that are not stored yet, and the number that the newest text has then."""
    if files.number <= len(stored):
        for number in sorted(stored, reverse=True):
            if _same(stored[number], files.newest):
                return [], number
        return [files.newest], len(stored) + 1
    between = range(len(stored) + 1, files.number)
    for number in between:
        if number not in files.older:
            raise PromptFileError(
                files.path / VERSIONS / f"{number}.yaml", f"version {number} is missing"
            )
    return [*(files.older[number] for number in between), files.newest], files.number


def _same(one: Template, other: Template) -> bool:
    sort = orjson.OPT_SORT_KEYS
    return orjson.dumps(one, option=sort) == orjson.dumps(other, option=sort)


def _full(project: str) -> str:
    return f"project {project} would have more than {MOST_PROMPTS} prompts, which is the limit"


async def _store(stored: Prompts, project: str, change: _Change) -> str:
    """Make it so, and say what was done."""
    files, row, publish = change.files, change.row, list(change.publish)
    now = int(time.time())
    if row is None:
        row = PromptRow(files.id, project, files.name, created_at=now, updated_at=now)
        try:
            added = await stored.add(row, publish.pop(0))
        except ValueError:
            why = f"{files.id} belongs to another project"
            raise PromptFileError(files.path / PROMPT, why) from None
        if not added:
            raise PromptFileError(files.path / PROMPT, _full(project))
    for template in publish:
        await stored.publish(project, files.id, template, now, default=False)
    same = (files.name, change.default_version) == (row.name, row.default_version)
    if not same:
        new = PromptChange(name=files.name, default_version=change.default_version)
        await stored.change(project, files.id, new, now)
    if change.publish:
        newest = (0 if change.row is None else change.row.versions) + len(change.publish)
        return f"version {newest} is stored"
    return "unchanged" if same else "changed"
