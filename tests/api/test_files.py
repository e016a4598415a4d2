"""``/v1/files`` over HTTP: forms in any shape, lists, downloads (spec §2.3; R-96, R-98, R-102)."""

import time
from typing import Any, Final
from urllib.parse import unquote

import httpx2
import pytest

from tests.api.forms import BOUNDARY, TYPE, field, file, form, made, part, post, uploaded
from tests.api.talk import Json, error_of

PURPOSE: Final = field("purpose", "user_data")
UNKNOWN: Final = "file-" + "0" * 32


def refused(reply: httpx2.Response, status: int = 400) -> Json:
    assert reply.status_code == status, reply.text
    return error_of(reply)


def content_of(client: httpx2.Client, id_: str, **headers: str) -> httpx2.Response:
    return client.get(f"/v1/files/{id_}/content", headers=headers)


def test_a_file_comes_back_as_it_was(client: httpx2.Client) -> None:
    whole = bytes(range(256)) * 5000
    before = int(time.time())
    new = uploaded(client, whole)
    assert set(new) == {"id", "object", "bytes", "created_at", "filename", "purpose", "status"}
    assert len(new["id"]) == len("file-") + 32
    assert before <= new.pop("created_at") <= time.time()
    id_ = new.pop("id")
    assert new == {
        "object": "file",
        "bytes": len(whole),
        "filename": "a.txt",
        "purpose": "user_data",
        "status": "processed",
    }
    assert client.get(f"/v1/files/{id_}").json()["bytes"] == len(whole)
    assert content_of(client, id_).content == whole
    gone = client.delete(f"/v1/files/{id_}")
    assert gone.json() == {"id": id_, "object": "file", "deleted": True}
    for reply in (client.get(f"/v1/files/{id_}"), content_of(client, id_)):
        assert refused(reply, 404)["message"] == f"No such File object: {id_}"
    assert refused(client.delete(f"/v1/files/{id_}"), 404)["param"] == "id"


@pytest.mark.parametrize("first", [True, False], ids=["field-first", "file-first"])
def test_fields_may_stand_before_and_behind_the_file(client: httpx2.Client, first: bool) -> None:
    fields = [
        field("purpose", "vision"),
        field("expires_after[seconds]", "3600"),
        field("expires_after[anchor]", "created_at"),
    ]
    parts = [*fields, file(b"x")] if first else [file(b"x"), *fields]
    new = made(post(client, *parts))
    assert (new["purpose"], new["expires_at"]) == ("vision", new["created_at"] + 3600)


def test_files_for_batches_expire(client: httpx2.Client) -> None:
    """OpenAI's rule; other files stay."""
    new = uploaded(client, b"{}", "batch")
    assert new["expires_at"] == new["created_at"] + 30 * 86_400


