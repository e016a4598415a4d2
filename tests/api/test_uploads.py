"""``/v1/uploads`` over HTTP: a file in parts (spec §2.3)."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2
import pytest

from tests.api.forms import file, made, post
from tests.api.talk import Json, error_of

UNKNOWN: Final = "upload_" + "0" * 32
NEW: Final[Json] = {
    "filename": "dir/a.jsonl",
    "bytes": 6,
    "mime_type": "text/jsonl",
    "purpose": "user_data",
}


def begin(client: httpx2.Client, **more: Any) -> Json:
    return made(client.post("/v1/uploads", json={**NEW, **more}))


def add(client: httpx2.Client, id_: str, content: bytes) -> httpx2.Response:
    return post(client, file(content, name="data"), path=f"/v1/uploads/{id_}/parts")


def complete(
    client: httpx2.Client, id_: str, part_ids: Sequence[str], **more: Any
) -> httpx2.Response:
    return client.post(f"/v1/uploads/{id_}/complete", json={"part_ids": part_ids, **more})


def refused(reply: httpx2.Response, param: str | None, status: int = 400) -> str:
    assert reply.status_code == status, reply.text
    error = error_of(reply)
    assert error["param"] == param
    return str(error["message"])


@pytest.fixture
def two(client: httpx2.Client) -> tuple[str, list[str]]:
    """An upload that has its parts, the second one first."""
    id_ = begin(client)["id"]
    return id_, [made(add(client, id_, content))["id"] for content in (b"DEF", b"ABC")]


def test_parts_become_a_file(client: httpx2.Client) -> None:
    upload = begin(client, expires_after={"anchor": "created_at", "seconds": 7200})
    id_ = upload["id"]
    assert len(id_) == len("upload_") + 32
    assert upload == {
        "id": id_,
        "object": "upload",
        "bytes": 6,
        "created_at": upload["created_at"],
        "expires_at": upload["created_at"] + 3600,
        "filename": "a.jsonl",
        "purpose": "user_data",
        "status": "pending",
        "file": None,
    }
    parts = [made(add(client, id_, content)) for content in (b"DEF", b"spare"[:0], b"ABC")]
    assert set(parts[0]) == {"id", "object", "created_at", "upload_id"}
    assert (parts[0]["object"], parts[0]["upload_id"]) == ("upload.part", id_)
    assert parts[0]["id"].startswith("part_")
    digest = hashlib.md5(b"ABCDEF", usedforsecurity=False).hexdigest().upper()
    done = made(complete(client, id_, [parts[2]["id"], parts[0]["id"]], md5=digest))
    new = done.pop("file")
    assert done == {**{k: v for k, v in upload.items() if k != "file"}, "status": "completed"}
    assert new["expires_at"] == new["created_at"] + 7200
    assert (new["bytes"], new["filename"], new["status"]) == (6, "a.jsonl", "processed")
    assert client.get(f"/v1/files/{new['id']}").json() == new
    assert client.get(f"/v1/files/{new['id']}/content").content == b"ABCDEF"


def test_complete_can_be_said_again(client: httpx2.Client, two: tuple[str, list[str]]) -> None:
    """An answer that was lost; whoever says it at the same time makes no second file."""
    id_, parts = two
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: complete(client, id_, parts[::-1]), range(8)))
    first = made(replies[0])
    assert all(reply.json() == first for reply in replies)
    assert "is completed" in refused(complete(client, id_, parts), "upload_id")
    assert "is completed" in refused(add(client, id_, b"x"), "upload_id")
    cancel = client.post(f"/v1/uploads/{id_}/cancel")
    assert "is completed" in refused(cancel, "upload_id")
    client.delete(f"/v1/files/{first['file']['id']}")
    assert made(complete(client, id_, parts[::-1]))["file"] is None


def test_a_cancelled_upload(client: httpx2.Client, two: tuple[str, list[str]]) -> None:
    id_, parts = two
    for _ in range(2):
        assert made(client.post(f"/v1/uploads/{id_}/cancel"))["status"] == "cancelled"
    assert "is cancelled" in refused(complete(client, id_, parts), "upload_id")
    assert "is cancelled" in refused(add(client, id_, b""), "upload_id")


def test_another_checksum(client: httpx2.Client, two: tuple[str, list[str]]) -> None:
    id_, parts = two
    before = client.get("/v1/files").json()
    assert "checksum" in refused(complete(client, id_, parts, md5="0" * 32), "md5")
    assert client.get("/v1/files").json() == before
    assert made(complete(client, id_, parts, md5=None))["status"] == "completed"


def test_wrong_parts(client: httpx2.Client, two: tuple[str, list[str]]) -> None:
    id_, parts = two
    stranger = made(add(client, begin(client)["id"], b"GHI"))["id"]
    for position, wrong in enumerate(([stranger, *parts], [parts[0], parts[0]])):
        refused(complete(client, id_, wrong), f"part_ids[{position}]")
    assert "have 3 bytes" in refused(complete(client, id_, parts[:1]), "part_ids")
    refused(complete(client, id_, ["a b"]), "part_ids[0]")
    refused(complete(client, id_, ["x"] * 10_001), "part_ids")


def test_more_than_was_announced(client: httpx2.Client, two: tuple[str, list[str]]) -> None:
    id_, parts = two
    assert "the 6 bytes" in refused(add(client, id_, b"x"), None, 413)
    made(complete(client, id_, parts))


def test_a_part_that_is_too_large(client: httpx2.Client) -> None:
    id_ = begin(client, bytes=10**9)["id"]
    whole = bytes(64 * 1024 * 1024 + 1)
    assert str(64 * 1024 * 1024) in refused(add(client, id_, whole), None, 413)
    made(add(client, id_, whole[1:]))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": "6"}, "bytes"),
        ({"bytes": 9 * 2**30}, "bytes"),
        ({"filename": ""}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"purpose": "fun"}, "purpose"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_upload(client: httpx2.Client, body: Json, param: str) -> None:
    refused(client.post("/v1/uploads", json={**NEW, **body}), param)


def test_a_form_without_a_part(client: httpx2.Client) -> None:
    id_ = begin(client)["id"]
    refused(post(client, path=f"/v1/uploads/{id_}/parts"), "data")
    refused(post(client, file(b"x"), path=f"/v1/uploads/{id_}/parts"), "file")


@pytest.mark.parametrize("path", ["parts", "complete", "cancel"])
def test_an_upload_that_is_not_there(client: httpx2.Client, path: str) -> None:
    def ask(id_: str) -> httpx2.Response:
        if path == "parts":
            return add(client, id_, b"x")
        return client.post(f"/v1/uploads/{id_}/{path}", json={"part_ids": []})

    assert UNKNOWN in refused(ask(UNKNOWN), "upload_id", 404)
    assert "begins with 'upload'" in refused(ask("file-1"), "upload_id")
