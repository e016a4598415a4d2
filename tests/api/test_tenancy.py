"""Whose it is: another project's id answers like an unknown one, wherever an id may stand (R-29,
R-30; issue 4/8, must show 5).

Rules
1. `PATHS`, `FIELDS` and `LISTS` are all the places. Each is asked with every id of the first
   project that fits, and with an unknown one of the same form: but for the id itself the answers
   are the same byte for byte, and nothing of what is there leaks or changes.
2. A path that is not in the table fails the test: `test_every_path_is_in_the_table`.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import orjson
import pytest

from tests.api.background import ENDLESS, Background
from tests.api.raw import eventually
from tests.api.talk import UNKNOWN, Json, client_of, create, error_of
from tests.api.talk_socket import plugged
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import OTHER_KEY, LiveServer

#: A text that occurs nowhere else.
MARKER = "xylophone-4712-zeugma"


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


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A request in which ``ID`` is an id of a `kind`, and ``MINE`` a conversation of who asks."""

    kind: str
    method: str
    path: str
    body: Json | None = None

    def ask(self, client: httpx2.Client, id_: str, mine: str) -> httpx2.Response:
        """Ask with this id."""

        def filled(text: str) -> str:
            return text.replace("ID", id_).replace("MINE", mine)

        path = filled(self.path.replace("MINE", mine))
        if self.body is None:
            return client.request(self.method, path)
        body = filled(orjson.dumps(self.body).decode().replace("MINE", mine))
        headers = {"content-type": "application/json"}
        return client.request(self.method, path, content=body, headers=headers)

    def __str__(self) -> str:
        return f"{self.kind} in {self.method} {self.path} {self.body or ''}"


_ITEMS: Final[Json] = {"items": [{"role": "user", "content": "Hi"}]}
_URL: Final = "https://hooks.example.com/other"
#: Every path that names something, as the description has it, and how else it may be asked.
PATHS: Final = [
    Place("response", "GET", "/v1/responses/ID"),
    Place("response", "GET", "/v1/responses/ID?stream=true"),
    Place("response", "GET", "/v1/responses/ID?stream=true&starting_after=2"),
    Place("response", "DELETE", "/v1/responses/ID"),
    Place("response", "POST", "/v1/responses/ID/cancel"),
    Place("response", "GET", "/v1/responses/ID/input_items"),
    Place("response", "GET", "/v1/responses/ID/input_items?after=msg_1"),
    Place("conversation", "GET", "/v1/conversations/ID"),
    Place("conversation", "POST", "/v1/conversations/ID", {"metadata": {"a": "b"}}),
    Place("conversation", "DELETE", "/v1/conversations/ID"),
    Place("conversation", "GET", "/v1/conversations/ID/items"),
    Place("conversation", "GET", "/v1/conversations/ID/items?after=msg_1"),
    Place("conversation", "POST", "/v1/conversations/ID/items", _ITEMS),
    Place("conversation", "GET", "/v1/conversations/ID/items/msg_1"),
    Place("conversation", "DELETE", "/v1/conversations/ID/items/msg_1"),
    Place("item", "GET", "/v1/conversations/MINE/items/ID"),
    Place("item", "DELETE", "/v1/conversations/MINE/items/ID"),
    Place("prompt", "GET", "/v1/prompts/ID"),
    Place("prompt", "POST", "/v1/prompts/ID", {"name": "Other"}),
    Place("prompt", "DELETE", "/v1/prompts/ID"),
    Place("prompt", "GET", "/v1/prompts/ID/versions"),
    Place("prompt", "POST", "/v1/prompts/ID/versions", {"template": {"instructions": "x"}}),
    Place("prompt", "GET", "/v1/prompts/ID/versions/1"),
    Place("endpoint", "GET", "/v1/webhook_endpoints/ID"),
    Place("endpoint", "POST", "/v1/webhook_endpoints/ID", {"url": _URL}),
    Place("endpoint", "DELETE", "/v1/webhook_endpoints/ID"),
    Place("endpoint", "POST", "/v1/webhook_endpoints/ID/rotate_secret"),
    Place("endpoint", "POST", "/v1/webhook_endpoints/ID/test", {"event_type": "response.failed"}),
]
#: Lists that go on behind an id.
LISTS: Final = [
    Place("response", "GET", "/v1/responses?after=ID"),
    Place("item", "GET", "/v1/conversations/MINE/items?after=ID"),
    Place("prompt", "GET", "/v1/prompts?after=ID"),
    Place("endpoint", "GET", "/v1/webhook_endpoints?after=ID"),
]
_REFERENCES: Final[list[Json]] = [
    {"type": "item_reference", "id": "ID"},
    {"id": "ID"},
    {"type": "reasoning", "id": "ID", "summary": []},
    {"type": "image_generation_call", "id": "ID"},
]
_ANSWER: Final[Json] = {"type": "mcp_approval_response", "approval_request_id": "ID"}
#: Fields of a request that name something.
FIELDS: Final[list[tuple[str, Json]]] = [
    ("response", {"previous_response_id": "ID"}),
    ("conversation", {"conversation": "ID"}),
    ("conversation", {"conversation": {"id": "ID"}}),
    ("prompt", {"prompt": {"id": "ID"}}),
    ("prompt", {"prompt": {"id": "ID", "version": "1", "variables": {"a": "b"}}}),
    *(("item", {"input": [item]}) for item in _REFERENCES),
    ("item", {"input": [{**_ANSWER, "approve": True}]}),
    ("item", {"input": [{**_ANSWER, "approve": False}]}),
]
#: Where requests go, and what else they say there.
_WAYS: Final[list[tuple[str, Json]]] = [
    ("/v1/responses", {}),
    ("/v1/responses", {"stream": True}),
    ("/v1/responses", {"store": False}),
    ("/v1/responses", {"background": True}),
    ("/v1/responses/input_tokens", {}),
    ("/v1/responses/compact", {}),
]
REQUESTS: Final = [
    Place(kind, "POST", path, {"model": "m", "input": "Hi", **extra, **fields})
    for path, extra in _WAYS
    for kind, fields in FIELDS
]
COPIES: Final = [
    Place("item", "POST", path, {"items": [item]})
    for path in ("/v1/conversations", "/v1/conversations/MINE/items")
    for item in _REFERENCES
]
_UNKNOWN: Final = {
    "response": UNKNOWN,
    "item": "msg_" + "0" * 48,
    "conversation": "conv_" + "0" * 48,
    "prompt": "pmpt_" + "0" * 48,
    "endpoint": "whe_" + "0" * 48,
}


