"""Files and vector stores of one client, over HTTP."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.api.forms import field, file, made, post
from tests.api.raw import eventually
from tests.api.talk import Json, error_of

STORES: Final = "/v1/vector_stores"
#: A server with this reads no file: a worker may.
IDLE: Final = {"ANTIPHON_INGESTIONS": "0"}
NO_COUNTS: Final = dict.fromkeys(("in_progress", "completed", "failed", "cancelled", "total"), 0)
DOGS, CATS = "Dogs bark loudly at night.", "Cats purr and sleep all day."
#: Seconds in which a few small files are read, on a busy machine.
PATIENCE: Final = 30.0


@dataclass(frozen=True)
class Shelves:
    """What a project has; `folder`: that of the server."""

    client: httpx2.Client
    folder: Path

    def file(self, text: str | bytes, name: str = "a.txt") -> str:
        """The id of a new file."""
        content = text.encode() if isinstance(text, str) else text
        parts = (field("purpose", "assistants"), file(content, f'filename="{name}"'))
        id_: str = made(post(self.client, *parts))["id"]
        return id_

    def store(self, *file_ids: str, **body: Any) -> str:
        """The id of a new store."""
        given = {"file_ids": list(file_ids), **body} if file_ids else body
        id_: str = self.post("", given)["id"]
        return id_

    def full(self, *file_ids: str, **body: Any) -> str:
        """The same when its files are read."""
        return self.read(self.store(*file_ids, **body))["id"]  # type: ignore[no-any-return]

    def read(self, store_id: str, patience: float = PATIENCE) -> Json:
        """The store when nothing of it is to be read any more; `patience` in seconds."""
        assert eventually(
            lambda: self.get(f"/{store_id}")["file_counts"]["in_progress"] == 0, patience
        ), self.get(f"/{store_id}")
        return self.get(f"/{store_id}")

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Behind ``/v1/vector_stores``."""
        return self.client.request(method, STORES + path, **options)

    def get(self, path: str, **query: Any) -> Json:
        """What is there."""
        return made(self.ask("GET", path, params=query))

    def post(self, path: str, body: Any = None) -> Json:
        """What a POST answers that must work."""
        return made(self.ask("POST", path, json=body))

    def delete(self, path: str) -> Json:
        """The same for DELETE."""
        return made(self.ask("DELETE", path))

    def ids(self, path: str, **query: Any) -> list[str]:
        """Those of a list."""
        return [one["id"] for one in self.get(path, **query)["data"]]

    def search(self, store_id: str, query: str | list[str], **body: Any) -> list[Json]:
        """The results."""
        found: list[Json] = self.post(f"/{store_id}/search", {"query": query, **body})["data"]
        return found

    def found(self, store_id: str, query: str, **body: Any) -> set[str]:
        """The ids of the files in which something was found."""
        return {one["file_id"] for one in self.search(store_id, query, **body)}

    def index(self, store_id: str) -> Path:
        """Where its chunks are."""
        return self.folder / "data" / "vector_stores" / f"{store_id}.db"

    def chunks(self, store_id: str) -> list[str]:
        """All that its index has, whoever still knows of them."""
        with closing(sqlite3.connect(self.index(store_id))) as index:
            return [text for (text,) in index.execute("SELECT text FROM chunks ORDER BY id")]


def refused(reply: httpx2.Response, status: int = 404) -> Json:
    """The error of an answer with this status."""
    assert reply.status_code == status, reply.text
    return error_of(reply)
