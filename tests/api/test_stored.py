"""What is stored: pages (spec §2.1), restarts, kills, retention and deletion (reliability F)."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.api.raw import eventually
from tests.api.talk import Json, client_of, create, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import serve

#: A text that occurs nowhere else.
MARKER = "xylophone-4711-zeugma"


def listed(client: httpx2.Client, id_: str, **query: Any) -> Json:
    reply = client.get(f"/v1/responses/{id_}/input_items", params=query)
    assert reply.status_code == 200, reply.text
    page: Json = reply.json()
    assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
    assert page["object"] == "list"
    ids = [item["id"] for item in page["data"]]
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return page


# -- pages ---------------------------------------------------------------------------------------


@pytest.fixture
def long(client: httpx2.Client, upstream: ChatUpstream) -> str:
    """A response with 45 input items, ``0`` to ``44``."""
    texts = [{"role": "user", "content": str(number)} for number in range(45)]
    made: str = create(client, input=texts)["id"]
    return made


def texts_of(page: Json) -> list[int]:
    return [int(item["content"][0]["text"]) for item in page["data"]]


def test_a_page_has_20_items_newest_first(client: httpx2.Client, long: str) -> None:
    page = listed(client, long)
    assert texts_of(page) == list(range(44, 24, -1))
    assert page["has_more"] is True


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 44, 45, 100])
def test_pages_follow_each_other_without_gap(
    client: httpx2.Client, long: str, limit: int, order: str
) -> None:
    seen: list[int] = []
    query: Json = {"limit": limit, "order": order}
    while True:
        page = listed(client, long, **query)
        seen += texts_of(page)
        assert page["has_more"] is (len(seen) < 45)
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
        query["after"] = page["last_id"]
    assert seen == sorted(range(45), reverse=order == "desc")


def test_behind_the_last_item_there_is_an_empty_page(client: httpx2.Client, long: str) -> None:
    last = listed(client, long, limit=45)["last_id"]
    page = listed(client, long, after=last)
    assert (page["data"], page["has_more"]) == ([], False)


def test_items_are_history_and_input_but_not_the_output(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Spec §9."""
    first = create(client, input="one", instructions="never listed")
    second = create(client, input="two", previous_response_id=first["id"])
    items = listed(client, second["id"], order="asc")["data"]
    assert [(item["role"], item["content"][0]["text"]) for item in items] == [
        ("user", "one"),
        ("assistant", "Hello"),
        ("user", "two"),
    ]
    assert items[1] == first["output"][0]
    assert all(item["status"] == "completed" for item in items)
    assert [item["id"] for item in listed(client, first["id"])["data"]] == [items[0]["id"]]


def test_every_kind_of_item_comes_back_as_it_was_sent(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,"}
    sent: list[Json] = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "opaque"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sun"},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [image]},
    ]
    made = create(client, input=sent)
    items = listed(client, made["id"], order="asc")["data"]
    assert len({item["id"] for item in items}) == 5
    for before, after in zip(sent, items, strict=True):
        kept = {key: value for key, value in before.items() if key != "content"}
        assert kept.items() <= after.items()


# -- restarts, kills, retention, deletion --------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def serving(folder: Path, upstream: ChatUpstream, **env: str) -> Any:
    toml = (
        '[[backends]]\nname = "up"\nkind = "chat_completions"\nmodels = ["m"]\n'
        f'base_url = "{upstream.base_url}"\n'
    )
    return serve(folder, toml, env)


def database_of(folder: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(folder / "antiphon.db"))


def kept_files(folder: Path) -> bytes:
    """All that is in the files of the database."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("antiphon.db*")))


def test_bodies_are_the_same_after_a_restart(folder: Path, upstream: ChatUpstream) -> None:
    """R-68: byte for byte; deleted stays deleted."""
    upstream.script(Reply.chat("Hel", "lo"))
    with serving(folder, upstream) as live, client_of(live) as client:
        streamed = {"model": "m", "input": "Hi", "stream": True}
        log = events(client.post("/v1/responses", json=streamed).text)
        made = [
            create(client, metadata={"k": "é\u0000"}, temperature=0.1)["id"],
            create(client, input="x" * 100_000)["id"],
            log[-1]["response"]["id"],
        ]
        gone = create(client)["id"]
        client.delete(f"/v1/responses/{gone}")
        paths = [f"/v1/responses/{id_}{suffix}" for id_ in made for suffix in ("", "/input_items")]
        before = [client.get(path).content for path in paths]
    with serving(folder, upstream) as live, client_of(live) as client:
        assert [client.get(path).content for path in paths] == before
        assert client.get(f"/v1/responses/{gone}").status_code == 404
        chained = create(client, input="More", previous_response_id=made[0])
        assert chained["output_text"] == "Hello"


def final_of(reply: httpx2.Response) -> Json:
    """The Response of ``response.completed``, the moment it can be read."""
    for line in reply.iter_lines():
        if line.startswith('data: {"type":"response.completed"'):
            final: Json = orjson.loads(line[6:])["response"]
            return final
    raise AssertionError("the stream was not completed")


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_200_is_on_the_disk(folder: Path, upstream: ChatUpstream, stream: bool) -> None:
    """R-67: kill -9 right after the answer, or after the terminal event: the row is there."""
    body = {"model": "m", "input": "Hi", "stream": stream}
    answers: list[Json] = []
    for _ in range(2):
        with serving(folder, upstream) as live, client_of(live) as client:
            with client.stream("POST", "/v1/responses", json=body) as reply:
                answers.append(final_of(reply) if stream else orjson.loads(reply.read()))
                live.process.kill()
            live.process.wait(5)
    with serving(folder, upstream) as live, client_of(live) as client:
        for answer in answers:
            assert client.get(f"/v1/responses/{answer['id']}").json() == answer


def test_a_reader_of_the_terminal_event_finds_it_stored(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-67, lesson 1: GET and `previous_response_id` work the moment the event is read."""
    body = {"model": "m", "input": "Hi", "stream": True}
    for _ in range(20):
        with client.stream("POST", "/v1/responses", json=body) as reply:
            final = final_of(reply)
            assert client.get(f"/v1/responses/{final['id']}").json() == final
            assert create(client, previous_response_id=final["id"])["status"] == "completed"


