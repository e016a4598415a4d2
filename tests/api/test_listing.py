"""``GET /v1/responses``: stored responses by their metadata (ours)."""

import secrets
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from tests.api.background import ENDLESS, Background
from tests.api.talk import UNKNOWN, Json, create, error_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import KEY, LiveServer

LIST = "/v1/responses"


@pytest.fixture
def tag() -> dict[str, str]:
    """Metadata that nothing else has: all tests share one server."""
    return {"test": secrets.token_hex(8)}


def query_of(metadata: dict[str, str], **more: Any) -> dict[str, Any]:
    return {**{f"metadata[{key}]": value for key, value in metadata.items()}, **more}


def listed(client: httpx2.Client, metadata: dict[str, str], **more: Any) -> Json:
    reply = client.get(LIST, params=query_of(metadata, **more))
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    page: Json = reply.json()
    assert list(page) == ["object", "data", "first_id", "last_id", "has_more"]
    assert page["object"] == "list"
    ids = [made["id"] for made in page["data"]]
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return page


def test_what_is_listed_is_what_get_shows(
    client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    made = create(client, metadata=tag)
    assert listed(client, tag) == {
        "object": "list",
        "data": [client.get(f"{LIST}/{made['id']}").json()],
        "first_id": made["id"],
        "last_id": made["id"],
        "has_more": False,
    }


def test_all_pairs_must_match(
    client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    """Must build: listing filtered by metadata."""
    odd = {"a key": "a&b=c", "tags[0]": "", "é": "%5D]"}
    both = create(client, metadata={**tag, "env": "prod", **odd})
    one = create(client, metadata={**tag, "env": "test"})
    ids = {response["id"] for response in listed(client, tag)["data"]}
    assert ids == {both["id"], one["id"]}
    for pairs in ({"env": "prod"}, odd):
        assert [made["id"] for made in listed(client, tag | pairs)["data"]] == [both["id"]]
    for pairs in ({"env": "Prod"}, {"env": ""}, {"none": "prod"}):
        assert listed(client, tag | pairs)["data"] == []


@pytest.mark.parametrize("order", ["asc", "desc", None])
def test_pages_follow_each_other_without_gap(
    order: str | None, client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    made = [create(client, metadata=tag) for _ in range(5)]
    more: dict[str, Any] = {"limit": 2, **({"order": order} if order else {})}
    pages = [listed(client, tag, **more)]
    while pages[-1]["has_more"]:
        pages.append(listed(client, tag, after=pages[-1]["last_id"], **more))
    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    seen = [response["id"] for page in pages for response in page["data"]]
    expected = [response["id"] for response in made]
    assert seen == (expected if order == "asc" else expected[::-1])
    assert listed(client, tag, after=seen[-1], **more)["data"] == []


def test_a_page_of_large_responses_is_short(client: httpx2.Client, tag: dict[str, str]) -> None:
    """R-115: one answer does not take what hundreds of others would; the rest is behind it."""
    large = "x" * (5 * 1024 * 1024)
    made = [create(client, metadata=tag, instructions=large)["id"] for _ in range(5)]
    reply = client.get(LIST, params=query_of(tag, limit=100))
    assert len(reply.content) < 16 * 1024 * 1024 + 1_000
    first = listed(client, tag, limit=100)
    rest = listed(client, tag, limit=100, after=first["last_id"])
    assert [len(first["data"]), first["has_more"]] == [3, True]
    assert [len(rest["data"]), rest["has_more"]] == [2, False]
    assert [response["id"] for response in first["data"] + rest["data"]] == made[::-1]


def test_without_a_filter_all_are_listed(
    client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    made = [create(client), create(client, metadata=tag), create(client, metadata={})]
    newest = listed(client, {}, limit=100)["data"]
    times = [response["created_at"] for response in newest]
    assert times == sorted(times, reverse=True)
    ids = [response["id"] for response in made]
    assert [response["id"] for response in newest if response["id"] in ids] == ids[::-1]
    assert len(listed(client, {})["data"]) <= 20


def test_only_what_is_stored_is_listed(
    client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    """`store: true` only, also when it can be polled or replayed; and what is deleted is gone."""
    create(client, metadata=tag, store=False)
    keyed = client.post(
        LIST,
        json={"model": "m", "input": "Hi", "metadata": tag, "store": False},
        headers={"idempotency-key": tag["test"]},
    )
    assert keyed.status_code == 200
    jobs = Background(client)
    polled = jobs.start(metadata=tag, store=False)
    jobs.reach(polled, "completed")
    deleted = create(client, metadata=tag)
    assert client.delete(f"{LIST}/{deleted['id']}").status_code == 200
    assert listed(client, tag)["data"] == []
    for id_ in (keyed.json()["id"], polled, deleted["id"]):
        assert client.get(LIST, params={"after": id_}).status_code == 400
    jobs.forget()


def test_a_running_response_is_listed_as_it_is_now(
    client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    jobs = Background(client)
    upstream.script(ENDLESS)
    made = jobs.start(metadata=tag)
    assert [response["id"] for response in listed(client, tag)["data"]] == [made]
    jobs.say(made, "Hello")
    assert [response["status"] for response in listed(client, tag)["data"]] == ["in_progress"]
    client.post(f"{LIST}/{made}/cancel")
    assert [response["status"] for response in listed(client, tag)["data"]] == ["cancelled"]
    upstream.script(Reply.chat("Hello"))
    jobs.forget()
    assert listed(client, tag)["data"] == []


def test_openai_python_reaches_it(
    server: LiveServer, client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    """Written out, and as the parameters that the SDK encodes."""
    made = create(client, metadata=tag)
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as sdk:
        path = f"/responses?metadata[test]={tag['test']}&limit=5"
        written: Any = sdk.get(path, cast_to=object)
        encoded: Any = sdk.get(
            "/responses", cast_to=object, options={"params": {"metadata": tag, "limit": 5}}
        )
    assert written == encoded
    assert [response["id"] for response in written["data"]] == [made["id"]]


# -- a query as strict as a body -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("colour=red", "unknown_parameter", "colour"),
        ("limit=0&colour=red&metadata[=1", "unknown_parameter", "colour"),
        ("metadata=x", "unknown_parameter", "metadata"),
        ("metadata.k=x", "unknown_parameter", "metadata.k"),
        ("metadata]k[=x", "unknown_parameter", "metadata]k["),
        ("before=resp_1", "unknown_parameter", "before"),
        ("metadata[=x", "invalid_value", "metadata["),
        ("metadata[]=x", "invalid_value", "metadata[]"),
        ("metadata[k=x", "invalid_value", "metadata[k"),
        ("metadata[k]x=x", "invalid_value", "metadata[k]x"),
        ("metadata[k][]=x", "invalid_value", "metadata[k][]"),
        ("metadata[k][l]=x", "invalid_value", "metadata[k][l]"),
        ("metadata[k]=x&metadata[k]=x", "invalid_value", "metadata[k]"),
        ("metadata[k]=x&metadata%5Bk%5D=y", "invalid_value", "metadata[k]"),
        ("limit=0", "invalid_value", "limit"),
        ("limit=101", "invalid_value", "limit"),
        ("limit=1.0", "invalid_value", "limit"),
        ("order=newest", "invalid_value", "order"),
        ("metadata[k]=" + "x" * 513, "string_above_max_length", "metadata.k"),
        (
            f"metadata[{'k' * 65}]=x",
            "property_name_above_max_length",
            "metadata." + "k" * 65,
        ),
        (
            "&".join(f"metadata[{number}]=x" for number in range(17)),
            "object_above_max_properties",
            "metadata",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_wrong_is_named(query: str, code: str, param: str, client: httpx2.Client) -> None:
    """R-02."""
    reply = client.get(f"{LIST}?{query}")
    assert reply.status_code == 400, reply.text
    error = error_of(reply)
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"


def test_limits_themselves_are_fine(
    client: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    """R-14; and what SDKs add to every request has no effect."""
    pairs = {f"{number:064d}": "v" for number in range(15)} | {tag["test"]: "é" * 512}
    made = create(client, metadata=pairs)
    more = {"limit": 100, "order": "asc", "beta": "true", "api-version": "v1"}
    assert [response["id"] for response in listed(client, pairs, **more)["data"]] == [made["id"]]


@pytest.mark.parametrize("name", ["after", "metadata[k", "\x1b"])
def test_what_is_repeated_is_short_and_printable(name: str, client: httpx2.Client) -> None:
    """R-24."""
    junk = "\x1b\n" + "x" * 5000
    query = {"after": junk} if name == "after" else {name + junk: "x"}
    reply = client.get(LIST, params=query)
    assert reply.status_code == 400
    error = error_of(reply)
    assert error["message"].isprintable()
    assert len(error["message"]) < 250
    assert error["param"].isprintable()
    assert len(error["param"]) < 200


def test_a_key_is_needed(client: httpx2.Client) -> None:
    """R-27: before anything is said about the query."""
    reply = client.get(f"{LIST}?colour=red", headers={"authorization": ""})
    assert reply.status_code == 401


def test_the_description_shows_what_may_be_asked(client: httpx2.Client) -> None:
    operations = client.get("/openapi.json").json()["paths"][LIST]
    assert sorted(operations) == ["get", "post"]
    parameters = {each["name"]: each for each in operations["get"]["parameters"]}
    assert set(parameters) == {"limit", "order", "after", "metadata", "beta", "api-version"}
    assert parameters["metadata"]["style"] == "deepObject"


# -- other projects ------------------------------------------------------------------------------


def test_another_projects_responses_are_never_listed(
    client: httpx2.Client, other: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    """R-31."""
    made = create(client, metadata=tag)
    assert listed(other, tag)["data"] == []
    assert made["id"] not in other.get(LIST, params={"limit": 100}).text
    mine = create(other, metadata=tag)
    assert [response["id"] for response in listed(other, tag)["data"]] == [mine["id"]]
    assert [response["id"] for response in listed(client, tag)["data"]] == [made["id"]]


def test_a_list_cannot_begin_at_another_projects_response(
    client: httpx2.Client, other: httpx2.Client, tag: dict[str, str], upstream: ChatUpstream
) -> None:
    """R-29, R-30, R-31: its id answers like one that nobody has."""
    theirs = create(client, metadata=tag)["id"]
    create(other, metadata=tag)
    for metadata in ({}, tag):
        answers = []
        for id_ in (theirs, UNKNOWN):
            reply = other.get(LIST, params=query_of(metadata, after=id_))
            assert reply.status_code == 400
            error = error_of(reply)
            assert error["param"] == "after"
            answers.append(str(error).replace(id_, "ID"))
        assert answers[0] == answers[1]
        assert "Response with id 'ID' not found." in answers[0]
    assert listed(client, tag, after=theirs)["data"] == []
