"""``Idempotency-Key`` on ``POST /v1/responses``: one execution, one answer (reliability R-79)."""

import contextlib
import threading
import uuid
from typing import Any, Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, HELLO, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import Json, client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import LiveServer

BODY: Final[Json] = {"model": "m", "input": "Hi"}
MODES: Final = {
    "json": {},
    "stream": {"stream": True},
    "background": {"background": True},
    "background stream": {"background": True, "stream": True},
}


@pytest.fixture
def key() -> str:
    return f"key-{uuid.uuid4()}"


def post(client: httpx2.Client, key: str, **body: Any) -> httpx2.Response:
    return client.post("/v1/responses", json={**BODY, **body}, headers={"idempotency-key": key})


def id_of(reply: httpx2.Response) -> str:
    assert reply.status_code == 200, reply.text
    streamed = reply.headers["content-type"].startswith("text/event-stream")
    shown = events(reply.text)[0]["response"] if streamed else reply.json()
    id_: str = shown["id"]
    return id_


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("store", [True, False], ids=["stored", "unstored"])
def test_the_same_key_is_the_same_response(
    client: httpx2.Client, upstream: ChatUpstream, key: str, mode: Json, store: bool
) -> None:
    first = post(client, key, store=store, **mode)
    made = id_of(first)
    assert "idempotent-replayed" not in first.headers
    for _ in range(2):
        again = post(client, key, store=store, **mode)
        assert id_of(again) == made
        assert again.headers["idempotent-replayed"] == "true"
        if "background" not in mode or "stream" in mode:
            assert again.content == first.content
    other = id_of(post(client, key + "2", store=store, **mode))
    assert other != made
    if "background" in mode:
        for id_ in (made, other):
            Background(client).reach(id_, "completed")
    assert len(upstream.requests) == 2


def test_bodies_that_say_the_same_are_the_same(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    made = id_of(post(client, key))
    spaced = b'{ "input" : "Hi",\n "model":"m" }'
    headers = {"idempotency-key": key, "content-type": "application/json"}
    reply = client.post("/v1/responses", content=spaced, headers=headers)
    assert id_of(reply) == made


@pytest.mark.parametrize(
    "changed", [{"input": "Ho"}, {"stream": True}, {"background": True}, {"temperature": 1}]
)
def test_another_body_is_refused(
    client: httpx2.Client, upstream: ChatUpstream, key: str, changed: Json
) -> None:
    """422, not 409: SDKs try a 409 again."""
    id_of(post(client, key))
    reply = post(client, key, **changed)
    assert reply.status_code == 422
    assert error_of(reply)["code"] == "idempotency_key_reused"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_ten_twins_at_once_are_one_execution(
    server: LiveServer, upstream: ChatUpstream, key: str, mode: Json
) -> None:
    upstream.script(slowly(*"abcd", pause=0.05))
    replies: list[httpx2.Response] = []

    def ask() -> None:
        with client_of(server) as client:
            replies.append(post(client, key, **mode))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({id_of(reply) for reply in replies}) == 1
    assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1
    if "stream" in mode:
        logs = [events(reply.text) for reply in replies]
        assert assert_valid_log(logs[0])["output_text"] == "abcd"
        assert all(log == logs[0] for log in logs)
    elif "background" not in mode:
        assert {reply.json()["output_text"] for reply in replies} == {"abcd"}
    assert eventually(lambda: len(upstream.requests) == 1)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_who_leaves_comes_back_for_the_answer(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, key: str, stream: bool
) -> None:
    """A keyed request is not tied to its connection: the same id, the same events."""
    upstream.script(slowly(*"abcd", pause=0.2))
    headers = {"idempotency-key": key}
    body = {**BODY, "stream": stream}
    with client_of(server, timeout=0.1) as impatient, contextlib.suppress(httpx2.ReadTimeout):
        impatient.post("/v1/responses", json=body, headers=headers)
    assert upstream.requests
    reply = post(client, key, stream=stream)
    assert reply.headers["idempotent-replayed"] == "true"
    final = events(reply.text)[-1]["response"] if stream else reply.json()
    assert final["output_text"] == "abcd"
    assert len(upstream.requests) == 1
    assert not upstream.requests[0].left.is_set()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_an_error_frees_the_key(
    client: httpx2.Client, upstream: ChatUpstream, key: str, stream: bool
) -> None:
    """SDKs try again with the same key: they must not get the same error for ever."""
    upstream.script(Reply.json({"error": {}}, 429, retry_after="7"), Reply.chat("Hello"))
    first = post(client, key, stream=stream)
    assert first.status_code == 429
    assert first.headers["retry-after"] == "7"
    assert id_of(post(client, key, stream=stream))
    assert len(upstream.requests) == 2


def test_what_was_refused_did_not_take_the_key(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    assert post(client, key, temperature=3).status_code == 400
    assert id_of(post(client, key))


def test_a_failure_inside_a_stream_is_replayed(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """It was answered with 200; trying again would cost the tokens again (R-52)."""
    upstream.script(Reply(body=[HELLO, 0.1, "cut"]), Reply.chat("More"))
    first = post(client, key, stream=True)
    assert events(first.text)[-1]["type"] == "response.failed"
    again = post(client, key, stream=True)
    assert again.content == first.content
    assert len(upstream.requests) == 1


def test_keys_belong_to_projects(
    client: httpx2.Client, other: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """R-30: another's key is like one that nobody has used, whatever the body."""
    mine = id_of(post(client, key))
    theirs = id_of(post(other, key))
    assert mine != theirs
    assert id_of(post(other, key)) == theirs
    assert post(other, key, input="Ho").status_code == 422
    assert other.get(path_of(mine)).status_code == 404


def test_a_deleted_response_frees_its_key(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """What is gone is not replayed (R-59)."""
    made = id_of(post(client, key))
    client.delete(path_of(made))
    assert id_of(post(client, key)) != made


def test_a_cancelled_response_is_replayed(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    upstream.script(ENDLESS)
    made = id_of(post(client, key, background=True))
    assert client.post(f"{path_of(made)}/cancel").json()["status"] == "cancelled"
    again = post(client, key, background=True)
    assert (id_of(again), again.json()["status"]) == (made, "cancelled")


def test_an_unstored_answer_is_kept_for_its_twins_only(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """Spec §1: `store: false` is not retrievable, not chainable, not cancellable."""
    made = id_of(post(client, key, store=False))
    for method, suffix in (
        ("GET", ""),
        ("GET", "?stream=true"),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ):
        assert client.request(method, path_of(made) + suffix).status_code == 404
    child = client.post("/v1/responses", json={**BODY, "previous_response_id": made})
    assert error_of(child)["code"] == "previous_response_not_found"


def test_a_synchronous_response_with_a_key_cannot_be_cancelled(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    made = id_of(post(client, key))
    reply = client.post(f"{path_of(made)}/cancel")
    assert reply.status_code == 400
    assert error_of(reply)["message"] == "Cannot cancel a synchronous response."


@pytest.mark.parametrize("bad", ["", "x" * 256, "a\tb", "é"])
def test_a_malformed_key_is_named(client: httpx2.Client, upstream: ChatUpstream, bad: str) -> None:
    headers = [(b"idempotency-key", bad.encode("latin-1"))]
    reply = client.post("/v1/responses", json=BODY, headers=headers)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == "Idempotency-Key"
    assert upstream.requests == []


def test_two_keys_are_one_too_many(client: httpx2.Client, upstream: ChatUpstream) -> None:
    headers = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    assert client.post("/v1/responses", json=BODY, headers=headers).status_code == 400
    assert id_of(post(client, "x" * 255))
