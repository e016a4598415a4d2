"""`input_file` and `input_image` over real HTTP: by id, inline, by address (spec §2.3; R-29, R-30,
R-83, R-85, R-94, R-99, R-118)."""

import base64
from collections.abc import Iterator
from typing import Final

import httpx2
import pytest

from antiphon.protocol.inline import inlined
from tests.api.filing import (
    KINDS,
    Web,
    by_id,
    chat_parts,
    filing,
    inline,
    surfing,
    told,
    upload,
    user,
)
from tests.api.heavy_bodies import longest_wait
from tests.api.talk import Json, client_of, create, error_of
from tests.api.watch import Waiting
from tests.backends.upstream import ChatUpstream
from tests.documents.building import pdf, shown
from tests.live import OTHER_KEY, LiveServer
from tests.protocol.test_images import jpeg, png

FIRST: Final = "input[0].content[1]"


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with surfing() as web:
        yield web


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream) -> Iterator[LiveServer]:
    with filing(tmp_path_factory, _upstream) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live, timeout=60) as client:
        yield client


def refused(api: httpx2.Client, *parts: Json, status: int = 400, model: str = "m") -> Json:
    """The error of a request with these parts; its `param` is that of the first one."""
    reply = api.post("/v1/responses", json={"model": model, "input": [user(*parts)]})
    assert reply.status_code == status, reply.text
    error = error_of(reply)
    assert "/" not in error["message"].replace("http://", "").replace("https://", ""), "R-129"
    return error


# -- what becomes of them ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["id", "inline", "url"])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_text_for_who_takes_none(
    api: httpx2.Client, upstream: ChatUpstream, web: Web, name: str, how: str
) -> None:
    match how:
        case "id":
            part = by_id(upload(api, name))
        case "inline":
            part = inline(name)
        case _:
            part = {"type": "input_file", "file_url": f"{web.url}/{name}"}
    created = create(api, input=[user(part)])
    (seen,) = chat_parts(upstream)
    assert seen["text"].startswith(f"Read.\nFile {name}:\n")
    assert KINDS[name][2] in seen["text"]
    path = f"/v1/responses/{created['id']}/input_items"
    (item,) = api.get(path).json()["data"]
    assert item["content"][1] == part, "shown as it was sent"


def test_pdf_stays_pdf_for_who_takes_it(
    api: httpx2.Client, upstream: ChatUpstream, web: Web
) -> None:
    url = inlined("application/pdf", KINDS["paper.pdf"][0])
    native = {"type": "file", "file": {"filename": "paper.pdf", "file_data": url}}
    for part in (
        by_id(upload(api, "paper.pdf")),
        inline("paper.pdf"),
        {"type": "input_file", "file_url": f"{web.url}/paper.pdf"},
    ):
        create(api, "openai-m", input=[user(part, by_id(upload(api, "letter.docx")))])
        assert chat_parts(upstream)[1] == native
        assert "Dear otter" in chat_parts(upstream)[2]["text"]


def test_the_simulator_reads_files_too(api: httpx2.Client) -> None:
    made = create(api, "simulator", input=[user(by_id(upload(api, "paper.pdf")))])
    assert "Otters hold hands" in made["output_text"]