@dataclass
class House:
    """What the first project has."""

    client: httpx2.Client
    #: Kind → ids of all sorts of that kind.
    ids: dict[str, list[str]]
    #: Where it can be looked at.
    views: list[str]
    metadata: dict[str, str]
    #: A conversation of the other project.
    mine: str = ""
    _before: list[bytes] = field(default_factory=list)

    def look(self) -> list[bytes]:
        """All of it, as its owner sees it."""
        replies = [self.client.get(view) for view in self.views]
        assert all(reply.status_code == 200 for reply in replies)
        return [reply.content for reply in replies]


@pytest.fixture(scope="module")
def house(client: httpx2.Client, other: httpx2.Client, _upstream: ChatUpstream) -> Iterator[House]:
    """One of everything, with the `MARKER` wherever there is a place for it."""
    jobs = Background(client)
    tag = {"tag": MARKER}

    def post(path: str, **body: Any) -> Json:
        reply = client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        made: Json = reply.json()
        return made

    _upstream.script(Reply.chat(MARKER))
    asked = {"type": "mcp_approval_request", "server_label": "s", "name": "n"}
    said = [{"role": "user", "content": MARKER}, {**asked, "arguments": f'"{MARKER}"'}]
    one = post("/v1/responses", model="m", input=MARKER, metadata=tag)
    conversation = post("/v1/conversations", items=said, metadata=tag)["id"]
    turn = post("/v1/responses", model="m", input=MARKER, conversation=conversation)
    polled = jobs.start(input=MARKER, store=False)
    jobs.reach(polled, "completed")
    unstored = create(client, input=MARKER, store=False)
    prompt = post("/v1/prompts", name=MARKER, template={"instructions": MARKER})["id"]
    endpoint = post("/v1/webhook_endpoints", name=MARKER, url=_URL, event_types=["response.failed"])
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
    }
    views = [
        *(f"/v1/responses/{id_}" for id_ in responses if id_ != unstored["id"]),
        f"/v1/conversations/{conversation}",
        f"/v1/conversations/{conversation}/items",
        f"/v1/prompts/{prompt}",
        f"/v1/prompts/{prompt}/versions",
        f"/v1/webhook_endpoints/{endpoint['id']}",
    ]
    mine = other.post("/v1/conversations", json={"items": [{"role": "user", "content": "Mine"}]})
    yield House(client, ids, views, tag, mine.json()["id"])
    jobs.forget()
    client.delete(f"/v1/webhook_endpoints/{endpoint['id']}")
    client.delete(f"/v1/prompts/{prompt}")


@pytest.mark.parametrize("place", [*PATHS, *LISTS, *REQUESTS, *COPIES], ids=str)
def test_another_projects_id(
    place: Place, house: House, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-29, R-30."""
    before = house.look()
    unknown = _UNKNOWN[place.kind]
    answer = place.ask(other, unknown, house.mine)
    for id_ in house.ids[place.kind]:
        same_answer(place.ask(other, id_, house.mine), answer, (id_, unknown))
    assert house.look() == before
    assert upstream.requests == []
    assert len(other.get(f"/v1/conversations/{house.mine}/items").json()["data"]) == 1


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
    path = path.partition("?")[0].replace("msg_1", "ID").replace("MINE", "ID")
    return path.replace("versions/1", "versions/ID")


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

        unknown = refusal(_UNKNOWN[kind])
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
    for path in ("/v1/responses", "/v1/prompts", "/v1/webhook_endpoints"):
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
    # The body that names their conversation is refused as such, and takes no key.
    named = {**body, "conversation": house.ids["conversation"][0]}
    unknown = {**body, "conversation": _UNKNOWN["conversation"]}
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
