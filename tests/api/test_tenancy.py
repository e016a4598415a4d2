"""Whose it is: another project's id answers like an unknown one, wherever an id may stand (R-29,
R-30; issue 4/8, must show 5).

Rules
1. `places.py` has all the places. Each is asked with every id of the first project that fits, and
   with an unknown one of the same form: but for the id itself the answers are the same byte for
   byte, and nothing of what is there leaks or changes.
2. A path that is not in the table fails the test: `test_every_path_is_in_the_table`.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2
import orjson
import pytest

from tests.api.background import ENDLESS, Background
from tests.api.forms import uploaded
from tests.api.places import (
    COPIES,
    FIELDS,
    LISTS,
    MARKER,
    NOBODYS,
    PATHS,
    REQUESTS,
    SAID,
    UPLOAD,
    URL,
    Place,
)
from tests.api.raw import eventually
from tests.api.shelves import Shelves
from tests.api.talk import UNKNOWN, Json, client_of, create, error_of
from tests.api.talk_socket import plugged
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import OTHER_KEY, LiveServer


@pytest.fixture
def theirs(client: httpx2.Client, upstream: ChatUpstream) -> Iterator[Json]:
    """A response of the first project, which `other` must not see."""
    upstream.script(Reply.chat(MARKER))
    yield create(client, input=MARKER)
    upstream.script(Reply.chat("Hello"))


def same_answer(one: httpx2.Response, two: httpx2.Response, ids: tuple[str, str]) -> None:
    """Another project's id and an unknown one cannot be told apart (R-29)."""
    assert one.status_code == two.status_code
    assert one.status_code in (400, 404), one.text
    assert one.text.replace(ids[0], "ID") == two.text.replace(ids[1], "ID")
    assert MARKER not in one.text
    # An answer that begins before its request has ended closes the connection: that is chance.
    told = ("x-request-id", "openai-processing-ms", "date", "content-length", "connection")
    headers = [{k: v for k, v in reply.headers.items() if k not in told} for reply in (one, two)]
    assert headers[0] == headers[1]


@dataclass
class House:
    """What the first project has."""

    client: httpx2.Client
    #: Kind → ids of all sorts of that kind.
    ids: dict[str, list[str]]
    #: Where it can be looked at.
    views: list[str]
    metadata: dict[str, str]
    #: A conversation, a vector store and a container of the other project.
    mine: dict[str, str] = field(default_factory=dict)
    _before: list[bytes] = field(default_factory=list)

    def look(self) -> list[bytes]:
        """All of it, as its owner sees it."""
        replies = [self.client.get(view) for view in self.views]
        assert all(reply.status_code == 200 for reply in replies)
        return [reply.content for reply in replies]


Filed: TypeAlias = tuple[dict[str, list[str]], list[str]]


@pytest.fixture(scope="module")
def filed(client: httpx2.Client, server: LiveServer) -> Iterator[Filed]:
    """A file, an upload, a vector store, a batch, a container: ids and views, as in a `House`."""
    shelves = Shelves(client, server.folder)
    file = uploaded(client, MARKER.encode())["id"]
    upload = client.post("/v1/uploads", json=UPLOAD).json()["id"]
    store = shelves.full(file, name=MARKER)
    batch = shelves.post(f"/{store}/file_batches", {"file_ids": [file]})["id"]
    shelves.read(store)
    box = client.post("/v1/containers", json={"name": MARKER, "file_ids": [file]}).json()["id"]
    [inside] = client.get(f"/v1/containers/{box}/files").json()["data"]
    ids = {"file": [file], "upload": [upload], "store": [store], "batch": [batch]}
    ids |= {"container": [box], "container file": [inside["id"]]}
    views = [
        *(f"/v1/files/{file}{rest}" for rest in ("", "/content")),
        f"/v1/vector_stores/{store}",
        *(f"/v1/vector_stores/{store}/files{rest}" for rest in ("", f"/{file}/content")),
        f"/v1/vector_stores/{store}/file_batches/{batch}",
        *(f"/v1/containers/{box}/files{rest}" for rest in ("", f"/{inside['id']}/content")),
    ]
    yield ids, views
    client.delete(f"/v1/containers/{box}")
    client.delete(f"/v1/files/{file}")
    shelves.delete(f"/{store}")


