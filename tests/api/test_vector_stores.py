"""``/v1/vector_stores`` over HTTP (spec §2.4, App. G): shapes, searches, lists."""

from typing import Any

import httpx2
import pytest

from tests.api.shelves import CATS, DOGS, NO_COUNTS, STORES, Shelves, refused
from tests.api.talk import Json, client_of
from tests.live import LiveServer

# -- shapes --------------------------------------------------------------------------------------


def test_a_new_store_without_anything(shelves: Shelves) -> None:
    """All keys are there (VectorStoreObject)."""
    made = shelves.client.post(STORES).json()
    id_, created = made["id"], made["created_at"]
    assert len(id_) == len("vs_") + 32
    assert made == {
        "id": id_,
        "object": "vector_store",
        "created_at": created,
        "name": "",
        "description": None,
        "usage_bytes": 0,
        "file_counts": NO_COUNTS,
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": created,
        "metadata": {},
    }
    assert shelves.get(f"/{id_}") == made
    assert shelves.search(id_, "anything") == []
    gone = shelves.delete(f"/{id_}")
    assert gone == {"id": id_, "object": "vector_store.deleted", "deleted": True}
    message = refused(shelves.ask("GET", f"/{id_}"))["message"]
    assert message == f"Vector store with id '{id_}' not found."


def test_a_new_store_with_everything(shelves: Shelves) -> None:
    file = shelves.file(DOGS)
    sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100}
    made = shelves.post(
        "",
        {
            "name": "Pets",
            "description": "All about them",
            "file_ids": [file, file],
            "expires_after": {"anchor": "last_active_at", "days": 7},
            "chunking_strategy": {"type": "static", "static": sizes},
            "metadata": {"a": "b"},
        },
    )
    assert (made["name"], made["description"]) == ("Pets", "All about them")
    assert made["metadata"] == {"a": "b"}
    assert made["expires_after"] == {"anchor": "last_active_at", "days": 7}
    assert made["file_counts"]["total"] == 1
    read = shelves.read(made["id"])
    assert read["status"] == "completed"
    assert read["expires_at"] == read["last_active_at"] + 7 * 86_400
    assert read["usage_bytes"] == len(DOGS)
    there = shelves.get(f"/{made['id']}/files/{file}")
    assert there == {
        "id": file,
        "object": "vector_store.file",
        "usage_bytes": len(DOGS),
        "created_at": there["created_at"],
        "vector_store_id": made["id"],
        "status": "completed",
        "last_error": None,
        "chunking_strategy": {"type": "static", "static": sizes},
        "attributes": {},
    }


def test_results_and_content(shelves: Shelves) -> None:
    dogs, cats = shelves.file(DOGS, "dogs.md"), shelves.file(CATS)
    store = shelves.full(dogs, cats)
    page = shelves.post(f"/{store}/search", {"query": "Why do dogs bark?"})
    (found,) = page["data"]
    assert 0 < found.pop("score") <= 1
    assert found == {
        "file_id": dogs,
        "filename": "dogs.md",
        "attributes": {},
        "content": [{"type": "text", "text": DOGS}],
    }
    assert page == {
        "object": "vector_store.search_results.page",
        "search_query": ["Why do dogs bark?"],
        "data": page["data"],
        "has_more": False,
        "next_page": None,
    }
    assert shelves.get(f"/{store}/files/{cats}/content") == {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": CATS}],
        "has_more": False,
        "next_page": None,
    }


def test_options_of_a_search(shelves: Shelves) -> None:
    files = [shelves.file(f"{DOGS} Number {n}.", f"{n}.txt") for n in range(12)]
    cats = shelves.file(CATS)
    store = shelves.full(*files, cats)
    assert len(shelves.search(store, "dogs")) == 10, "OpenAI's default"
    assert len(shelves.search(store, "dogs", max_num_results=11)) == 11
    assert len(shelves.search(store, "dogs", max_num_results=1)) == 1
    both = shelves.search(store, ["dogs", "cats"], max_num_results=50)
    assert {one["file_id"] for one in both} == {*files, cats}
    scores = [one["score"] for one in both]
    assert scores == sorted(scores, reverse=True)
    middle = scores[len(scores) // 2]
    ranking = {"ranker": "default-2024-11-15", "score_threshold": middle}
    good = shelves.search(store, ["dogs", "cats"], max_num_results=50, ranking_options=ranking)
    assert [one["score"] for one in good] == [score for score in scores if score >= middle]
    rewritten = {"query": "Please tell me: do cats purr?", "rewrite_query": True}
    page = shelves.post(f"/{store}/search", rewritten)
    assert page["search_query"][0] != rewritten["query"]
    assert page["data"][0]["file_id"] == cats
    odd = shelves.post(f"/{store}/search", {"query": "?!", "rewrite_query": True})
    assert (odd["search_query"], odd["data"]) == (["?!"], [])
    words = {"embedding_weight": 1, "text_weight": 0}
    hybrid = {"ranking_options": {"hybrid_search": words}}
    assert shelves.found(store, "purr", **hybrid) == {cats}, "there are no vectors"


def _compare(type_: str, key: str, value: Any) -> Json:
    return {"type": type_, "key": key, "value": value}


@pytest.fixture(scope="module")
def marked(client: httpx2.Client, server: LiveServer) -> tuple[Shelves, str, dict[str, str]]:
    """A store of three files with attributes, and names of these."""
    shelves = Shelves(client, server.folder)
    store = shelves.store()
    attributes: dict[str, Json] = {
        "old": {"year": 1999, "lang": "en", "draft": True},
        "new": {"year": 2026, "lang": "de", "draft": False},
        "bare": {},
    }
    names = {}
    for name, marks in attributes.items():
        file = shelves.file(DOGS, name)
        made = shelves.post(f"/{store}/files", {"file_id": file, "attributes": marks})
        assert repr(made["attributes"]) == repr(marks), "1999 is not 1999.0"
        names[file] = name
    shelves.read(store)
    return shelves, store, names


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (_compare("eq", "lang", "en"), "old"),
        (_compare("ne", "lang", "en"), "new bare"),
        (_compare("eq", "year", 1999.0), "old"),
        (_compare("gt", "year", 1999), "new"),
        (_compare("gte", "year", 1999), "old new"),
        (_compare("lt", "year", 2000.5), "old"),
        (_compare("lte", "year", 1998), ""),
        (_compare("eq", "draft", True), "old"),
        (_compare("eq", "draft", 1), ""),
        (_compare("in", "lang", ["de", "fr"]), "new"),
        (_compare("nin", "lang", ["de", "fr"]), "old bare"),
        ({"type": "and", "filters": []}, "old new bare"),
        ({"type": "or", "filters": []}, ""),
        (
            {
                "type": "or",
                "filters": [
                    _compare("eq", "lang", "de"),
                    {
                        "type": "and",
                        "filters": [_compare("eq", "draft", True), _compare("lt", "year", 2000)],
                    },
                ],
            },
            "old new",
        ),
        (None, "old new bare"),
    ],
    ids=str,
)
def test_filters(
    marked: tuple[Shelves, str, dict[str, str]], filters: Json | None, passing: str
) -> None:
    shelves, store, names = marked
    found = shelves.found(store, "dogs", filters=filters)
    assert {names[file] for file in found} == set(passing.split())


