"""``antiphon doctor``: what an operator should know, and what needs a hand.

Rules
1. It only asks, and may do so while the server runs.
2. An error is what keeps a server from working; only that makes the exit status 1.
"""

import asyncio
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
from click.exceptions import Exit

from antiphon.app import Antiphon
from antiphon.app.folder import folder_of
from antiphon.app.sandbox import sandbox_folder
from antiphon.cli.common import config_option, database_option, needs, read_settings
from antiphon.config import BackendConfig, ConfigError, load_config
from antiphon.sandbox.environment import NoEnvironment, environment
from antiphon.sandbox.launcher import Launcher
from antiphon.settings import Settings
from antiphon.store.base import StoreError
from antiphon.store.checkup import Finding, check
from antiphon.store.registry import open_store
from antiphon.store.sqlite import path_of

#: Seconds in which a backend must take a connection.
_PATIENCE: Final = 2.0
_MARKS: Final = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
_PORTS: Final = {"http": 80, "https": 443}


@click.command()
@config_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(config: Path | None, database_url: str | None, as_json: bool) -> None:
    """Check configuration, backends, sandboxes and database. Exit status 1: something keeps a
    server from working."""
    settings = read_settings(config=config, database_url=database_url)
    needs(config)
    findings = [*_configuration(settings), *_sandbox(settings), *_database(settings)]
    if as_json:
        rows = [{"level": found.level, "text": found.text} for found in findings]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for found in findings:
            print(_MARKS[found.level], found.text)
    if any(found.level == "error" for found in findings):
        raise Exit(1)


def _configuration(settings: Settings) -> Iterator[Finding]:
    try:
        config = load_config(settings.config)
        with suppress(StoreError):  # `_database` says so
            Antiphon(settings.model_copy(update={"discover": False}))
    except (ConfigError, ValueError) as error:
        yield Finding("error", str(error))
        return
    if config is None:
        yield Finding("ok", f"There is no {settings.config}: each start looks for model servers.")
        return
    yield Finding("ok", f"{settings.config} can be used.")
    for backend in config.backends:
        if backend.base_url is not None:
            yield _reach(backend, backend.base_url)


def _reach(backend: BackendConfig, base_url: str) -> Finding:
    """Whether somebody listens there; what it says is not asked."""
    parts = urlsplit(base_url)
    address = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
    where = f"Backend '{backend.name}' at {address[0]}:{address[1]}"
    try:
        socket.create_connection(address, _PATIENCE).close()
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Finding("warning", f"{where} does not take connections ({why}).")
    return Finding("ok", f"{where} takes connections.")


def _sandbox(settings: Settings) -> Iterator[Finding]:
    """Whether code of models can run here, tried as it is for requests, and what holds it."""
    folder = sandbox_folder(settings)
    with suppress(NoEnvironment):
        if not environment(folder).is_current:
            text = "was made for another version of Antiphon: run `antiphon sandbox install`."
            yield Finding("warning", f"The Python in {folder} {text}")
    state = asyncio.run(Launcher(folder).state())
    if state.reason is not None:
        hint = "docs/deploying.md says what it needs"
        yield Finding("warning", f"code_interpreter cannot be used: {state.reason} ({hint}).")
        return
    lacks = [f"{fact.what} ({fact.note})" for fact in state.facts if not fact.holds]
    without = f" What does not hold here: {'; '.join(lacks)}." if lacks else ""
    yield Finding("ok", f"code_interpreter runs code behind {state.walls}.{without}")


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database_url.startswith("memory:"):
        yield Finding("ok", "Nothing is kept: the database is memory://.")
        return
    try:
        open_store(settings.database_url)  # says which stores there are; connects to nothing
        path = path_of(settings.database_url)
        if path.parent.is_dir():
            yield _room(shutil.disk_usage(path.parent).free, settings.min_free_disk)
        findings = check(settings.database_url)
        yield from findings
        if all(finding.level != "error" for finding in findings):
            yield _folder(settings)
    except (StoreError, OSError) as error:
        yield Finding("error", str(error))


def _folder(settings: Settings) -> Finding:
    folder = folder_of(settings)
    folder.check()
    return Finding("ok", f"{folder.path} is the folder of this database, or will be.")


def _room(free: int, floor: int) -> Finding:
    text = f"The disk of the database has {free / 1024**2:.0f} MiB free"
    if free < floor:
        return Finding("error", f"{text}; ANTIPHON_MIN_FREE_DISK is {floor / 1024**2:.0f} MiB.")
    return Finding("ok", f"{text}.")
