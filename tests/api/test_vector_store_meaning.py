"""Vector stores with an embeddings server: by words and by meaning (decision 0008)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.meaning import Meaning
from tests.api.raw import eventually
from tests.api.shelves import Shelves
from tests.api.talk import Json, client_of, events
from tests.live import serve

CAT, DOG = "The cat sleeps.", "The dog barks."


@pytest.fixture(scope="module")
def _meaning() -> Iterator[Meaning]:
    with Meaning() as meaning:
        yield meaning


@pytest.fixture
def meaning(_meaning: Meaning) -> Meaning:
    _meaning.down = False
    return _meaning


@pytest.fixture(scope="module")
def fluent(_meaning: Meaning, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelves]:
    folder = tmp_path_factory.mktemp("fluent")
    with serve(folder, _meaning.toml()) as server, client_of(server) as client:
        yield Shelves(client, folder)


def test_found_by_meaning(fluent: Shelves, meaning: Meaning) -> None:
    """No word of the query is in the file."""
    cat, dog = fluent.file(CAT), fluent.file(DOG)
    store = fluent.full(cat, dog)
    best = fluent.search(store, "feline")[0]
    assert best["file_id"] == cat
    words = {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
    assert fluent.search(store, "feline", ranking_options=words) == []
    both = fluent.search(store, "hound barks")[0]
    assert (both["file_id"], both["score"]) == (dog, 1.0), "first in both rankings"
    assert fluent.get(f"/{store}")["usage_bytes"] > len(CAT) + len(DOG), "vectors count"
    used = fluent.get(f"/{store}/files/{cat}")["usage_bytes"]
    assert used == len(CAT) + 64 * 2, "as float16"


def test_the_tool_finds_by_meaning(fluent: Shelves, meaning: Meaning) -> None:
    cat = fluent.file(CAT, "cat.md")
    store = fluent.full(cat, fluent.file(DOG))
    tool: Json = {"type": "file_search", "vector_store_ids": [store], "max_num_results": 1}
    asked = '[[call=file_search {"queries": ["feline"]}]]'
    body: Json = {"model": "simulator", "input": asked, "tools": [tool], "stream": True}
    body["include"] = ["file_search_call.results"]
    reply = fluent.client.post("/v1/responses", json=body)
    call = events(reply.text)[-1]["response"]["output"][0]
    assert [result["file_id"] for result in call["results"]] == [cat]


def test_the_model_does_not_answer(fluent: Shelves, meaning: Meaning) -> None:
    """What words find is better than nothing, and is said to be less."""
    cat, dog = fluent.file(CAT), fluent.file(DOG)
    store = fluent.full(cat, dog)

    def search(query: str, weight: float = 1.0) -> tuple[set[str], str | None]:
        weights = {"embedding_weight": weight, "text_weight": 1 - weight / 2}
        body = {"query": query, "ranking_options": {"hybrid_search": weights}}
        reply = fluent.ask("POST", f"/{store}/search", json=body)
        assert reply.status_code == 200, reply.text
        found = {one["file_id"] for one in reply.json()["data"]}
        return found, reply.headers.get("x-antiphon-degraded")

    found, header = search("the sleeping hound sleeps")
    assert (found, header) == ({cat, dog}, None)
    meaning.down = True
    assert search("one that sleeps") == ({cat}, "embeddings")
    assert search("one hound") == (set(), "embeddings")
    assert search("another that sleeps", 0) == ({cat}, None), "nobody asked for vectors"
    assert search("a third that sleeps", 2) == ({cat}, "embeddings"), "only for vectors"
    meaning.down = False
    found, header = search("one more hound")
    assert dog in found
    assert header is None


def test_files_wait_for_the_model(fluent: Shelves, meaning: Meaning) -> None:
    """They are put off while it does not answer, and completed when it does."""
    meaning.down = True
    cat, asked = fluent.file(CAT), meaning.asked
    store = fluent.store(cat)
    assert eventually(lambda: meaning.asked >= asked + 2, 15), "it is tried again"
    there = fluent.get(f"/{store}/files/{cat}")
    assert (there["status"], there["last_error"]) == ("in_progress", None)
    meaning.down = False
    assert fluent.read(store)["file_counts"]["completed"] == 1
    assert fluent.search(store, "feline")[0]["file_id"] == cat


def test_another_model(tmp_path: Path, meaning: Meaning) -> None:
    """Vectors of one are not compared with those of another; words are still found, and what is put
    in again is found by meaning too."""
    with serve(tmp_path, meaning.toml()) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        cat, dog = shelves.file(CAT), shelves.file(DOG)
        store = shelves.full(cat, dog)
        assert shelves.found(store, "feline") == {cat, dog}
    with serve(tmp_path, meaning.toml("large")) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        assert shelves.found(store, "feline") == set()
        assert shelves.found(store, "sleeps") == {cat}
        shelves.post(f"/{store}/files", {"file_id": cat})
        shelves.read(store)
        assert shelves.found(store, "feline") == {cat}
        assert dog in shelves.found(store, "barks")
    plain = meaning.toml().partition("[embeddings]")[0]
    with serve(tmp_path, plain) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        assert shelves.found(store, "sleeps") == {cat}
        assert shelves.found(store, "feline") == set()
