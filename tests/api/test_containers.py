"""``/v1/containers`` over HTTP: shapes, files, names, lists, what is refused (spec §2.5)."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.api.forms import TYPE, field, file, form, made, post, uploaded
from tests.api.raw import eventually
from tests.api.shelves import refused
from tests.api.talk import Json, client_of
from tests.live import LiveServer, serve

BOXES: Final = "/v1/containers"
MIB: Final = 1024 * 1024
NO_FILE: Final = "file-" + "0" * 32


@dataclass(frozen=True)
class Box:
    """A container of one project."""

    client: httpx2.Client
    id: str

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{BOXES}/{self.id}"

    def upload(self, content: bytes, disposition: str = 'filename="a.txt"') -> httpx2.Response:
        """Send a file."""
        return post(self.client, file(content, disposition), path=self.path + "/files")

    def copy(self, file_id: str) -> httpx2.Response:
        """Name a file."""
        return self.client.post(self.path + "/files", json={"file_id": file_id})

    def files(self, **query: Any) -> Json:
        """A page of the list."""
        return made(self.client.get(self.path + "/files", params=query))

    def content(self, file_id: str, **headers: str) -> httpx2.Response:
        """A download."""
        return self.client.get(f"{self.path}/files/{file_id}/content", headers=headers)


@pytest.fixture
def box(client: httpx2.Client) -> Iterator[Box]:
    """A container with nothing in it."""
    made_ = Box(client, made(client.post(BOXES, json={"name": "box"}))["id"])
    yield made_
    client.delete(made_.path)


# -- containers ----------------------------------------------------------------------------------


def test_a_new_container_without_anything(client: httpx2.Client) -> None:
    """All keys are there (ContainerResource)."""
    before = int(time.time())
    new = made(client.post(BOXES, json={"name": "My box"}))
    id_, created = new["id"], new["created_at"]
    assert len(id_) == len("cntr_") + 32
    assert before <= created <= time.time()
    assert new == {
        "id": id_,
        "object": "container",
        "name": "My box",
        "created_at": created,
        "status": "running",
        "last_active_at": created,
        "expires_after": {"anchor": "last_active_at", "minutes": 20},
        "memory_limit": "1g",
        "network_policy": {"type": "disabled"},
    }
    there = made(client.get(f"{BOXES}/{id_}"))
    assert there | {"last_active_at": created} == new
    assert there["last_active_at"] >= created
    gone = made(client.delete(f"{BOXES}/{id_}"))
    assert gone == {"id": id_, "object": "container.deleted", "deleted": True}
    for method in ("GET", "DELETE"):
        error = refused(client.request(method, f"{BOXES}/{id_}"))
        assert error["message"] == f"Container with id '{id_}' not found."
        assert (error["type"], error["param"], error["code"]) == (
            "invalid_request_error",
            None,
            None,
        )


def test_a_new_container_with_everything(client: httpx2.Client) -> None:
    source = uploaded(client, b"one,two\n")
    new = made(
        client.post(
            BOXES,
            json={
                "name": "box",
                "file_ids": [source["id"]],
                "expires_after": {"anchor": "last_active_at", "minutes": 5},
                "memory_limit": "1g",
                "network_policy": {"type": "disabled"},
                "skills": [],
            },
        )
    )
    assert new["expires_after"] == {"anchor": "last_active_at", "minutes": 5}
    box = Box(client, new["id"])
    page = box.files()
    [there] = page["data"]
    assert page == {
        "object": "list",
        "data": [
            {
                "id": there["id"],
                "object": "container.file",
                "container_id": box.id,
                "created_at": there["created_at"],
                "bytes": 8,
                "path": "/mnt/data/a.txt",
                "source": "user",
            }
        ],
        "first_id": there["id"],
        "last_id": there["id"],
        "has_more": False,
    }
    assert len(there["id"]) == len("cfile_") + 32
    client.delete(f"/v1/files/{source['id']}")
    assert box.content(there["id"]).content == b"one,two\n"
    client.delete(box.path)


ALLOWLIST: Final = {"type": "allowlist", "allowed_domains": ["example.com"]}
SKILL: Final = {"type": "skill_reference", "skill_id": "skill_1"}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"name": None}, "name", "invalid_type"),
        ({"name": ""}, "name", "empty_string"),
        ({"name": "x" * 513}, "name", "string_above_max_length"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
        ({"expires_after": {"minutes": 5}}, "expires_after.anchor", "missing_required_parameter"),
        (
            {"expires_after": {"anchor": "created_at", "minutes": 5}},
            "expires_after.anchor",
            "invalid_value",
        ),
        (
            {"expires_after": {"anchor": "last_active_at", "minutes": 0}},
            "expires_after.minutes",
            "integer_below_min_value",
        ),
        (
            {"expires_after": {"anchor": "last_active_at", "minutes": 21}},
            "expires_after.minutes",
            "integer_above_max_value",
        ),
        ({"memory_limit": "2g"}, "memory_limit", "invalid_value"),
        ({"memory_limit": "4g"}, "memory_limit", "invalid_value"),
        ({"network_policy": {"type": "open"}}, "network_policy.type", "invalid_value"),
        ({"network_policy": ALLOWLIST}, "network_policy", "unsupported_parameter"),
        ({"skills": [SKILL]}, "skills", "unsupported_parameter"),
        ({"file_ids": ["file-1"] * 51}, "file_ids", "array_above_max_length"),
        ({"file_ids": ["../x"]}, "file_ids[0]", "invalid_value"),
    ],
    ids=str,
)
def test_what_is_refused(client: httpx2.Client, body: Json, param: str, code: str) -> None:
    """R-02: nothing is dropped without a word."""
    reply = client.post(BOXES, json={"name": "refused", **body})
    error = refused(reply, 400)
    assert (error["param"], error["code"]) == (param, code)
    assert made(client.get(BOXES, params={"name": "refused"}))["data"] == []


def test_a_name_is_required(client: httpx2.Client) -> None:
    error = refused(client.post(BOXES, json={}), 400)
    assert (error["param"], error["code"]) == ("name", "missing_required_parameter")


def test_a_file_that_is_not_there(client: httpx2.Client, other: httpx2.Client, box: Box) -> None:
    """R-30: or is another project's."""
    foreign = uploaded(other, b"secret")["id"]
    for id_ in (NO_FILE, foreign):
        for reply, param in (
            (client.post(BOXES, json={"name": "x", "file_ids": [id_]}), "file_ids"),
            (box.copy(id_), "file_id"),
        ):
            error = refused(reply)
            assert (error["message"], error["param"]) == (f"No such File object: {id_}", param)
    assert box.files()["data"] == []


