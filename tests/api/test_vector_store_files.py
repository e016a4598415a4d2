"""Files of vector stores over HTTP: being read, failing, changing, going (R-101, R-104)."""

from typing import Final

from tests.api.raw import eventually
from tests.api.shelves import CATS, DOGS, NO_COUNTS, Shelves, refused
from tests.api.talk import Json
from tests.live import work

BEYOND: Final = "A Zanzibarian walrus. " * 2_000


# -- what is not ready yet -----------------------------------------------------------------------


def test_a_store_that_is_being_read(idle: Shelves) -> None:
    """Clients are told when to ask again; a search finds what is there: nothing."""
    file = idle.file(DOGS)
    reply = idle.ask("POST", "", json={"file_ids": [file]})
    assert reply.headers["openai-poll-after-ms"] == "100"
    store = reply.json()["id"]
    assert reply.json()["status"] == "in_progress"
    for path in (f"/{store}", f"/{store}/files/{file}"):
        again = idle.ask("GET", path)
        assert again.json()["status"] == "in_progress"
        assert again.headers["openai-poll-after-ms"] == "100"
    assert idle.search(store, "dogs") == []
    assert idle.get(f"/{store}/files/{file}/content")["data"] == []
    more = [idle.file("x") for _ in range(20)]
    batch = idle.ask("POST", f"/{store}/file_batches", json={"file_ids": [file, *more]})
    assert batch.headers["openai-poll-after-ms"] == "1000", "of many, less often"


def test_a_batch_is_cancelled(idle: Shelves) -> None:
    """What of it was not read never is; the others are."""
    stays = idle.file(DOGS)
    store = idle.store(stays)
    files = [idle.file(CATS) for _ in range(3)]
    made = idle.post(f"/{store}/file_batches", {"file_ids": files})
    path = f"/{store}/file_batches/{made['id']}"
    assert made == {
        "id": made["id"],
        "object": "vector_store.files_batch",
        "created_at": made["created_at"],
        "vector_store_id": store,
        "status": "in_progress",
        "file_counts": NO_COUNTS | {"in_progress": 3, "total": 3},
    }
    assert idle.ids(f"{path}/files", order="asc") == files
    cancelled = idle.post(f"{path}/cancel")
    assert cancelled["status"] == "cancelled"
    assert cancelled["file_counts"] == NO_COUNTS | {"cancelled": 3, "total": 3}
    assert "openai-poll-after-ms" not in idle.ask("GET", path).headers
    assert idle.post(f"{path}/cancel") == cancelled, "again: no effect"
    with work(idle.folder, env={"ANTIPHON_INGESTIONS": "2"}):
        read = idle.read(store)
    assert read["file_counts"] == NO_COUNTS | {"completed": 1, "cancelled": 3, "total": 4}
    assert idle.ids(f"{path}/files", filter="cancelled", order="asc", after=files[0]) == files[1:]
    assert idle.found(store, "cats") == set()
    assert idle.found(store, "dogs") == {stays}


# -- what fails ----------------------------------------------------------------------------------


def test_a_bad_file_among_good_ones(shelves: Shelves) -> None:
    """R-101: it fails with a reason, the batch goes on."""
    good, better = shelves.file(DOGS), shelves.file(CATS)
    bad, broken = shelves.file(b"\x7fELF\x00\x01" * 99, "x.exe"), shelves.file(b"%PDF-1.4\n\x00bad")
    store = shelves.store()
    given = [{"file_id": good, "attributes": {"n": 1}}, {"file_id": bad}, {"file_id": broken}]
    made = shelves.post(f"/{store}/file_batches", {"files": [*given, {"file_id": better}]})
    path = f"/{store}/file_batches/{made['id']}"
    read = shelves.read(store)
    assert read["file_counts"] == NO_COUNTS | {"completed": 2, "failed": 2, "total": 4}
    assert read["status"] == "completed"
    batch = shelves.get(path)
    assert (batch["status"], batch["file_counts"]) == ("completed", read["file_counts"])
    assert set(shelves.ids(f"{path}/files", filter="failed")) == {bad, broken}
    assert set(shelves.ids(f"{path}/files", filter="completed")) == {good, better}
    errors = [shelves.get(f"/{store}/files/{one}")["last_error"] for one in (bad, broken)]
    assert [error["code"] for error in errors] == ["unsupported_file", "invalid_file"]
    assert all(set(error) == {"code", "message"} and error["message"] for error in errors)
    assert shelves.get(f"/{store}/files/{bad}/content")["data"] == []
    assert shelves.found(store, "dogs cats walrus ELF") == {good, better}
    alone = shelves.post(f"/{store}/file_batches", {"file_ids": [bad]})
    shelves.read(store)
    assert shelves.get(f"/{store}/file_batches/{alone['id']}")["status"] == "failed"


def test_what_a_batch_says_holds_for_file_ids_only(idle: Shelves) -> None:
    """OpenAI's rule: `files` say for themselves."""
    one, two = idle.file(DOGS), idle.file(CATS)
    store = idle.store()
    sizes = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    said = {
        "attributes": {"a": "b"},
        "chunking_strategy": {"type": "static", "static": sizes},
    }
    idle.post(f"/{store}/file_batches", {"file_ids": [one], **said})
    own = {"file_id": two, "attributes": {"c": "d"}}
    idle.post(f"/{store}/file_batches", {"files": [own], **said})
    first, second = (idle.get(f"/{store}/files/{id_}") for id_ in (one, two))
    assert first["attributes"] == {"a": "b"}
    assert first["chunking_strategy"]["static"] == sizes
    assert second["attributes"] == {"c": "d"}
    assert second["chunking_strategy"]["static"]["max_chunk_size_tokens"] == 800
    auto = {"file_id": two, "chunking_strategy": {"type": "auto"}}
    again = idle.post(f"/{store}/files", auto)
    assert (again["attributes"], again["chunking_strategy"]) == ({}, second["chunking_strategy"])