def test_attributes_hold_for_the_next_search(shelves: Shelves) -> None:
    file = shelves.file(DOGS)
    store = shelves.full(file)
    path = f"/{store}/files/{file}"
    for colour in ("red", "blue"):
        changed = shelves.post(path, {"attributes": {"colour": colour}})
        assert changed["attributes"] == {"colour": colour}
        there = _compare("eq", "colour", colour)
        (found,) = shelves.search(store, "dogs", filters=there)
        assert found["attributes"] == {"colour": colour}
        not_there = _compare("ne", "colour", colour)
        assert shelves.search(store, "dogs", filters=not_there) == []
    assert shelves.post(path, {"attributes": None})["attributes"] == {}
    assert shelves.search(store, "dogs", filters=there) == []
    assert shelves.get(path)["attributes"] == {}


# -- lists ---------------------------------------------------------------------------------------


def test_pages_of_stores(idle: Shelves) -> None:
    made = [idle.store(name=str(number)) for number in range(5)]
    newest = idle.get("", limit=2)
    assert [one["id"] for one in newest["data"]] == [made[4], made[3]]
    ends = (newest["object"], newest["first_id"], newest["last_id"], newest["has_more"])
    assert ends == ("list", made[4], made[3], True)
    assert newest["data"][0] == idle.get(f"/{made[4]}")
    assert idle.ids("", after=made[3], limit=2) == [made[2], made[1]]
    assert idle.ids("", after=made[1])[:1] == [made[0]]
    assert idle.ids("", before=made[3], limit=1) == [made[4]]
    ascending = idle.ids("", order="asc", after=made[0], limit=100)
    assert ascending == made[1:]
    assert idle.ids("", order="asc", after=made[0], before=made[3]) == made[1:3]
    idle.delete(f"/{made[2]}")
    assert made[2] not in idle.ids("", limit=100)
    assert refused(idle.ask("GET", f"?after={made[2]}"), 400)["param"] == "after"


def test_pages_of_files(idle: Shelves) -> None:
    files = [idle.file(str(number)) for number in range(4)]
    store = idle.store(*files)
    listed = f"/{store}/files"
    assert idle.ids(listed) == files[::-1]
    page = idle.get(listed, limit=3, order="asc")
    assert [one["id"] for one in page["data"]] == files[:3]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (files[0], files[2], True)
    assert page["data"][0] == idle.get(f"{listed}/{files[0]}")
    assert idle.ids(listed, order="asc", after=files[2]) == files[3:]
    assert idle.ids(listed, before=files[1]) == files[:1:-1]
    assert idle.ids(listed, filter="in_progress", limit=1) == files[3:]
    assert idle.get(listed, filter="failed") == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    elsewhere = idle.file("x")
    for name in ("after", "before"):
        error = refused(idle.ask("GET", listed, params={name: elsewhere}), 400)
        assert (error["param"], error["type"]) == (name, "invalid_request_error")


def test_the_header_of_sdks_has_no_effect(idle: Shelves) -> None:
    headers = {"openai-beta": "assistants=v2"}
    made = idle.ask("POST", "", json={"name": "x"}, headers=headers)
    assert made.status_code == 200
    again = idle.ask("GET", f"/{made.json()['id']}", headers=headers)
    assert again.json() == made.json()


def test_without_a_key_nobody_learns_anything(server: LiveServer) -> None:
    """R-27: the key comes first, before path, query and body."""
    with client_of(server, None) as nobody:
        replies = [
            nobody.get(f"{STORES}?limit=0"),
            nobody.post(STORES, json={"x": 1}),
            nobody.get(f"{STORES}/nonsense"),
        ]
    assert [reply.status_code for reply in replies] == [401] * 3