def test_pages_of_containers(other: httpx2.Client) -> None:
    old = {one["id"] for one in made(other.get(BOXES, params={"limit": 100}))["data"]}
    ids = [made(other.post(BOXES, json={"name": "ab"[n % 2]}))["id"] for n in range(4)]

    def listed(**query: Any) -> tuple[list[str], bool]:
        page = made(other.get(BOXES, params=query))
        found = [one["id"] for one in page["data"]]
        assert (page["first_id"], page["last_id"]) == (found[0], found[-1])
        return [id_ for id_ in found if id_ not in old], page["has_more"]

    assert listed(limit=2) == (ids[:1:-1], True)
    assert listed(limit=1, after=ids[2]) == ([ids[1]], True)
    assert listed(limit=3, order="asc", after=ids[0]) == (ids[1:], False)
    assert listed(name="b") == ([ids[3], ids[1]], False)
    empty = made(other.get(BOXES, params={"name": "c"}))
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    for id_ in ids:
        made(other.delete(f"{BOXES}/{id_}"))
    for query, param in (
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": ids[0]}, "after"),
        ({"before": ids[0]}, "before"),
    ):
        assert refused(other.get(BOXES, params=query), 400)["param"] == param


def test_ids_in_paths_are_ids(client: httpx2.Client, box: Box) -> None:
    for path, param in (
        (f"{BOXES}/resp_1", "container_id"),
        (f"{BOXES}/cntr_a%2e%2e", "container_id"),
        (f"{BOXES}/resp_1/files", "container_id"),
        (f"{box.path}/files/file-1", "file_id"),
        (f"{box.path}/files/%2e%2e", "file_id"),
        (f"{box.path}/files/a.txt/content", "file_id"),
    ):
        assert refused(client.get(path), 400)["param"] == param
    for path in ("/files/..%2f..%2fetc%2fpasswd/content", "/files/%2fmnt%2fdata/content"):
        assert client.get(box.path + path).status_code in (400, 404)


# -- files ---------------------------------------------------------------------------------------


