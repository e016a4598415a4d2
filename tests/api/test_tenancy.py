"""Whose a response is: another project's id answers like an unknown one (reliability C)."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.background import ENDLESS, Background
from tests.api.talk import UNKNOWN, Json, client_of, create
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
    assert one.status_code in (400, 404)
    assert one.text.replace(ids[0], "ID") == two.text.replace(ids[1], "ID")
    assert MARKER not in one.text
    told = ("x-request-id", "openai-processing-ms", "date", "content-length")
    headers = [{k: v for k, v in reply.headers.items() if k not in told} for reply in (one, two)]
    assert headers[0] == headers[1]


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/input_items"),
        ("GET", "?stream=true"),
    ],
)
def test_another_projects_id_in_a_path(
    method: str, suffix: str, client: httpx2.Client, other: httpx2.Client, theirs: Json
) -> None:
    """R-29."""
    ids = (theirs["id"], UNKNOWN)
    one, two = (other.request(method, f"/v1/responses/{id_}{suffix}") for id_ in ids)
    same_answer(one, two, ids)
    assert client.get(f"/v1/responses/{theirs['id']}").json() == theirs


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("field", ["previous_response_id", "item_reference", "reasoning", "image"])
def test_another_projects_id_in_a_body(
    field: str, stream: bool, other: httpx2.Client, theirs: Json, upstream: ChatUpstream
) -> None:
    """R-30: every field that can name something stored."""
    upstream.requests.clear()
    item = theirs["output"][0]["id"]
    unknown = "msg_" + "0" * 48
    bodies: dict[str, Any] = {
        "previous_response_id": lambda id_: {"previous_response_id": id_},
        "item_reference": lambda id_: {"input": [{"type": "item_reference", "id": id_}]},
        "reasoning": lambda id_: {"input": [{"type": "reasoning", "id": id_, "summary": []}]},
        "image": lambda id_: {"input": [{"type": "image_generation_call", "id": id_}]},
    }
    ids = (theirs["id"], UNKNOWN) if field == "previous_response_id" else (item, unknown)
    one, two = (
        other.post(
            "/v1/responses",
            json={"model": "m", "input": "Hi", "stream": stream, **bodies[field](id_)},
        )
        for id_ in ids
    )
    same_answer(one, two, ids)
    assert upstream.requests == []


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


@pytest.fixture(params=["running", "ended", "unstored"])
def their_job(
    request: pytest.FixtureRequest, client: httpx2.Client, upstream: ChatUpstream
) -> Iterator[str]:
    """The id of a background response of the first project."""
    jobs = Background(client)
    upstream.script(ENDLESS if request.param == "running" else Reply.chat(MARKER))
    made = jobs.start(input=MARKER, store=request.param != "unstored")
    if request.param == "running":
        jobs.say(made, "Hello")
    else:
        jobs.reach(made, "completed")
    yield made
    jobs.forget()


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        ("GET", ""),
        ("GET", "?stream=true"),
        ("GET", "?stream=true&starting_after=2&include_obfuscation=false"),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ],
)
def test_another_projects_background_response(
    method: str, suffix: str, client: httpx2.Client, other: httpx2.Client, their_job: str
) -> None:
    """R-29: on every path, whatever state it is in; and nothing happens to it."""
    before = client.get(f"/v1/responses/{their_job}").content
    ids = (their_job, UNKNOWN)
    one, two = (other.request(method, f"/v1/responses/{id_}{suffix}") for id_ in ids)
    same_answer(one, two, ids)
    assert client.get(f"/v1/responses/{their_job}").content == before


@pytest.mark.parametrize("background", [False, True])
def test_another_projects_background_response_cannot_be_continued(
    background: bool, other: httpx2.Client, their_job: str
) -> None:
    """R-30: not even that it runs is told."""
    ids = (their_job, UNKNOWN)
    one, two = (
        other.post(
            "/v1/responses",
            json={
                "model": "m",
                "input": "Hi",
                "background": background,
                "previous_response_id": id_,
            },
        )
        for id_ in ids
    )
    same_answer(one, two, ids)
