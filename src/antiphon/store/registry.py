"""Which URL means which store."""

from collections.abc import Callable
from typing import Final

from antiphon.store.base import Store, StoreError
from antiphon.store.memory import MemoryStore
from antiphon.store.sql import SqliteStore

_STORES: Final[dict[str, Callable[[str], Store]]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": SqliteStore,
    "sqlite+aiosqlite": SqliteStore,
}


def open_store(url: str) -> Store:
    """The store for a database URL, not yet connected (`await store.open()`)."""
    scheme = url.partition(":")[0]
    if scheme not in _STORES:
        known = ", ".join(f"{name}://" for name in _STORES)
        raise StoreError(f"No store for {scheme}:// URLs; there are {known}.")
    return _STORES[scheme](url)