def test_a_file_comes_and_goes(client: httpx2.Client, box: Box) -> None:
    """R-98: it is only to be saved."""
    whole = bytes(range(256)) * 500
    new = made(box.upload(whole, "filename=\"x\"; filename*=UTF-8''gr%C3%BCn.csv"))
    assert (new["path"], new["bytes"], new["source"]) == ("/mnt/data/grün.csv", len(whole), "user")
    place = f"{box.path}/files/{new['id']}"
    assert made(client.get(place)) == new
    reply = box.content(new["id"])
    assert (reply.content, reply.headers["content-length"]) == (whole, str(len(whole)))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"].startswith("attachment; ")
    assert reply.headers["content-disposition"].endswith("gr%C3%BCn.csv")
    assert reply.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert reply.headers["x-content-type-options"] == "nosniff"
    part = box.content(new["id"], range="bytes=1-3")
    assert (part.status_code, part.content) == (206, whole[1:4])
    gone = made(client.delete(place))
    assert gone == {"id": new["id"], "object": "container.file.deleted", "deleted": True}
    for reply in (client.get(place), box.content(new["id"]), client.delete(place)):
        error = refused(reply)
        assert error["message"] == f"Container file with id '{new['id']}' not found."


def test_the_later_of_two_files_with_one_name_stays(client: httpx2.Client, box: Box) -> None:
    source = uploaded(client, b"three")["id"]
    one = made(box.upload(b"one"))
    two = made(box.upload(b"two!", 'filename="b/a.txt"'))
    assert two == {**one, "bytes": 4}
    assert box.content(one["id"]).content == b"two!"
    assert made(box.copy(source)) == {**one, "bytes": 5}
    assert box.content(one["id"]).content == b"three"
    assert [found["id"] for found in box.files()["data"]] == [one["id"]]


@pytest.mark.parametrize(
    ("disposition", "path"),
    [
        ('filename="../../../etc/passwd"', "/mnt/data/passwd"),
        (r'filename="..\..\windows\win.ini"', "/mnt/data/win.ini"),
        ('filename="/mnt/data/../../root/.ssh/id"', "/mnt/data/id"),
        ("filename*=utf-8'en'%2Fetc%2Fshadow", "/mnt/data/shadow"),
        ('filename="evil\u202efdp.exe\u200b"', "/mnt/data/evilfdp.exe"),
        ('filename="a%0D%0Ab.txt"', "/mnt/data/ab.txt"),
        ('filename="a\x00b.txt"', "/mnt/data/ab.txt"),
        (f'filename="{"ü" * 300}.csv"', f"/mnt/data/{'ü' * 125}.csv"),
    ],
)
def test_a_name_leads_nowhere_else(box: Box, disposition: str, path: str) -> None:
    """R-96, R-97."""
    new = made(box.upload(b"x", disposition))
    assert new["path"] == path
    assert box.content(new["id"]).content == b"x"


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/..", "%0A", "\u202e"])
def test_what_is_no_name(box: Box, name: str) -> None:
    """R-96."""
    error = refused(box.upload(b"x", f'filename="{name}"'), 400)
    assert (error["param"], error["code"]) == ("file", "invalid_value")
    assert box.files()["data"] == []


def test_pages_of_files(box: Box) -> None:
    ids = [made(box.upload(b"x", f'filename="{n}"'))["id"] for n in range(3)]

    def listed(**query: Any) -> tuple[list[str], bool]:
        page = box.files(**query)
        return [one["id"] for one in page["data"]], page["has_more"]

    assert listed() == (ids[::-1], False)
    assert listed(limit=2) == (ids[:0:-1], True)
    assert listed(order="asc", limit=1, after=ids[0]) == ([ids[1]], True)
    for query, param in (({"limit": 101}, "limit"), ({"after": "cfile_0"}, "after")):
        reply = box.client.get(box.path + "/files", params=query)
        assert refused(reply, 400)["param"] == param


def test_an_id_in_a_form(box: Box) -> None:
    """As in JSON: older SDKs know no other way."""
    source = uploaded(box.client, b"one,two\n")["id"]
    new = made(post(box.client, field("file_id", source), path=box.path + "/files"))
    assert (new["path"], new["bytes"], new["source"]) == ("/mnt/data/a.txt", 8, "user")
    assert box.content(new["id"]).content == b"one,two\n"
    reply = post(box.client, field("file_id", NO_FILE), path=box.path + "/files")
    assert refused(reply)["param"] == "file_id"


