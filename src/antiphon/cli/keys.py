"""``antiphon keys create | list | revoke``."""

import sys
import time
from typing import Annotated

import typer

from antiphon.api.auth import DEFAULT_PROJECT, PROJECT_RULE, is_project, new_key
from antiphon.app import make_key_row
from antiphon.cli.common import refused, with_store
from antiphon.store.base import KeyRow, Store

keys = typer.Typer(no_args_is_help=True, help="API keys.")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    project: Annotated[str, typer.Option(help="The project it belongs to.")] = DEFAULT_PROJECT,
) -> None:
    """Make an API key. It is shown once."""
    if not is_project(project):
        raise refused(ValueError(PROJECT_RULE))
    if not name.isprintable():
        raise refused(ValueError("a name has only printable characters"))
    key = new_key()
    row = make_key_row(key, name, project)

    async def add(store: Store) -> None:
        await store.add_key(row)

    with_store(add)
    print(key)
    print(f"{row.id}, project {project}. It is shown only now.", file=sys.stderr)


@keys.command("list")
def list_keys() -> None:
    """List API keys, newest first."""

    async def show(store: Store) -> None:
        for key in await store.keys():
            print(_line(key))

    with_store(show)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="As in `antiphon keys list`.")]) -> None:
    """Revoke an API key. A running server follows within five seconds."""

    async def revoke(store: Store) -> None:
        if not await store.revoke_key(key_id, int(time.time())):
            print(f"antiphon: no key {key_id} that is not revoked", file=sys.stderr)
            raise typer.Exit(1)

    with_store(revoke)
    print(f"{key_id} is revoked.")


def _line(key: KeyRow) -> str:
    made = time.strftime("%Y-%m-%d", time.gmtime(key.created_at))
    state = "revoked" if key.revoked_at else "active"
    return f"{key.id}\t…{key.hint}\t{key.project}\t{made}\t{state}\t{key.name}"
