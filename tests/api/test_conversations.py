"""Conversations over plain HTTP (spec §2.2, App. F and G; reliability R-29, R-30, R-64)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import quote

import httpx2
import pytest

from tests.api.background import ENDLESS, Background
from tests.api.talk import Json, create, error_of
from tests.api.test_tenancy import same_answer
from tests.backends.upstream import ChatUpstream, Reply

PATH: Final = "/v1/conversations"
UNKNOWN: Final = "conv_" + "0" * 48
#: A text that occurs nowhere else.
MARKER: Final = "xylophone-4713-zeugma"


def made(client: httpx2.Client, *items: Json, **metadata: str) -> str:
    """The id of a new conversation."""
    reply = client.post(PATH, json={"items": items, "metadata": metadata})
    assert reply.status_code == 200, reply.text
    id_: str = reply.json()["id"]
    return id_


def added(client: httpx2.Client, id_: str, *items: Json) -> list[Json]:
    """The items as they are kept."""
    reply = client.post(f"{PATH}/{id_}/items", json={"items": items})
    assert reply.status_code == 200, reply.text
    kept: list[Json] = page_of(reply)["data"]
    return kept


def page_of(reply: httpx2.Response) -> Json:
    assert reply.status_code == 200, reply.text
    page: Json = reply.json()
    assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
    assert page["object"] == "list"
    ids = [item["id"] for item in page["data"]]
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return page


def listed(client: httpx2.Client, id_: str, **query: Any) -> list[Json]:
    items: list[Json] = page_of(client.get(f"{PATH}/{id_}/items", params=query))["data"]
    return items


def said(text: str, **fields: Any) -> Json:
    return {"role": "user", "content": text, **fields}


def texts(items: list[Json]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


# -- conversations -------------------------------------------------------------------------------


def test_a_conversation_is_made_read_changed_and_deleted(client: httpx2.Client) -> None:
    first = client.post(PATH, json={"metadata": {"topic": "é"}}).json()
    assert first["id"].startswith("conv_")
    assert len(first["id"]) == 5 + 48
    assert first == {
        "id": first["id"],
        "object": "conversation",
        "created_at": first["created_at"],
        "metadata": {"topic": "é"},
    }
    path = f"{PATH}/{first['id']}"
    assert client.get(path).json() == first
    changed = client.post(path, json={"metadata": {"a": "b"}}).json()
    assert changed == {**first, "metadata": {"a": "b"}}
    assert client.get(path).json() == changed
    assert client.post(path, json={"metadata": None}).json()["metadata"] == {}
    gone = client.delete(path)
    assert gone.json() == {"id": first["id"], "object": "conversation.deleted", "deleted": True}
    for method in ("GET", "DELETE"):
        reply = client.request(method, path)
        assert reply.status_code == 404
        assert error_of(reply) == {
            "message": f"Conversation with id '{first['id']}' not found.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


@pytest.mark.parametrize("body", [None, {}, {"items": None, "metadata": None}, {"items": []}])
def test_a_conversation_may_begin_with_nothing(body: Json | None, client: httpx2.Client) -> None:
    reply = client.post(PATH) if body is None else client.post(PATH, json=body)
    assert (reply.status_code, reply.json()["metadata"]) == (200, {})
    assert listed(client, reply.json()["id"]) == []


def test_ids_of_a_conversation_and_its_items_share_a_partition(client: httpx2.Client) -> None:
    id_ = made(client, said("one"))
    [item] = listed(client, id_)
    assert item["id"].startswith("msg_")
    assert len(item["id"]) == 4 + 48
    assert item["id"][4:20] == id_[5:21]
    assert added(client, id_, said("two"))[0]["id"][4:20] == id_[5:21]
    assert made(client)[5:21] != id_[5:21]


def test_seals_must_open_or_are_named(client: httpx2.Client) -> None:
    """Spec §3.4, §9: what is of ours opens, what is not is kept and named."""
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    bad = {**foreign, "encrypted_content": "antiphon.1.00000000.AAAA"}
    for path in (PATH, f"{PATH}/{made(client)}/items"):
        reply = client.post(path, json={"items": [said("hi"), foreign]})
        assert reply.status_code == 200
        assert reply.headers["x-antiphon-ignored"] == "items[1].encrypted_content"
        assert "x-antiphon-ignored" not in client.post(path, json={"items": [said("hi")]}).headers
        refused = client.post(path, json={"items": [bad]})
        assert refused.status_code == 400
        assert error_of(refused) == {
            "message": "The encrypted content for item rs_1 could not be verified. Reason: "
            "Encrypted content could not be decrypted or parsed.",
            "type": "invalid_request_error",
            "param": "items",
            "code": "invalid_encrypted_content",
        }
    [kept] = added(client, made(client), foreign)
    assert kept["encrypted_content"] == "gAAAA"


# -- items ---------------------------------------------------------------------------------------


def test_created_items_are_answered_in_order_and_in_full(client: httpx2.Client) -> None:
    id_ = made(client)
    sent: list[Json] = [
        said("Weather?"),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sun"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "?"}]},
        {"role": "assistant", "content": "Sunny."},
    ]
    kept = added(client, id_, *sent)
    assert [item["type"] for item in kept] == [
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "message",
    ]
    assert kept[0]["content"] == [{"type": "input_text", "text": "Weather?"}]
    assert kept[4]["content"] == [{"type": "output_text", "text": "Sunny.", "annotations": []}]
    assert [item.get("status") for item in kept] == [
        "completed",
        "completed",
        "completed",
        None,
        "completed",
    ]
    assert listed(client, id_, order="asc") == kept
    assert listed(client, id_) == kept[::-1]
    for item in kept:
        assert client.get(f"{PATH}/{id_}/items/{item['id']}").json() == item


def test_calls_and_outputs_may_come_one_by_one(client: httpx2.Client) -> None:
    """Whether they are pairs is asked when a response is made."""
    id_ = made(client)
    added(client, id_, {"type": "function_call_output", "call_id": "c", "output": "sun"})
    added(client, id_, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"})
    assert len(listed(client, id_)) == 2


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 44, 45, 100])
def test_pages_follow_each_other_without_gap(client: httpx2.Client, limit: int, order: str) -> None:
    id_ = made(client)
    for start in range(0, 45, 15):
        added(client, id_, *(said(str(number)) for number in range(start, start + 15)))
    seen: list[str] = []
    query: Json = {"limit": limit, "order": order}
    while True:
        page = page_of(client.get(f"{PATH}/{id_}/items", params=query))
        seen += texts(page["data"])
        assert page["has_more"] is (len(seen) < 45)
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
        query["after"] = page["last_id"]
    numbers = [str(number) for number in range(45)]
    assert seen == (numbers if order == "asc" else numbers[::-1])


def test_a_page_has_20_items_newest_first(client: httpx2.Client) -> None:
    id_ = made(client, *(said(str(number)) for number in range(20)))
    added(client, id_, said("20"))
    page = page_of(client.get(f"{PATH}/{id_}/items"))
    assert texts(page["data"]) == [str(number) for number in range(20, 0, -1)]
    assert page["has_more"] is True
    behind = page_of(
        client.get(f"{PATH}/{id_}/items", params={"after": listed(client, id_)[19]["id"]})
    )
    assert (texts(behind["data"]), behind["has_more"]) == (["0"], False)
    last = {"after": behind["last_id"]}
    assert page_of(client.get(f"{PATH}/{id_}/items", params=last))["data"] == []


def test_an_item_is_deleted(client: httpx2.Client) -> None:
    """The answer is the conversation."""
    id_ = made(client, said("one"), said("two"), topic="x")
    two, one = listed(client, id_)
    gone = client.delete(f"{PATH}/{id_}/items/{one['id']}")
    assert gone.json() == client.get(f"{PATH}/{id_}").json()
    assert listed(client, id_) == [two]
    for method in ("GET", "DELETE"):
        reply = client.request(method, f"{PATH}/{id_}/items/{one['id']}")
        assert reply.status_code == 404
        assert error_of(reply) == {
            "message": f"Item with id '{one['id']}' not found in conversation '{id_}'.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


@pytest.mark.parametrize("id_", ["m1", "a/b", "../x", "ü ?#%", "a" * 512])
def test_an_item_keeps_the_id_that_its_client_chose(id_: str, client: httpx2.Client) -> None:
    conversation = made(client, said("one", id=id_))
    path = f"{PATH}/{conversation}/items/{quote(id_, safe='')}"
    assert client.get(path).json()["id"] == id_
    assert client.delete(path).status_code == 200
    assert client.get(path).status_code == 404


def test_an_id_that_is_taken_is_given_to_nobody_else(client: httpx2.Client) -> None:
    id_ = made(client, said("one", id="m"), said("two", id="m"))
    kept = added(client, id_, said("three", id="m"), said("four", id="m"))
    ids = [item["id"] for item in listed(client, id_, order="asc")]
    assert ids[0] == "m"
    assert len(set(ids)) == 4
    assert [item["id"] for item in kept] == ids[2:]
    assert texts([client.get(f"{PATH}/{id_}/items/m").json()]) == ["one"]
    assert listed(client, made(client, said("other", id="m")))[0]["id"] == "m"


# -- references ----------------------------------------------------------------------------------


def test_references_become_copies(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """Of items of responses, of other conversations, of the same one, and of the same request."""
    response = create(client, input="one")
    answer = response["output"][0]
    [there] = listed(client, made(client, said("there")))
    id_ = made(client, said("here", id="here"), {"type": "item_reference", "id": answer["id"]})
    kept = added(
        client,
        id_,
        {"id": there["id"]},
        {"type": "item_reference", "id": "here"},
        said("new", id="new"),
        {"id": "new"},
    )
    assert texts(kept) == ["there", "here", "new", "new"]
    assert kept[0] == there
    assert len({item["id"] for item in listed(client, id_)}) == 6
    assert all(item["type"] == "message" for item in kept)
    [copied] = listed(client, id_, order="asc", limit=2)[1:]
    assert copied == answer
    client.delete(f"/v1/responses/{response['id']}")
    assert client.get(f"{PATH}/{id_}/items/{answer['id']}").json() == answer


def test_an_item_of_a_conversation_can_be_referred_to_by_a_request(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    id_ = made(client, said("from afar"))
    reference = {"type": "item_reference", "id": listed(client, id_)[0]["id"]}
    create(client, input=[reference])
    assert upstream.requests[-1].json["messages"] == [{"role": "user", "content": "from afar"}]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_" + "0" * 48},
        {"type": "reasoning", "id": "rs_" + "0" * 48, "summary": []},
        {"type": "image_generation_call", "id": "ig_" + "0" * 48},
    ],
    ids=lambda item: item["type"],
)
def test_a_reference_to_nothing_is_an_error(item: Json, client: httpx2.Client) -> None:
    """And nothing is kept."""
    id_ = made(client)
    for path in (PATH, f"{PATH}/{id_}/items"):
        reply = client.post(path, json={"items": [said("one"), item]})
        assert reply.status_code == 404
        error = error_of(reply)
        assert error["message"] == f"Item with id '{item['id']}' not found."
        assert error["param"] == "items"
    assert listed(client, id_) == []


# -- what is refused -----------------------------------------------------------------------------

CALLS: Final[list[tuple[str, str, Json | None]]] = [
    ("GET", "", None),
    ("POST", "", {"metadata": {}}),
    ("DELETE", "", None),
    ("GET", "/items", None),
    ("GET", "/items?after=msg_1", None),
    ("POST", "/items", {"items": [{"role": "user", "content": "Hi"}]}),
    ("GET", "/items/msg_1", None),
    ("DELETE", "/items/msg_1", None),
]


@pytest.mark.parametrize(("method", "suffix", "body"), CALLS)
def test_an_unknown_conversation_is_a_404(
    method: str, suffix: str, body: Json | None, client: httpx2.Client
) -> None:
    reply = client.request(method, f"{PATH}/{UNKNOWN}{suffix}", json=body)
    assert reply.status_code == 404
    assert error_of(reply)["message"] == f"Conversation with id '{UNKNOWN}' not found."


@pytest.mark.parametrize("id_", ["x", "resp_" + "0" * 48, "conv_%1b", "conv_" + "0" * 512])
@pytest.mark.parametrize(("method", "suffix", "body"), CALLS)
def test_what_is_no_id_is_a_400(
    method: str, suffix: str, body: Json | None, id_: str, client: httpx2.Client
) -> None:
    """As for responses; R-24."""
    reply = client.request(method, f"{PATH}/{id_}{suffix}", json=body)
    assert reply.status_code == 400
    error = error_of(reply)
    assert (error["param"], error["code"]) == ("conversation_id", "invalid_value")
    assert error["message"].startswith("Invalid 'conversation_id': '")
    assert error["message"].endswith("'. Expected an ID that begins with 'conv'.")
    assert error["message"].isprintable()


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.0", "limit"),
        ("order=up", "order"),
        ("after=msg_1", "after"),
        ("include[]=bogus", "include[0]"),
        ("include=message.input_image.image_url&include=bogus", "include[1]"),
        ("colour=red", "colour"),
    ],
)
def test_the_query_of_a_list_is_strict(query: str, param: str, client: httpx2.Client) -> None:
    """R-02."""
    reply = client.get(f"{PATH}/{made(client)}/items?{query}")
    assert (reply.status_code, error_of(reply)["param"]) == (400, param)


def test_include_may_stand_where_the_sdk_puts_it(client: httpx2.Client) -> None:
    id_ = made(client, said("one"))
    [item] = listed(client, id_)
    good, bad = "include[]=message.input_image.image_url", "include[]=bogus"
    body = {"items": [said("two")]}
    for query, status in ((good, 200), (bad, 400)):
        assert client.get(f"{PATH}/{id_}/items/{item['id']}?{query}").status_code == status
        assert client.post(f"{PATH}/{id_}/items?{query}", json=body).status_code == status
    assert texts(listed(client, id_, order="asc")) == ["one", "two"]


@pytest.mark.parametrize(("path", "body"), [("", {}), ("/" + UNKNOWN + "/items", {"items": []})])
def test_a_body_is_json(path: str, body: Json, client: httpx2.Client) -> None:
    odd = client.post(PATH + path, content=b"{", headers={"content-type": "application/json"})
    assert odd.status_code == 400
    assert error_of(odd)["message"].startswith("We could not parse the JSON body")
    form = client.post(PATH + path, content=b"x=1", headers={"content-type": "text/plain"})
    assert (form.status_code, error_of(form)["code"]) == (415, "unsupported_content_type")
    reply = client.post(PATH + path, json={**body, "colour": "red"})
    assert (reply.status_code, error_of(reply)["code"]) == (400, "unknown_parameter")


def test_a_large_item_is_kept_whole(client: httpx2.Client) -> None:
    text = "é" * 1_000_000
    id_ = made(client, said(text))
    assert texts(listed(client, id_)) == [text]


# -- whose it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "suffix", "body"), CALLS)
def test_another_projects_conversation(
    method: str,
    suffix: str,
    body: Json | None,
    client: httpx2.Client,
    other: httpx2.Client,
) -> None:
    """R-29: it answers as an unknown one, and nothing happens to it."""
    theirs = made(client, said(MARKER, id="msg_1"), topic=MARKER)
    before = client.get(f"{PATH}/{theirs}").content, listed(client, theirs)
    ids = (theirs, UNKNOWN)
    one, two = (other.request(method, f"{PATH}/{id_}{suffix}", json=body) for id_ in ids)
    same_answer(one, two, ids)
    assert (client.get(f"{PATH}/{theirs}").content, listed(client, theirs)) == before


@pytest.mark.parametrize("path", ["", "/items"], ids=["create", "add"])
@pytest.mark.parametrize("where", ["response", "conversation"])
def test_another_projects_item_cannot_be_copied(
    where: str,
    path: str,
    client: httpx2.Client,
    other: httpx2.Client,
    upstream: ChatUpstream,
) -> None:
    """R-30."""
    if where == "response":
        upstream.script(Reply.chat(MARKER))
        theirs = create(client)["output"][0]["id"]
    else:
        theirs = listed(client, made(client, said(MARKER)))[0]["id"]
    target = f"{PATH}/{made(other)}{path}" if path else PATH
    ids = (theirs, "msg_" + "0" * 48)
    one, two = (other.post(target, json={"items": [{"id": id_}]}) for id_ in ids)
    same_answer(one, two, ids)
    assert client.post(PATH, json={"items": [{"id": theirs}]}).status_code == 200


def test_no_key_no_conversation(client: httpx2.Client) -> None:
    """R-27: before anything is looked at."""
    id_ = made(client)
    for method, suffix, body in CALLS:
        headers = {"authorization": ""}
        reply = client.request(method, f"{PATH}/{id_}{suffix}", json=body, headers=headers)
        assert reply.status_code == 401
    assert client.post(PATH, json={}, headers={"authorization": ""}).status_code == 401


# -- at once -------------------------------------------------------------------------------------


def test_many_add_at_once(client: httpx2.Client) -> None:
    """R-64: what came together stays together, nothing is lost, no id is there twice."""
    id_ = made(client)

    def add(number: int) -> list[Json]:
        return added(client, id_, said(f"{number} a", id="same"), said(f"{number} b"))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(add, range(24)))
    kept = listed(client, id_, order="asc", limit=100)
    pairs = [kept[start : start + 2] for start in range(0, 48, 2)]
    assert len({item["id"] for item in kept}) == 48
    assert sorted(answers, key=str) == sorted(pairs, key=str)


@pytest.fixture
def busy(client: httpx2.Client, upstream: ChatUpstream) -> Iterator[tuple[str, str]]:
    """A conversation that a running response belongs to, and the id of that response."""
    jobs = Background(client)
    upstream.script(ENDLESS)
    id_ = made(client, said("one", id="m"))
    running = jobs.start(conversation=id_)
    jobs.say(running, "Hello")
    yield id_, running
    jobs.forget()


def test_items_of_a_busy_conversation_stay_as_they_are(
    busy: tuple[str, str], client: httpx2.Client
) -> None:
    """R-64."""
    id_, running = busy
    for method, suffix, body in (
        ("POST", "/items", {"items": [said("two")]}),
        ("DELETE", "/items/m", None),
    ):
        reply = client.request(method, f"{PATH}/{id_}{suffix}", json=body)
        assert reply.status_code == 400
        assert error_of(reply) == {
            "message": "Another process is currently operating on this conversation. "
            "Please retry in a few seconds.",
            "type": "invalid_request_error",
            "param": "conversation",
            "code": "conversation_locked",
        }
    assert texts(listed(client, id_)) == ["one"]
    assert client.post(f"{PATH}/{id_}", json={"metadata": {"a": "b"}}).status_code == 200
    assert client.post(f"/v1/responses/{running}/cancel").status_code == 200
    added(client, id_, said("two"))
    assert texts(listed(client, id_, order="asc")) == ["one", "two"]


def test_a_busy_conversation_can_be_deleted(busy: tuple[str, str], client: httpx2.Client) -> None:
    id_, running = busy
    assert client.delete(f"{PATH}/{id_}").status_code == 200
    assert client.get(f"{PATH}/{id_}").status_code == 404
    assert client.get(f"/v1/responses/{running}").json()["status"] == "in_progress"