def test_an_empty_file(client: httpx2.Client) -> None:
    new = uploaded(client, b"")
    assert new["bytes"] == 0
    reply = content_of(client, new["id"])
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n",
        f"\r\n--{BOUNDARY}".encode()[:-1],
        f"--{BOUNDARY}--\r\n".encode(),
        b"\r\n--",
        b"\r" * 70_000,
        (f"\r\n--{BOUNDARY[:-1]}" * 5000).encode(),
    ],
    ids=range(6),
)
def test_bytes_that_look_like_a_boundary(client: httpx2.Client, content: bytes) -> None:
    whole = b"a" + content + b"z"
    new = uploaded(client, whole)
    assert content_of(client, new["id"]).content == whole


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="a b.txt"', "a b.txt"),
        ("filename=plain.txt", "plain.txt"),
        ('filename="../../etc/passwd"', "passwd"),
        (r'filename="C:\dir\report.doc"', "report.doc"),
        ('filename=".."', "upload"),
        ('filename="/"', "upload"),
        ('filename=""', "upload"),
        ("x=y", "upload"),
        ('filename="grün 文.txt"', "grün 文.txt"),
        ("filename=\"a.txt\"; filename*=UTF-8''gr%C3%BCn%20%2e.txt", "grün ..txt"),
        ("filename=\"a.txt\"; filename*=latin-9''x", "a.txt"),
        ("filename*=utf-8'en'%2Fetc%2Fpasswd", "passwd"),
        ('filename="say %22hi%22.txt"', 'say "hi".txt'),
        (r'filename="say \"hi\".txt"', 'say "hi".txt'),
        ('filename="a%0D%0Ab.txt"', "ab.txt"),
        ('filename="evil\u202etxt.exe\u200b"', "eviltxt.exe"),
        ('filename="a\tb\x00c.txt"', "abc.txt"),
        (f'filename="{"n" * 400}.tar"', "n" * 251 + ".tar"),
        (f'filename="{"n" * 400}"', "n" * 255),
        ('filename="a;b=c.txt"', "a;b=c.txt"),
    ],
)
def test_a_name_is_only_a_name(client: httpx2.Client, disposition: str, name: str) -> None:
    """R-96: and it comes back in a header that nobody can break."""
    new = made(post(client, PURPOSE, file(b"x", disposition)))
    assert new["filename"] == name
    header = content_of(client, new["id"]).headers["content-disposition"]
    assert header.isascii()
    assert header.startswith('attachment; filename="')
    assert unquote(header.rpartition("filename*=UTF-8''")[2]) == name


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "param", "message"),
    [
        ([file(b"x")], "purpose", "Missing required parameter: 'purpose'."),
        ([PURPOSE], "file", "Missing required parameter: 'file'."),
        ([], "file", "Missing required parameter: 'file'."),
        (
            [file(b"x"), field("purpose", "fun")],
            "purpose",
            (
                "Invalid value: 'fun'. Supported values are: 'assistants', 'batch', 'fine-tune', "
                "'vision', 'user_data', and 'evals'."
            ),
        ),
        ([PURPOSE, file(b"x"), field("colour", "red")], "colour", "Unknown parameter: 'colour'."),
        ([PURPOSE, file(b"x"), file(b"y")], "file", "Duplicate parameter: 'file'."),
        ([PURPOSE, PURPOSE, file(b"x")], "purpose", "Duplicate parameter: 'purpose'."),
        (
            [PURPOSE, file(b"x"), field("expires_after[anchor]", "created_at")],
            "expires_after.seconds",
            "Missing required parameter: 'expires_after.seconds'.",
        ),
        (
            [
                *(PURPOSE, file(b"x"), field("expires_after[anchor]", "created_at")),
                field("expires_after[seconds]", "5"),
            ],
            "expires_after.seconds",
            (
                "Invalid 'expires_after.seconds': integer below minimum value. Expected a value >= "
                "3600, but got 5 instead."
            ),
        ),
        (
            [
                *(PURPOSE, file(b"x"), field("expires_after[anchor]", "created_at")),
                field("expires_after[seconds]", "1e9"),
            ],
            "expires_after.seconds",
            (
                "Invalid type for 'expires_after.seconds': expected an integer, but got a string "
                "instead."
            ),
        ),
        ([field("purpose", b"\xff"), file(b"x")], "purpose", "Invalid 'purpose': expected UTF-8."),
    ],
    ids=range(11),
)
def test_what_is_wrong_is_named(
    client: httpx2.Client, parts: list[bytes], param: str, message: str
) -> None:
    before = client.get("/v1/files").json()
    error = refused(post(client, *parts))
    assert (error["param"], error["message"]) == (param, message)
    assert error["type"] == "invalid_request_error"
    assert client.get("/v1/files").json() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        form(PURPOSE, file(b"x"))[:-10],
        form(PURPOSE, file(b"x")).replace(BOUNDARY.encode(), b"other"),
        form(part('form-data; filename="a"', b"x")),
        form(part('attachment; name="file"', b"x")),
        form(part("", b"x")),
        form(part('form-data; name="file"', b"x", "bad header\r\n")),
        form(part('form-data; name="file"', b"x", "".join(f"h{n}: v\r\n" for n in range(40)))),
        form(part(f'form-data; name="{"n" * 20_000}"', b"x")),
        form(part('form-data; name="file"', b"x", ("a" * 9000 + ": b\r\n") * 3)),
        form(part('form-data; name="file"', b"x", "Content-Transfer-Encoding: base64\r\n")),
    ],
    ids=range(12),
)
def test_a_broken_form(client: httpx2.Client, body: bytes) -> None:
    """R-102."""
    error = refused(client.post("/v1/files", content=body, headers={"content-type": TYPE}))
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "application/json"}, 415, "unsupported_content_type"),
        ({}, 415, "unsupported_content_type"),
        ({"content-type": "multipart/form-data"}, 400, None),
        ({"content-type": f"multipart/form-data; boundary={'b' * 90}"}, 400, None),
        ({"content-type": TYPE, "content-encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
    ids=range(5),
)
def test_what_the_header_says_is_refused_at_once(
    client: httpx2.Client, headers: dict[str, str], status: int, code: str | None
) -> None:
    reply = client.post("/v1/files", content=form(PURPOSE, file(b"x")), headers=headers)
    assert refused(reply, status)["code"] == code


def test_a_large_field(client: httpx2.Client) -> None:
    assert refused(post(client, field("purpose", "x" * 70_000), file(b"x")), 413)


def test_a_file_that_is_called_a_field(client: httpx2.Client) -> None:
    """`purpose` with a filename, as some form builders send it; and a form without a last line."""
    odd = part('form-data; name="purpose"; filename="p"', b"vision")
    assert made(post(client, odd, file(b"x")))["purpose"] == "vision"
    whole = form(PURPOSE, file(b"x")).removesuffix(b"\r\n")
    headers = {"content-type": f'Multipart/Form-Data; charset=utf-8; boundary="{BOUNDARY}"'}
    made(client.post("/v1/files", content=whole, headers=headers))
    made(client.post("/v1/files", content=b"\r\n" + whole + b"\r\nepilogue", headers=headers))


# -- lists ---------------------------------------------------------------------------------------


def test_pages(other: httpx2.Client) -> None:
    for old in other.get("/v1/files").json()["data"]:
        other.delete(f"/v1/files/{old['id']}")
    empty = other.get("/v1/files").json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    ids = [uploaded(other, b"x", ("vision", "batch")[n % 2])["id"] for n in range(4)]
    newest = ids[::-1]

    def page(**query: Any) -> Json:
        return made(other.get("/v1/files", params=query))

    assert [one["id"] for one in page()["data"]] == newest
    first = page(limit=3)
    assert (first["first_id"], first["last_id"], first["has_more"]) == (newest[0], newest[2], True)
    assert [one["id"] for one in page(after=newest[2])["data"]] == newest[3:]
    assert [one["id"] for one in page(order="asc", after=ids[0])["data"]] == ids[1:]
    assert [one["id"] for one in page(purpose="batch")["data"]] == [ids[3], ids[1]]
    assert page(purpose="fun")["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": UNKNOWN}, "after"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_query(client: httpx2.Client, query: dict[str, str], param: str) -> None:
    assert refused(client.get("/v1/files", params=query))["param"] == param


@pytest.mark.parametrize("id_", ["x", UNKNOWN, "file-%00", "..%2f..%2fetc%2fpasswd", "file-" * 500])
def test_an_id_that_nothing_has(client: httpx2.Client, id_: str) -> None:
    error = refused(client.get(f"/v1/files/{id_}"), 404)
    assert len(error["message"]) < 200


# -- downloads -----------------------------------------------------------------------------------


def test_a_download_is_only_to_be_saved(client: httpx2.Client) -> None:
    """R-98: also of what was given for assistants."""
    new = made(post(client, field("purpose", "assistants"), file(b"<script>", 'filename="x.html"')))
    reply = content_of(client, new["id"])
    told = {name: value for name, value in reply.headers.items() if name in WANTED}
    assert told == WANTED
    assert reply.content == b"<script>"


WANTED: Final = {
    "content-type": "application/octet-stream",
    "content-length": "8",
    "content-disposition": "attachment; filename=\"x.html\"; filename*=UTF-8''x.html",
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "accept-ranges": "bytes",
}


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-3", 206, (0, 4)),
        ("bytes=5-", 206, (5, 10)),
        ("bytes=-3", 206, (7, 10)),
        ("bytes=-99", 206, (0, 10)),
        ("bytes=8-99", 206, (8, 10)),
        ("Bytes = 9-9", 206, (9, 10)),
        ("bytes=0-3,5-6", 200, (0, 10)),
        ("bytes=3-0", 200, (0, 10)),
        ("bytes=-", 200, (0, 10)),
        ("lines=1-2", 200, (0, 10)),
        ("bytes=" + "0-1," * 1000, 200, (0, 10)),
        ("bytes=" + "9" * 30 + "-", 200, (0, 10)),
        ("bytes=10-", 416, (0, 0)),
        ("bytes=-0", 416, (0, 0)),
    ],
)
def test_a_range(client: httpx2.Client, asked: str, status: int, span: tuple[int, int]) -> None:
    """R-103."""
    whole = b"0123456789"
    id_ = uploaded(client, whole)["id"]
    reply = content_of(client, id_, range=asked)
    assert reply.status_code == status
    if status == 416:
        assert reply.headers["content-range"] == "bytes */10"
        assert error_of(reply)["code"] == "range_not_satisfiable"
        return
    start, end = span
    assert reply.content == whole[start:end]
    told = f"bytes {start}-{end - 1}/10" if status == 206 else None
    assert reply.headers.get("content-range") == told