@pytest.mark.parametrize(
    ("body", "type_", "param"),
    [
        (b"{}", "application/json", "file_id"),
        (b"", "application/json", None),
        (b'{"file_id": 1}', "application/json", "file_id"),
        (b'{"file_id": "file-1", "file": "x"}', "application/json", "file"),
        (form(), TYPE, "file"),
        (form(field("file_id", "file-1"), file(b"x")), TYPE, "file_id"),
        (form(file(b"x"), field("file_id", "file-1")), TYPE, "file_id"),
        (form(field("file_id", "file-1"), field("file_id", "file-2")), TYPE, "file_id"),
        (form(field("file_id", "")), TYPE, "file_id"),
        (form(field("name", "x")), TYPE, "name"),
        (form(file(b"x"), file(b"y")), TYPE, "file"),
        (b"x", "multipart/form-data", None),
    ],
    ids=range(12),
)
def test_what_is_no_file(box: Box, body: bytes, type_: str, param: str | None) -> None:
    reply = box.client.post(box.path + "/files", content=body, headers={"content-type": type_})
    assert refused(reply, 400)["param"] == param
    reply = box.client.post(box.path + "/files", content=b"x", headers={"content-type": "a/b"})
    assert refused(reply, 415)["code"] == "unsupported_content_type"
    assert box.files()["data"] == []


# -- limits, and the end -------------------------------------------------------------------------


def stored(folder: Path) -> set[str]:
    """The blobs that there are."""
    return {path.name for path in (folder / "data" / "files").glob("*/*")}


def test_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    """R-102: by what the client announces, while the bytes come, and for a copy."""
    env = {"ANTIPHON_CONTAINER_DISK": str(MIB), "ANTIPHON_CONTAINER_MEMORY": str(4 << 30)}
    with serve(tmp_path, "", env) as live, client_of(live) as client:
        new = made(client.post(BOXES, json={"name": "box", "memory_limit": "4g"}))
        assert refused(client.post(BOXES, json={"name": "x", "memory_limit": "16g"}), 400)
        box = Box(client, new["id"])
        made(box.upload(bytes(MIB - 10)))
        source = uploaded(client, bytes(11))["id"]
        for reply in (
            box.upload(bytes(11), 'filename="b"'),
            box.upload(bytes(3 * MIB), 'filename="b"'),
        ):
            error = refused(reply, 413)
            assert (error["code"], error["param"]) == ("storage_quota_exceeded", "file")
        large = uploaded(client, bytes(MIB + 1))["id"]
        assert refused(box.copy(large), 413)["param"] == "file_id"
        error = refused(client.post(BOXES, json={"name": "x", "file_ids": [large]}), 413)
        assert error["param"] == "file_ids"
        made(box.upload(bytes(10), 'filename="b"'))
        assert made(box.copy(source))["bytes"] == 11, "it replaces the large one"
        files = {source, large}
        assert eventually(lambda: len(stored(tmp_path) - files) == 2)


def test_the_last_of_a_container(tmp_path: Path) -> None:
    """R-104, R-110: expired is not unknown; the next sweep takes its bytes."""
    with serve(tmp_path) as live, client_of(live) as client:
        ids = [made(client.post(BOXES, json={"name": n}))["id"] for n in ("ends", "stays")]
        ending, staying = (Box(client, id_) for id_ in ids)
        inside = made(ending.upload(b"one"))["id"]
        made(staying.upload(b"two"))
        with closing(sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)) as database:
            database.execute(
                "UPDATE containers SET last_active_at = last_active_at - 1200 WHERE id = ?",
                (ending.id,),
            )
        file_place = f"{ending.path}/files/{inside}"
        for reply in (
            *(client.get(ending.path), client.delete(ending.path)),
            *(client.get(ending.path + "/files"), client.get(file_place)),
            *(client.get(file_place + "/content"), client.delete(file_place)),
            *(ending.upload(b"x"), ending.copy(NO_FILE)),
        ):
            error = refused(reply)
            assert (error["code"], error["message"]) == (
                "container_expired",
                "Container is expired.",
            )
        assert [one["id"] for one in made(client.get(BOXES))["data"]] == [staying.id]
    with serve(tmp_path) as live, client_of(live) as client:  # which sweeps
        assert eventually(lambda: len(stored(tmp_path)) == 1)
        assert refused(client.get(ending.path))["code"] == "container_expired"
        assert made(client.get(staying.path))["name"] == "stays"
        made(client.delete(staying.path))
        assert eventually(lambda: stored(tmp_path) == set())


def test_who_leaves_in_the_middle_leaves_nothing(server: LiveServer, box: Box) -> None:
    """R-22, R-104."""
    before = stored(server.folder)

    def broken() -> Iterator[bytes]:
        yield form(file(b"x" * 100_000))[:-50]
        raise ConnectionError

    with client_of(server) as client, pytest.raises(ConnectionError):
        client.post(box.path + "/files", content=broken(), headers={"content-type": TYPE})
    assert box.files()["data"] == []
    assert eventually(lambda: stored(server.folder) <= before)
