"""``antiphon keys create | list | revoke``, and the same for the keys that seal contents:
``rotate-encryption | list-encryption | drop-encryption``."""

import sys
import time

import click
from click.exceptions import Exit

from antiphon.api.auth import DEFAULT_PROJECT, PROJECT_RULE, is_project, new_key
from antiphon.app import make_key_row
from antiphon.cli.common import Group, read_settings, refused, with_store
from antiphon.engine.sealing import new_encryption_key
from antiphon.store.base import KeyRow, Store


@click.group(cls=Group)
def keys() -> None:
    """API keys, and the keys of sealed contents."""


@keys.command("create")
@click.option("--name", default="", show_default=False, help="What the key is for.")
@click.option("--project", default=DEFAULT_PROJECT, help="The project it belongs to.")
def create_key(name: str, project: str) -> None:
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
@click.argument("key_id", help="As in `antiphon keys list`.")
def revoke_key(key_id: str) -> None:
    """Revoke an API key. A running server follows within five seconds."""

    async def revoke(store: Store) -> None:
        if not await store.revoke_key(key_id, int(time.time())):
            print(f"antiphon: no key {key_id} that is not revoked", file=sys.stderr)
            raise Exit(1)

    with_store(revoke)
    print(f"{key_id} is revoked.")


@keys.command("rotate-encryption")
def rotate_encryption() -> None:
    """Seal `encrypted_content` with a new key. What older keys sealed can still be opened."""
    _needs_keys_of_the_database()
    key = new_encryption_key(int(time.time()))

    async def add(store: Store) -> None:
        await store.add_encryption_key(key, first=False)

    with_store(add)
    print(f"{key.id} seals from now on. Running servers follow within a minute.")


@keys.command("list-encryption")
def list_encryption() -> None:
    """List the keys of sealed contents, newest first. The first one seals, all open."""
    _needs_keys_of_the_database()

    async def show(store: Store) -> None:
        for place, key in enumerate(await store.encryption_keys()):
            print(f"{key.id}\t{_day(key.created_at)}\t{'opens' if place else 'seals'}")

    with_store(show)


@keys.command("drop-encryption")
@click.argument("key_id", help="As in `antiphon keys list-encryption`.")
def drop_encryption(key_id: str) -> None:
    """Forget a key of sealed contents. What it sealed is refused from then on, by running servers
    within a minute."""
    _needs_keys_of_the_database()

    async def drop(store: Store) -> None:
        if not await store.drop_encryption_key(key_id):
            print(f"antiphon: no encryption key {key_id}", file=sys.stderr)
            raise Exit(1)

    with_store(drop)
    print(f"{key_id} is dropped.")


def _needs_keys_of_the_database() -> None:
    if read_settings().encryption_keys:
        raise refused(
            ValueError(
                "ANTIPHON_ENCRYPTION_KEYS is set: its first key seals, all open; rotate there"
            )
        )


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _line(key: KeyRow) -> str:
    made = _day(key.created_at)
    state = "revoked" if key.revoked_at else "active"
    return f"{key.id}\t…{key.hint}\t{key.project}\t{made}\t{state}\t{key.name}"