def test_retention_decides_when_it_is_forgotten(folder: Path, upstream: ChatUpstream) -> None:
    day = 86_400
    for days, expected in (("2", 2 * day), ("0", None)):
        with serving(folder, upstream, ANTIPHON_RETENTION_DAYS=days) as live:
            with client_of(live) as client:
                made = create(client)
            with database_of(folder) as database:
                query = "SELECT created_at, expires_at FROM responses WHERE id = ?"
                created, expires = database.execute(query, [made["id"]]).fetchone()
        assert created == made["created_at"]
        assert (None if expires is None else expires - created) == expected


def test_what_has_expired_is_unknown_and_leaves_the_disk(
    folder: Path, upstream: ChatUpstream
) -> None:
    """R-137: at once for clients, at the next sweep for the files."""
    with serving(folder, upstream) as live, client_of(live) as client:
        made = create(client, input=MARKER)
        with database_of(folder) as database:
            database.execute("UPDATE responses SET expires_at = ?", [int(time.time())])
            database.commit()
        assert client.get(f"/v1/responses/{made['id']}").status_code == 404
        chained = {"model": "m", "input": "Hi", "previous_response_id": made["id"]}
        assert client.post("/v1/responses", json=chained).status_code == 400
    with serving(folder, upstream) as live, database_of(folder) as database:
        query = "SELECT count(*) FROM responses WHERE id = ?"
        assert eventually(lambda: database.execute(query, [made["id"]]).fetchone() == (0,))
    assert MARKER.encode() not in kept_files(folder)


def test_store_false_never_touches_the_disk(folder: Path, upstream: ChatUpstream) -> None:
    """Issue 2, R-137: neither input, output, instructions nor id."""
    upstream.script(Reply.chat(MARKER, " said"))
    with serving(folder, upstream) as live, client_of(live) as client:
        ids = [create(client, input=MARKER, instructions=MARKER, store=False)["id"]]
        body = {"model": "m", "input": MARKER, "stream": True, "store": False}
        ids.append(events(client.post("/v1/responses", json=body).text)[-1]["response"]["id"])
        upstream.script(Reply.json({"error": {}}, 500))
        client.post("/v1/responses", json={"model": "m", "input": MARKER, "store": False})
        for id_ in ids:
            assert client.get(f"/v1/responses/{id_}").status_code == 404
        while_running = kept_files(folder)
    for kept in (while_running, kept_files(folder)):
        assert len(kept) > 1000
        assert MARKER.encode() not in kept
        assert not any(id_.encode() in kept for id_ in ids)
    assert MARKER not in (folder / "stderr.log").read_text()


def test_what_was_deleted_is_gone_from_the_files(folder: Path, upstream: ChatUpstream) -> None:
    """R-59, R-104: not only hidden."""
    upstream.script(Reply.chat(MARKER))
    with serving(folder, upstream) as live, client_of(live) as client:
        made = create(client, input=f"{MARKER} " * 5000, metadata={"k": MARKER})
        assert MARKER.encode() in kept_files(folder)
        assert client.delete(f"/v1/responses/{made['id']}").status_code == 200
        upstream.script(Reply.chat("Hello"))
        for _ in range(20):
            create(client)
    assert MARKER.encode() not in kept_files(folder)


def test_children_outlive_their_parent(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-60: readable; but nobody can chain to what is gone, or through it."""
    parent = create(client, input="one")
    child = create(client, input="two", previous_response_id=parent["id"])
    client.delete(f"/v1/responses/{parent['id']}")
    assert client.get(f"/v1/responses/{child['id']}").json() == child
    for id_ in (parent["id"], child["id"]):
        body = {"model": "m", "input": "three", "previous_response_id": id_}
        reply = client.post("/v1/responses", json=body)
        assert reply.status_code == 400
        assert error_of(reply)["code"] == "previous_response_not_found"


def test_items_of_a_child_whose_parent_is_gone(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """A list is an answer, not an accident: no 5xx, and no 400 about a parameter nobody sent."""
    parent = create(client, input="one")
    child = create(client, input="two", previous_response_id=parent["id"])
    client.delete(f"/v1/responses/{parent['id']}")
    reply = client.get(f"/v1/responses/{child['id']}/input_items", params={"order": "asc"})
    assert reply.status_code == 200, reply.text
    assert [item["content"][0]["text"] for item in reply.json()["data"]] == ["two"]