@pytest.fixture(scope="module")
def house(
    client: httpx2.Client, other: httpx2.Client, filed: Filed, _upstream: ChatUpstream
) -> Iterator[House]:
    """One of everything, with the `MARKER` wherever there is a place for it."""
    jobs = Background(client)
    tag = {"tag": MARKER}

    def post(path: str, **body: Any) -> Json:
        reply = client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        made: Json = reply.json()
        return made

    _upstream.script(Reply.chat(MARKER))
    one = post("/v1/responses", model="m", input=MARKER, metadata=tag)
    conversation = post("/v1/conversations", items=SAID, metadata=tag)["id"]
    turn = post("/v1/responses", model="m", input=MARKER, conversation=conversation)
    polled = jobs.start(input=MARKER, store=False)
    jobs.reach(polled, "completed")
    unstored = create(client, input=MARKER, store=False)
    prompt = post("/v1/prompts", name=MARKER, template={"instructions": MARKER})["id"]
    endpoint = post("/v1/webhook_endpoints", name=MARKER, url=URL, event_types=["response.failed"])
    _upstream.script(ENDLESS)
    running = jobs.start(input=MARKER, conversation=conversation)
    jobs.say(running, "Hello")
    _upstream.script(Reply.chat("Hello"))
    items = [
        item["id"]
        for path in (
            f"/v1/responses/{one['id']}/input_items",
            f"/v1/conversations/{conversation}/items",
        )
        for item in client.get(path).json()["data"]
    ]
    responses = [one["id"], turn["id"], polled, unstored["id"], running]
    ids = {
        "response": responses,
        "item": [one["output"][0]["id"], *items],
        "conversation": [conversation],
        "prompt": [prompt],
        "endpoint": [endpoint["id"]],
    } | filed[0]
    views = [
        *(f"/v1/responses/{id_}" for id_ in responses if id_ != unstored["id"]),
        f"/v1/conversations/{conversation}",
        f"/v1/conversations/{conversation}/items",
        f"/v1/prompts/{prompt}",
        f"/v1/prompts/{prompt}/versions",
        f"/v1/webhook_endpoints/{endpoint['id']}",
        *filed[1],
    ]
    mine = other.post("/v1/conversations", json={"items": [{"role": "user", "content": "Mine"}]})
    shelf = other.post("/v1/vector_stores").json()["id"]
    box = other.post("/v1/containers", json={"name": "Mine"}).json()["id"]
    yield House(client, ids, views, tag, {"MINE": mine.json()["id"], "SHELF": shelf, "BOX": box})
    other.delete(f"/v1/containers/{box}")
    jobs.forget()
    client.delete(f"/v1/webhook_endpoints/{endpoint['id']}")
    client.delete(f"/v1/prompts/{prompt}")