# -- what changes and goes -----------------------------------------------------------------------


def test_an_update(idle: Shelves) -> None:
    lasting = {"anchor": "last_active_at", "days": 2}
    store = idle.store(name="One", metadata={"a": "b"}, expires_after=lasting)
    path = f"/{store}"
    assert idle.post(path, {"name": None, "metadata": None}) == idle.get(path)
    assert idle.post(path)["name"] == "One"
    changed = idle.post(path, {"name": "Two", "description": "d"})
    assert (changed["name"], changed["description"]) == ("Two", "d")
    assert (changed["metadata"], changed["expires_after"]) == ({"a": "b"}, lasting)
    changed = idle.post(path, {"metadata": {}, "expires_after": {**lasting, "days": 9}})
    assert (changed["metadata"], changed["expires_after"]["days"]) == ({}, 9)
    assert changed["expires_at"] == changed["last_active_at"] + 9 * 86_400
    changed = idle.post(path, {"expires_after": None})
    assert (changed["expires_after"], changed["expires_at"]) == (None, None)
    assert idle.get(path) == changed


def test_two_stores_cut_one_file_each_in_its_way(shelves: Shelves) -> None:
    file = shelves.file(BEYOND)
    sizes = {"max_chunk_size_tokens": 4096, "chunk_overlap_tokens": 0}
    strategy = {"type": "static", "static": sizes}
    small, large = shelves.full(file), shelves.full(file, chunking_strategy=strategy)
    many, few = (
        len(shelves.get(f"/{store}/files/{file}/content")["data"]) for store in (small, large)
    )
    assert many > 2 * few > 2
    assert shelves.get(f"/{small}")["usage_bytes"] > shelves.get(f"/{large}")["usage_bytes"]
    assert len(shelves.search(small, "walrus", max_num_results=50)) == many


def test_put_in_twice_is_there_once(shelves: Shelves) -> None:
    file = shelves.file(DOGS)
    store = shelves.full(file)
    strategy = {"static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    again = {"file_id": file, "chunking_strategy": {"type": "static", **strategy}}
    assert shelves.post(f"/{store}/files", again)["status"] == "in_progress"
    assert shelves.read(store)["file_counts"]["total"] == 1
    assert len(shelves.search(store, "dogs")) == 1
    assert eventually(lambda: len(shelves.chunks(store)) == 1, 10)


def test_a_file_is_taken_out(shelves: Shelves) -> None:
    """The file stays; its chunks leave the disk (R-104)."""
    file, other = shelves.file("Zanzibarian walruses."), shelves.file(CATS)
    store = shelves.full(file, other)
    assert shelves.chunks(store) == ["Zanzibarian walruses.", CATS]
    path = f"/{store}/files/{file}"
    gone = shelves.delete(path)
    assert gone == {"id": file, "object": "vector_store.file.deleted", "deleted": True}
    assert shelves.search(store, "walruses") == []
    for method, where in (("GET", path), ("DELETE", path), ("GET", f"{path}/content")):
        message = refused(shelves.ask(method, where))["message"]
        assert message == f"No file found with id '{file}' in vector store '{store}'."
    assert refused(shelves.ask("POST", path, json={"attributes": {}}))["param"] is None
    assert shelves.get(f"/{store}")["file_counts"]["total"] == 1
    assert shelves.found(store, "cats") == {other}
    assert shelves.client.get(f"/v1/files/{file}").status_code == 200
    assert eventually(lambda: shelves.chunks(store) == [CATS], 10)


def test_a_deleted_file_is_in_no_store(shelves: Shelves) -> None:
    """R-104: not in its stores, not in a search, and not in an index."""
    file, other = shelves.file("Zanzibarian walruses."), shelves.file(CATS)
    stores = [shelves.full(file, other), shelves.full(file)]
    shelves.client.delete(f"/v1/files/{file}")
    for store in stores:
        assert shelves.search(store, "walruses") == []
        refused(shelves.ask("GET", f"/{store}/files/{file}"))
        refused(shelves.ask("GET", f"/{store}/files/{file}/content"))
    assert [shelves.get(f"/{store}")["file_counts"]["total"] for store in stores] == [1, 0]
    assert eventually(lambda: [shelves.chunks(store) for store in stores] == [[CATS], []], 10)
    error = refused(shelves.ask("POST", f"/{stores[0]}/files", json={"file_id": file}))
    assert (error["message"], error["param"]) == (f"No such File object: {file}", "file_id")


def test_a_deleted_store_leaves_nothing(shelves: Shelves) -> None:
    """R-104: but for its files."""
    file = shelves.file(DOGS)
    store = shelves.full(file)
    batch = shelves.post(f"/{store}/file_batches", {"file_ids": [file]})["id"]
    shelves.read(store)
    assert shelves.index(store).exists()
    shelves.delete(f"/{store}")
    places = ["", "/files", f"/files/{file}", f"/file_batches/{batch}", "/search"]
    for place in places:
        method, asked = ("POST", {"query": "x"}) if place == "/search" else ("GET", None)
        error = refused(shelves.ask(method, f"/{store}{place}", json=asked))
        assert error["message"] == f"Vector store with id '{store}' not found."
    assert shelves.client.get(f"/v1/files/{file}").status_code == 200
    folder = shelves.index(store).parent
    assert eventually(lambda: not list(folder.glob(f"{store}*")), 10)
    tool = {"type": "file_search", "vector_store_ids": [store]}
    body: Json = {"model": "simulator", "input": "Hi", "tools": [tool]}
    refused(shelves.client.post("/v1/responses", json=body))