def test_an_image_by_id_is_a_data_url(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """Of the type that it has, not of the one that its name says."""
    body = jpeg(3, 4)
    file_id = upload(api, "photo.png", body)
    url = {"url": inlined("image/jpeg", body), "detail": "low"}
    for part in (
        {"type": "input_image", "file_id": file_id, "detail": "low"},
        by_id(file_id, detail="low"),
    ):
        create(api, input=[user(part)])
        assert chat_parts(upstream)[1] == {"type": "image_url", "image_url": url}


def test_an_image_at_an_address(api: httpx2.Client, upstream: ChatUpstream, web: Web) -> None:
    web.pages["/a.png"] = png(2, 2)
    part = {"type": "input_image", "image_url": f"{web.url}/a.png"}
    web.asked.clear()
    create(api, input=[user(part)])
    assert chat_parts(upstream)[1]["image_url"]["url"] == f"{web.url}/a.png"
    assert web.asked == []
    create(api, "ollama-m", input=[user(part)])
    assert chat_parts(upstream)[1]["image_url"]["url"] == inlined("image/png", png(2, 2))


def test_tools_answer_with_files(api: httpx2.Client, upstream: ChatUpstream) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {
        "type": "function_call_output",
        "call_id": "c",
        "output": [
            by_id(upload(api, "table.csv")),
            {"type": "input_image", "file_id": upload(api, "x", png(1, 1))},
        ],
    }
    create(api, input=[user(), call, output])
    _, _, answer, beside = upstream.requests[-1].json["messages"]
    assert answer["role"] == "tool"
    assert "Ada,36" in answer["content"]
    assert beside["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    output["output"] = [by_id("file-none")]
    reply = api.post("/v1/responses", json={"model": "m", "input": [user(), call, output]})
    assert reply.status_code == 404
    assert error_of(reply)["param"] == "input[2].output[0].file_id"


def test_the_tokens_of_a_file_are_those_of_its_text(api: httpx2.Client) -> None:
    def tokens(*parts: Json, model: str = "m") -> int:
        body = {"model": model, "input": [user(*parts)]}
        reply = api.post("/v1/responses/input_tokens", json=body)
        assert reply.status_code == 200, reply.text
        count: int = reply.json()["input_tokens"]
        return count

    short = upload(api, "short.txt", b"otter " * 10)
    long = upload(api, "long.txt", b"otter " * 5_000)
    assert tokens() < tokens(by_id(short)) < 100
    assert 4_000 < tokens(by_id(long)) < 9_000


# -- what is wrong with them ---------------------------------------------------------------------


def test_unknown_files_are_all_the_same(live: LiveServer, api: httpx2.Client) -> None:
    """R-29, R-30: of nobody, of another project, deleted."""
    with client_of(live, OTHER_KEY) as other:
        foreign = upload(other, "notes.txt")
    gone = upload(api, "notes.txt")
    assert api.delete(f"/v1/files/{gone}").status_code == 200
    for file_id in ("file-none", foreign, gone):
        for kind in ("input_file", "input_image"):
            assert refused(api, {"type": kind, "file_id": file_id}, status=404) == {
                "message": f"No such File object: {file_id}",
                "type": "invalid_request_error",
                "param": f"{FIRST}.file_id",
                "code": None,
            }


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "invalid_file", "empty"),
        (b"\x7fELF" + bytes(100), "unsupported_file", "program"),
        (b"%PDF-1.4\nnothing of it is true", "invalid_file", ""),
        (bytes(range(256)) * 8, "unsupported_file", ""),
    ],
)
def test_a_file_that_cannot_be_read(
    api: httpx2.Client, upstream: ChatUpstream, content: bytes, code: str, says: str
) -> None:
    error = refused(api, by_id(upload(api, "x.bin", content)))
    assert (error["code"], error["param"]) == (code, f"{FIRST}.file_id")
    assert says in error["message"]
    assert upstream.requests == []


def test_too_large_an_image(api: httpx2.Client, upstream: ChatUpstream, web: Web) -> None:
    """R-99: by its header; nobody decodes it."""
    bomb = png(60_000, 60_000)
    web.pages["/bomb.png"] = bomb
    file_id = upload(api, "bomb.png", bomb)
    parts: dict[str, Json] = {
        "file_id": {"type": "input_image", "file_id": file_id},
        "image_url": {"type": "input_image", "image_url": inlined("image/png", bomb)},
        "file_data": {"type": "input_file", "file_data": inlined("image/png", bomb)},
        "file_url": {"type": "input_file", "file_url": f"{web.url}/bomb.png"},
    }
    for name, part in parts.items():
        error = refused(api, part)
        assert (error["code"], error["param"]) == ("image_too_large", f"{FIRST}.{name}")
    at_url = {"type": "input_image", "image_url": f"{web.url}/bomb.png"}
    assert refused(api, at_url, model="ollama-m")["code"] == "image_too_large"
    assert upstream.requests == []