@pytest.mark.parametrize("place", [*PATHS, *LISTS, *REQUESTS, *COPIES], ids=str)
def test_another_projects_id(
    place: Place, house: House, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-29, R-30."""
    before = house.look()
    unknown = NOBODYS[place.kind]
    answer = place.ask(other, unknown, house.mine)
    for id_ in house.ids[place.kind]:
        same_answer(place.ask(other, id_, house.mine), answer, (id_, unknown))
    assert house.look() == before
    assert upstream.requests == []
    conversation, shelf, box = house.mine.values()
    assert len(other.get(f"/v1/conversations/{conversation}/items").json()["data"]) == 1
    assert other.get("/v1/vector_stores").json()["first_id"] == shelf, "and no other was made"
    assert other.get(f"/v1/vector_stores/{shelf}/files").json()["data"] == []
    assert other.get("/v1/containers").json()["first_id"] == box
    assert other.get(f"/v1/containers/{box}/files").json()["data"] == []


def test_every_path_is_in_the_table(client: httpx2.Client) -> None:
    """What the server describes: each path with a name in it, and each list that has `after`."""
    described = client.get("/openapi.json").json()["paths"]
    named, lists = set(), set()
    for path, methods in described.items():
        for method, about in methods.items():
            if "{" in path and "model" not in path:
                named.add((method.upper(), re.sub(r"{[^}]*}", "ID", path)))
            if any(query["name"] == "after" for query in about.get("parameters", ())):
                lists.add(re.sub(r"{[^}]*}", "ID", path))
    places = {(place.method, _plain(place.path)) for place in PATHS}
    assert named == places
    listed = {_plain(place.path) for place in [*PATHS, *LISTS] if "?after=" in place.path}
    # Versions are numbers, and only those of one prompt.
    assert lists == listed | {"/v1/prompts/ID/versions"}


def _plain(path: str) -> str:
    path = path.partition("?")[0].replace("versions/1", "versions/ID")
    for id_ in ("msg_1", "file-1", "vsfb_1", "cfile_1", "MINE", "SHELF", "BOX"):
        path = path.replace(id_, "ID")
    return path


@pytest.mark.parametrize(("kind", "fields"), FIELDS, ids=[str(fields) for _, fields in FIELDS])
@pytest.mark.parametrize("store", [True, False], ids=["stored", "unstored"])
def test_another_projects_id_over_a_socket(
    kind: str,
    fields: Json,
    store: bool,
    house: House,
    server: LiveServer,
    upstream: ChatUpstream,
) -> None:
    """R-30, in WebSocket mode (spec §2.6)."""
    before = house.look()
    with plugged(server, OTHER_KEY) as socket:

        def refusal(id_: str) -> str:
            body = {"model": "m", "input": "Hi", "store": store, **fields}
            told = orjson.loads(orjson.dumps(body).replace(b"ID", id_.encode()))
            answer = orjson.dumps(socket.refused(told.pop("input"), **told)).decode()
            assert MARKER not in answer
            return answer.replace(id_, "ID")

        unknown = refusal(NOBODYS[kind])
        assert all(refusal(id_) == unknown for id_ in house.ids[kind])
    assert house.look() == before
    assert upstream.requests == []


def test_what_a_connection_remembers_is_its_own(server: LiveServer, upstream: ChatUpstream) -> None:
    """An unstored response is known to the connection that made it, and to no other."""
    with plugged(server) as socket, plugged(server) as same, plugged(server, OTHER_KEY) as another:
        made = socket.made(MARKER, model="m", store=False)["id"]
        for stranger in (same, another):
            told = stranger.refused("x", model="m", previous_response_id=made, store=False)
            unknown = stranger.refused("x", model="m", previous_response_id=UNKNOWN, store=False)
            assert str(told).replace(made, "ID") == str(unknown).replace(UNKNOWN, "ID")
        assert socket.made("y", model="m", store=False, previous_response_id=made)


def test_lists_show_what_is_ones_own(house: House, other: httpx2.Client) -> None:
    """R-29: also when it is asked for by what it is marked with."""
    query = {f"metadata[{name}]": value for name, value in house.metadata.items()}
    assert house.client.get("/v1/responses", params=query).json()["data"] != []
    assert other.get("/v1/responses", params=query).json()["data"] == []
    assert house.ids["file"][0] in house.client.get("/v1/files").text
    assert house.ids["file"][0] not in other.get("/v1/files").text
    marked = ("/v1/responses", "/v1/prompts", "/v1/webhook_endpoints", "/v1/vector_stores")
    for path in (*marked, "/v1/containers"):
        assert MARKER in house.client.get(path, params={"limit": 100}).text
        assert MARKER not in other.get(path, params={"limit": 100}).text


@pytest.mark.parametrize(
    "path", ["/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"]
)
@pytest.mark.parametrize("kind", ["reasoning", "compaction"])
def test_another_projects_seal_does_not_open(
    kind: str,
    path: str,
    client: httpx2.Client,
    other: httpx2.Client,
    upstream: ChatUpstream,
) -> None:
    """It answers like one that was never sealed here, and nothing of it reaches a model."""
    say = f"[[reason={MARKER}]] [[say={MARKER}]]"
    if kind == "reasoning":
        made = create(client, "simulator", input=say, include=["reasoning.encrypted_content"])
    else:
        made = client.post(
            "/v1/responses/compact", json={"model": "simulator", "input": say}
        ).json()
    [item] = [item for item in made["output"] if item["type"] == kind]
    seal = item["encrypted_content"]
    broken = seal[:-8] + ("A" * 8 if not seal.endswith("A" * 8) else "B" * 8)

    def ask(content: str) -> httpx2.Response:
        sent = {**item, "encrypted_content": content}
        again = [sent, {"role": "user", "content": "Hi"}]
        return other.post(path, json={"model": "m", "input": again})

    answer = ask(seal)
    same_answer(answer, ask(broken), (seal, broken))
    assert error_of(answer)["code"] == "invalid_encrypted_content"
    assert upstream.requests == []
    own = {"model": "simulator", "input": [item, {"role": "user", "content": "Hi"}]}
    assert client.post(path, json=own).status_code == 200


@pytest.mark.parametrize("mode", [{}, {"stream": True}, {"background": True}], ids=str)
def test_another_projects_key_is_free(
    mode: Json, house: House, client: httpx2.Client, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-30: an Idempotency-Key, with the same body."""
    upstream.script(Reply.chat(MARKER), Reply.chat("Hello"))
    headers = {"idempotency-key": f"key-{uuid.uuid4()}"}
    body = {"model": "m", "input": "Hi", **mode}
    assert client.post("/v1/responses", json=body, headers=headers).status_code == 200
    if "background" in mode:
        assert eventually(lambda: len(upstream.requests) == 1)
    reply = other.post("/v1/responses", json=body, headers=headers)
    assert reply.status_code == 200
    assert "idempotent-replayed" not in reply.headers
    assert MARKER not in reply.text
    if "background" in mode:
        assert eventually(lambda: len(upstream.requests) == 2)  # not in the next test
    # The body that names their conversation is refused as such, and takes no key.
    named = {**body, "conversation": house.ids["conversation"][0]}
    unknown = {**body, "conversation": NOBODYS["conversation"]}
    fresh = {"idempotency-key": f"key-{uuid.uuid4()}"}
    one = other.post("/v1/responses", json=named, headers=fresh)
    two = other.post("/v1/responses", json=unknown, headers=fresh)
    same_answer(one, two, (named["conversation"], unknown["conversation"]))


# -- what is one's own ---------------------------------------------------------------------------


def test_an_item_of_ones_own_project_is_found_by_any_of_its_keys(
    server: LiveServer, client: httpx2.Client, theirs: Json, upstream: ChatUpstream
) -> None:
    reference = {"type": "item_reference", "id": theirs["output"][0]["id"]}
    create(client, input=[reference, {"role": "user", "content": "Again"}])
    assert upstream.requests[-1].json["messages"][0]["content"] == MARKER
    with client_of(server, OTHER_KEY) as other:
        mine = create(other)
        assert other.get(f"/v1/responses/{mine['id']}").status_code == 200
        assert client.get(f"/v1/responses/{mine['id']}").status_code == 404


def test_ids_cannot_be_guessed(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-32: at least 128 random bits, not in the order of time."""
    ids = [create(client)["id"] for _ in range(30)]
    assert all(len(id_) == len("resp_") + 48 for id_ in ids)
    assert ids != sorted(ids)
    assert len({id_[5:13] for id_ in ids}) == 30


def test_instructions_are_shown_to_their_owner_only(
    client: httpx2.Client, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-128."""
    made = create(client, instructions=MARKER)
    child = create(client, previous_response_id=made["id"])
    assert child["instructions"] is None
    assert MARKER not in client.get(f"/v1/responses/{child['id']}").text
    assert MARKER not in client.get(f"/v1/responses/{child['id']}/input_items").text
    assert client.get(f"/v1/responses/{made['id']}").json()["instructions"] == MARKER
    assert MARKER not in other.get(f"/v1/responses/{made['id']}").text
