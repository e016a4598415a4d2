"""The keys of sealed contents: one suite, run on each store."""

import asyncio
import secrets
from pathlib import Path

from antiphon.store.base import EncryptionKey, Store
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW


def made(created_at: int = NOW) -> EncryptionKey:
    return EncryptionKey(secrets.token_hex(4), secrets.token_bytes(32), created_at)


async def test_keys_come_back_newest_first_whatever_their_clocks_said(store: Store) -> None:
    assert await store.encryption_keys() == []
    keys = [made(NOW), made(NOW - 100), made(NOW)]
    for key in keys:
        assert await store.add_encryption_key(key, first=False)
    assert await store.encryption_keys() == [keys[2], keys[1], keys[0]]


async def test_an_id_is_taken_once(store: Store) -> None:
    key = made()
    assert await store.add_encryption_key(key, first=False)
    twin = EncryptionKey(key.id, secrets.token_bytes(32), NOW)
    assert not await store.add_encryption_key(twin, first=False)
    assert await store.encryption_keys() == [key]


async def test_a_first_key_is_stored_only_when_there_is_none(store: Store) -> None:
    one, two, three = made(), made(), made()
    assert await store.add_encryption_key(one, first=True)
    assert not await store.add_encryption_key(two, first=True)
    assert await store.add_encryption_key(three, first=False)
    assert await store.encryption_keys() == [three, one]
    for key in (one, three):
        assert await store.drop_encryption_key(key.id)
    assert await store.add_encryption_key(two, first=True)
    assert await store.encryption_keys() == [two]


async def test_a_dropped_key_is_gone(store: Store) -> None:
    one, two = made(), made()
    await store.add_encryption_key(one, first=False)
    await store.add_encryption_key(two, first=False)
    assert await store.drop_encryption_key(two.id)
    assert not await store.drop_encryption_key(two.id)
    assert await store.encryption_keys() == [one]
    newer = made()
    await store.add_encryption_key(newer, first=False)
    assert await store.encryption_keys() == [newer, one]


async def test_of_many_first_keys_exactly_one_wins(store: Store) -> None:
    keys = [made() for _ in range(20)]
    won = await asyncio.gather(*(store.add_encryption_key(key, first=True) for key in keys))
    assert sum(won) == 1
    assert await store.encryption_keys() == [keys[won.index(True)]]


async def test_of_the_first_keys_of_two_processes_exactly_one_wins(tmp_path: Path) -> None:
    """Two servers that start on one new file must seal with the same key."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    one, two = SqliteStore(url), SqliteStore(url)
    await one.open()
    await two.open()
    keys = [made() for _ in range(20)]
    won = await asyncio.gather(
        *(
            (one, two)[number % 2].add_encryption_key(key, first=True)
            for number, key in enumerate(keys)
        )
    )
    assert sum(won) == 1
    assert await one.encryption_keys() == [keys[won.index(True)]]
    assert await two.encryption_keys() == await one.encryption_keys()
    await one.close()
    await two.close()


async def test_keys_are_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    key = made()
    for added in (True, False):
        store = SqliteStore(url)
        await store.open()
        assert await store.add_encryption_key(key, first=True) is added
        assert await store.encryption_keys() == [key]
        await store.close()