def test_too_many_bytes(api: httpx2.Client, upstream: ChatUpstream) -> None:
    file_id = upload(api, "large.txt", b"x" * 27_000_000)
    error = refused(api, {"type": "input_text", "text": "."}, *[by_id(file_id)] * 2)
    # The first one is too much text already.
    assert error["param"] == "input[0].content[2].file_id"
    big = upload(api, "larger.txt", b"x" * (50 * 1024 * 1024 + 1))
    error = refused(api, by_id(big))
    assert (error["code"], error["param"]) == ("file_too_large", f"{FIRST}.file_id")
    assert upstream.requests == []


# -- addresses -----------------------------------------------------------------------------------


def test_a_redirect_is_followed(api: httpx2.Client, upstream: ChatUpstream, web: Web) -> None:
    create(api, input=[user({"type": "input_file", "file_url": f"{web.url}/to-notes"})])
    assert "File notes.txt:" in told(upstream)


def test_traps_are_all_the_same(api: httpx2.Client, upstream: ChatUpstream, web: Web) -> None:
    """R-94: a refused address, a closed port and a host that does not exist."""
    errors = [
        refused(api, {"type": "input_file", "file_url": url})
        for url in (
            f"{web.url}/to-private",
            f"{web.url}/round",
            "http://127.0.0.1:1/",
            "http://nowhere.invalid/",
        )
    ]
    assert errors[0]["param"] == f"{FIRST}.file_url"
    assert all(error == errors[0] for error in errors)
    assert upstream.requests == []


def test_an_endless_body_ends(api: httpx2.Client, live: LiveServer, web: Web) -> None:
    with Waiting(live) as others:
        error = refused(api, {"type": "input_file", "file_url": f"{web.url}/endless"})
    assert "too large" in error["message"]
    assert others.worst < 0.5


@pytest.mark.parametrize("kind", ["input_file", "input_image"])
def test_private_addresses_need_the_operators_word(
    server: LiveServer,
    upstream: ChatUpstream,
    web: Web,
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
) -> None:
    """R-83, R-94: nothing is asked, and nothing is told."""
    key = "file_url" if kind == "input_file" else "image_url"
    web.asked.clear()
    with (
        filing(tmp_path_factory, upstream, ANTIPHON_FILE_URL_HOSTS="") as closed,
        client_of(closed) as api,
    ):
        there = refused(api, {"type": kind, key: f"{web.url}/notes.txt"}, model="ollama-m")
        absent = refused(api, {"type": kind, key: "http://127.0.0.1:1/"}, model="ollama-m")
    assert there == absent
    assert there["param"] == f"{FIRST}.{key}"
    assert web.asked == []


def test_who_may_ask_nobody_asks_nobody(
    upstream: ChatUpstream, web: Web, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R-95."""
    web.asked.clear()
    with (
        filing(tmp_path_factory, upstream, ANTIPHON_EGRESS="false") as closed,
        client_of(closed) as api,
    ):
        error = refused(api, {"type": "input_file", "file_url": f"{web.url}/notes.txt"})
    assert "ANTIPHON_EGRESS" in error["message"]
    assert web.asked == []


# -- nobody waits --------------------------------------------------------------------------------


def test_nobody_waits_for_a_large_file(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-118: 40 MB inline, for a backend that takes them and for one that gets text; three times,
    because a hiccup of the machine does not come back."""
    stream = f"<</Length {40_000_000}>>stream\n{'x' * 40_000_000}\nendstream"
    body = pdf([shown("Otters hold hands")], extra=stream)
    data = "data:application/pdf;base64," + base64.b64encode(body).decode()
    part = {"type": "input_file", "filename": "a.pdf", "file_data": data}
    for model in ("openai-m", "m"):
        waits = []
        for _ in range(3):
            with Waiting(live) as others:
                create(api, model, input=[user(part)], store=False)
            assert ("Otters hold hands" in told(upstream)) == (model == "m")
            waits.append(others.worst)
            if others.worst < longest_wait(data.encode()):
                break
        print(f"{model}: {min(waits) * 1000:.0f} ms")
        assert min(waits) < longest_wait(data.encode())
