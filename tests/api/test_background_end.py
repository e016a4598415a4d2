"""Background responses that are cancelled or deleted (spec §2.1; reliability R-57 to R-60)."""

import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from antiphon.testing import assert_valid_beginning
from tests.api.background import (
    DONE_ONLY,
    ENDLESS,
    HELLO,
    Background,
    path_of,
    slowly,
)
from tests.api.raw import eventually
from tests.api.talk import UNKNOWN, Json, client_of, create, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import LiveServer

#: Seconds in which the upstream must see that nobody listens any more (R-58).
SOON = 1.0


@pytest.fixture
def jobs(client: httpx2.Client) -> Iterator[Background]:
    jobs = Background(client)
    yield jobs
    jobs.forget()


def cancel(client: httpx2.Client, response_id: str) -> httpx2.Response:
    return client.post(f"{path_of(response_id)}/cancel")


# -- cancel --------------------------------------------------------------------------------------


def test_cancelling_what_runs_stops_the_work(jobs: Background, upstream: ChatUpstream) -> None:
    """R-58: the upstream call, not only the status; what was said is kept (spec §5)."""
    upstream.script(ENDLESS)
    made = jobs.start(metadata={"k": "v"})
    jobs.say(made, "Hello")
    asked = time.monotonic()
    reply = cancel(jobs.client, made)
    assert reply.status_code == 200
    assert upstream.requests[0].left.wait(SOON)
    assert time.monotonic() - asked < SOON
    shown = reply.json()
    assert (shown["status"], shown["output_text"]) == ("cancelled", "Hello")
    assert (shown["error"], shown["completed_at"], shown["usage"]) == (None, None, None)
    assert [item["status"] for item in shown["output"]] == ["incomplete"]
    assert shown["metadata"] == {"k": "v"}
    assert jobs.get(made) == shown


def test_again_there_is_no_effect(jobs: Background, upstream: ChatUpstream) -> None:
    upstream.script(ENDLESS)
    made = jobs.start()
    jobs.say(made, "Hello")
    first = cancel(jobs.client, made)
    for _ in range(3):
        assert cancel(jobs.client, made).content == first.content
    assert jobs.client.get(path_of(made)).content == first.content


def test_cancelling_before_the_first_word(jobs: Background, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=["stall"]))
    made = jobs.start()
    assert eventually(lambda: len(upstream.requests) == 1)
    shown = cancel(jobs.client, made).json()
    assert (shown["status"], shown["output"]) == ("cancelled", [])
    assert upstream.requests[0].left.wait(SOON)


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.01])
def test_cancelling_at_once(jobs: Background, upstream: ChatUpstream, pause: float) -> None:
    """Queued, claimed or running: one terminal state, on which all agree (must show 4)."""
    upstream.script(slowly(*"abc", pause=0.01))
    for _ in range(10):
        made = jobs.start()
        time.sleep(pause)
        shown = cancel(jobs.client, made).json()
        assert shown["status"] in ("cancelled", "completed")
        log = jobs.log(made)
        assert (log[-1]["type"] == "response.completed") is (shown["status"] == "completed")
        assert jobs.get(made) == shown


def test_readers_of_a_cancelled_response_come_to_its_end(
    server: LiveServer, jobs: Background, upstream: ChatUpstream
) -> None:
    """Spec §4.4: there is no event for it; the stream ends with ``[DONE]``. R-62: and so does
    every replay."""
    upstream.script(ENDLESS)
    made = jobs.start()
    jobs.say(made, "Hello")
    texts: list[str] = []

    def read() -> None:
        with client_of(server) as client:
            texts.append(Background(client).stream(made))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    time.sleep(0.2)
    assert texts == []
    cancel(jobs.client, made)
    for reader in readers:
        reader.join(5)
    assert texts == [jobs.stream(made)] * 3
    log = events(texts[0])
    assert_valid_beginning(log)
    assert "".join(event.get("delta", "") for event in log) == "Hello"
    assert jobs.stream(made, starting_after=log[-1]["sequence_number"]) == DONE_ONLY


def test_the_stream_of_the_post_ends_when_somebody_cancels(
    server: LiveServer, jobs: Background, upstream: ChatUpstream
) -> None:
    upstream.script(ENDLESS)
    with jobs.posting() as found:
        log = []
        for event in found:
            log.append(event)
            if event.get("delta") == "Hello":
                with client_of(server) as other:
                    assert cancel(other, log[0]["response"]["id"]).status_code == 200
    assert_valid_beginning(log)


