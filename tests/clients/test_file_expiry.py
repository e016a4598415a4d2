"""The end of files and vector stores, as official clients see it (issue 6/8, must show 1).

Days pass in the database: what would happen in them is what is written there.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.api.raw import eventually
from tests.live import KEY, LiveServer, serve

DAY = 86_400
CALL = '[[call=file_search {"queries": ["cats purr"]}]]'


@contextmanager
def client_of(live: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=live.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def pass_time(folder: Path, seconds: int) -> None:
    """So much later, all of what is there is so much older."""
    with closing(sqlite3.connect(folder / "antiphon.db", isolation_level=None)) as database:
        database.execute("UPDATE files SET expires_at = expires_at - ?", (seconds,))
        database.execute("UPDATE vector_stores SET last_active_at = last_active_at - ?", (seconds,))


def found(client: OpenAI, store: str) -> list[str]:
    return [one.filename for one in client.vector_stores.search(store, query="cats purr")]


def unknown_in(client: OpenAI, store: str, batch: str, file: str) -> None:
    """Nothing that is asked of the store knows the file, and its text is gone."""
    files, batches = client.vector_stores.files, client.vector_stores.file_batches
    for gone in (files.retrieve, files.content, files.delete):
        with pytest.raises(openai.NotFoundError, match=file):
            gone(file, vector_store_id=store)
    with pytest.raises(openai.NotFoundError, match=file):
        files.update(file, vector_store_id=store, attributes={"a": 1})
    for listed in (files.list(store), batches.list_files(batch, vector_store_id=store)):
        assert len(ids := [one.id for one in listed]) == 1
        assert file not in ids
    found = client.vector_stores.retrieve(store)
    assert (found.file_counts.total, found.file_counts.completed) == (1, 1)
    counts = batches.retrieve(batch, vector_store_id=store).file_counts
    assert (counts.total, counts.completed) == (1, 1)


def kept(indexes: Path, store: str) -> bytes:
    """All that the disk has of the index of a store."""
    return b"".join(path.read_bytes() for path in indexes.glob(f"{store}*"))


def test_files_and_stores_end(tmp_path: Path) -> None:
    """R-104: and nothing of them stays."""
    with serve(tmp_path) as live, client_of(live) as client:
        brief = client.files.create(
            file=("brief.md", b"Cats purr for an hour."),
            purpose="assistants",
            expires_after={"anchor": "created_at", "seconds": 3_600},
        )
        lasting = client.files.create(
            file=("lasting.md", b"Cats purr for ever."), purpose="assistants"
        )
        keeping = client.vector_stores.create(name="keeping")
        ending = client.vector_stores.create(
            name="ending", expires_after={"anchor": "last_active_at", "days": 2}
        )
        batches = {}
        for store in (keeping, ending):
            batch = client.vector_stores.file_batches.create_and_poll(
                store.id, file_ids=[brief.id, lasting.id], poll_interval_ms=20
            )
            assert batch.file_counts.completed == 2
            batches[store.id] = batch.id
        blobs = tmp_path / "data" / "files"
        indexes = tmp_path / "data" / "vector_stores"
        assert {path.name for path in blobs.glob("*/*")} == {brief.id, lasting.id}

        pass_time(tmp_path, DAY)
        assert sorted(found(client, keeping.id)) == ["lasting.md"]
        assert client.vector_stores.retrieve(ending.id).status == "completed"
        for gone in (client.files.retrieve, client.files.content):
            with pytest.raises(openai.NotFoundError, match=brief.id):
                gone(brief.id)
        assert [file.id for file in client.files.list()] == [lasting.id]
        unknown_in(client, keeping.id, batches[keeping.id], brief.id)
        assert found(client, ending.id) == ["lasting.md"]  # and this is its last use

        pass_time(tmp_path, DAY)
        assert client.vector_stores.retrieve(ending.id).status == "completed"
        pass_time(tmp_path, DAY)
        ended = client.vector_stores.retrieve(ending.id)
        assert (ended.status, ended.expires_at) == ("expired", ended.last_active_at + 2 * DAY)  # type: ignore[operator]
        with pytest.raises(openai.BadRequestError, match="is expired"):
            found(client, ending.id)
        with pytest.raises(openai.BadRequestError, match="is expired"):
            client.responses.create(
                model="simulator",
                input=CALL,
                tools=[{"type": "file_search", "vector_store_ids": [ending.id]}],
            )

    with serve(tmp_path) as live, client_of(live) as client:  # which sweeps
        assert eventually(lambda: {path.name for path in blobs.glob("*/*")} == {lasting.id})
        assert eventually(lambda: b"purr" not in kept(indexes, ending.id))
        assert eventually(lambda: b"hour" not in kept(indexes, keeping.id))
        assert b"ever" in kept(indexes, keeping.id)
        assert found(client, keeping.id) == ["lasting.md"]
        assert client.vector_stores.retrieve(keeping.id).file_counts.total == 1
        ended = client.vector_stores.retrieve(ending.id)
        assert (ended.status, ended.file_counts.total) == ("expired", 0)
        assert client.vector_stores.delete(ending.id).deleted