@pytest.mark.parametrize("reply", [Reply.chat("Hello"), Reply.json({"error": {}}, 500)])
def test_what_has_ended_stays_as_it_is(
    jobs: Background, upstream: ChatUpstream, reply: Reply
) -> None:
    """R-57; spec §2.1: the final object is answered."""
    upstream.script(reply)
    made = jobs.start()
    jobs.log(made)
    before = jobs.client.get(path_of(made)).content
    answer = cancel(jobs.client, made)
    assert (answer.status_code, answer.content) == (200, before)
    assert jobs.client.get(path_of(made)).content == before


@pytest.mark.parametrize("background", [None, False])
def test_a_synchronous_response_cannot_be_cancelled(
    jobs: Background, upstream: ChatUpstream, background: bool | None
) -> None:
    made = create(jobs.client, background=background)
    reply = cancel(jobs.client, made["id"])
    assert reply.status_code == 400
    error = error_of(reply)
    assert error["message"] == "Cannot cancel a synchronous response."
    assert error["type"] == "invalid_request_error"
    assert jobs.get(made["id"]) == made


def test_cancelling_what_is_not_there(client: httpx2.Client) -> None:
    reply = cancel(client, UNKNOWN)
    assert reply.status_code == 404
    assert error_of(reply)["message"] == f"Response with id '{UNKNOWN}' not found."
    for malformed in ("conv_1", "resp_%20", "resp_" + "x" * 600, "x"):
        reply = cancel(client, malformed)
        assert reply.status_code == 400
        assert error_of(reply)["param"] == "response_id"


def test_another_project_cannot_cancel(
    jobs: Background, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-29."""
    upstream.script(slowly("Hel", "lo", pause=0.2))
    made = jobs.start()
    jobs.say(made, "Hel")
    assert cancel(other, made).status_code == 404
    assert jobs.reach(made, "completed")["output_text"] == "Hello"


def test_many_cancel_at_once(server: LiveServer, jobs: Background, upstream: ChatUpstream) -> None:
    """R-58: one end, the same for all of them."""
    upstream.script(ENDLESS)
    made = jobs.start()
    jobs.say(made, "Hello")
    bodies: list[bytes] = []

    def ask() -> None:
        with client_of(server) as client:
            reply = cancel(client, made)
            assert reply.status_code == 200
            bodies.append(reply.content)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert bodies == [jobs.client.get(path_of(made)).content] * 8


def test_what_a_cancelled_response_has_said_can_be_continued(
    jobs: Background, upstream: ChatUpstream
) -> None:
    """It has ended: its partial answer is history like any other's (spec §9)."""
    upstream.script(ENDLESS, Reply.chat("Fine"))
    made = jobs.start(input="one")
    jobs.say(made, "Hello")
    cancel(jobs.client, made)
    assert create(jobs.client, input="two", previous_response_id=made)["output_text"] == "Fine"
    texts = [message["content"] for message in upstream.requests[-1].json["messages"]]
    assert texts == ["one", "Hello", "two"]
    assert jobs.client.delete(path_of(made)).status_code == 200


# -- delete --------------------------------------------------------------------------------------


def test_deleting_what_runs_stops_the_work(
    jobs: Background, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-59: gone at once and for good; what the run still says is dropped."""
    upstream.script(ENDLESS)
    made = jobs.start()
    jobs.say(made, "Hello")
    assert other.delete(path_of(made)).status_code == 404
    reply = jobs.client.delete(path_of(made))
    assert reply.json() == {"id": made, "object": "response", "deleted": True}
    assert upstream.requests[0].left.wait(SOON)
    for _ in range(5):
        for method, suffix in [
            ("GET", ""),
            ("GET", "?stream=true"),
            ("GET", "/input_items"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ]:
            assert jobs.client.request(method, path_of(made) + suffix).status_code == 404
        time.sleep(0.05)
    child = {"model": "m", "input": "Hi", "previous_response_id": made}
    assert jobs.client.post("/v1/responses", json=child).status_code == 400


def test_readers_of_a_deleted_response_come_to_an_end(
    server: LiveServer, jobs: Background, upstream: ChatUpstream
) -> None:
    """R-59: nobody waits for ever."""
    upstream.script(ENDLESS)
    made = jobs.start()
    seen: list[Json] = []
    with jobs.reading(made) as found:
        for event in found:
            seen.append(event)
            if event.get("delta") == "Hello":
                with client_of(server) as second:
                    assert second.delete(path_of(made)).status_code == 200
    assert_valid_beginning(seen)


def test_deleting_between_acceptance_and_start(jobs: Background, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=[0.02, HELLO, "stall"]))
    for _ in range(10):
        made = jobs.start()
        assert jobs.client.delete(path_of(made)).status_code == 200
        assert jobs.client.get(path_of(made)).status_code == 404
    assert eventually(lambda: all(one.left.is_set() for one in upstream.requests), 5)
