"""`conversation` on POST /v1/responses over plain HTTP: who runs, what is appended, what frees it
(spec §9; reliability R-53, R-59, R-64)."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, HELLO, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import Json, client_of, create, error_of, events
from tests.api.talk_socket import plugged
from tests.api.test_conversations import added, listed, made, said, texts
from tests.api.test_disconnect import SOON, asking, read_until, response_id
from tests.backends.upstream import DONE, ChatUpstream, Reply, Step, chunk, sse
from tests.live import LiveServer

LOCKED: Final = {
    "message": "Another process is currently operating on this conversation. "
    "Please retry in a few seconds.",
    "type": "invalid_request_error",
    "param": "conversation",
    "code": "conversation_locked",
}
#: How a request may be answered; each is made by another part of the engine.
MODES: Final[dict[str, Json]] = {
    "json": {},
    "stream": {"stream": True},
    "unstored": {"store": False},
    "unstored stream": {"store": False, "stream": True},
    "background": {"background": True},
    "background stream": {"background": True, "stream": True},
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def ask(client: httpx2.Client, id_: str, text: str = "one", **body: Any) -> httpx2.Response:
    return client.post(
        "/v1/responses", json={"model": "m", "input": text, "conversation": id_, **body}
    )


def outcome(client: httpx2.Client, reply: httpx2.Response) -> Json:
    """The final Response, however it was asked for."""
    assert reply.status_code == 200, reply.text
    if reply.headers["content-type"].startswith("text/event-stream"):
        return assert_valid_log(events(reply.text))
    body: Json = reply.json()
    if body["background"] and body["status"] in ("queued", "in_progress"):
        jobs = Background(client)
        eventually(lambda: jobs.get(body["id"])["status"] not in ("queued", "in_progress"))
        return jobs.get(body["id"])
    return body


def kept(client: httpx2.Client, id_: str) -> list[str]:
    """The texts that it holds, oldest first."""
    return texts(listed(client, id_, order="asc", limit=100))


def is_free(client: httpx2.Client, id_: str) -> bool:
    """Whether something can be added; it is."""
    reply = client.post(f"/v1/conversations/{id_}/items", json={"items": [said("free")]})
    if reply.status_code == 400:
        assert error_of(reply) == LOCKED
    else:
        assert reply.status_code == 200, reply.text
    return reply.status_code == 200


@pytest.fixture
def id_(client: httpx2.Client, upstream: ChatUpstream) -> Iterator[str]:
    """A conversation with one item; what runs in it afterwards is stopped."""
    made_here = made(client, said("zero"))
    yield made_here
    upstream.script(Reply.chat("Hello"))


# -- one turn ------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("as_object", [False, True], ids=["id", "object"])
def test_a_turn(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json, as_object: bool
) -> None:
    """Seen in order, appended in order, once each, under the ids that the response showed."""
    named = {"id": id_} if as_object else id_
    first = outcome(client, ask(client, id_, **mode, conversation=named))
    second = outcome(client, ask(client, id_, "two", **mode, conversation=named))
    assert kept(client, id_) == ["zero", "one", "Hello", "two", "Hello"]
    items = listed(client, id_, order="asc")
    assert [items[2], items[4]] == first["output"] + second["output"]
    said_so_far = [message["content"] for message in upstream.requests[1].json["messages"]]
    assert said_so_far == ["zero", "one", "Hello", "two"]
    for shown in (first, second):
        assert shown["conversation"] == {"id": id_}
        assert shown["previous_response_id"] is None
        # A background response is kept for those who poll it (spec §1).
        there = mode.get("store") is not False or "background" in mode
        reply = client.get(path_of(shown["id"]))
        assert reply.status_code == (200 if there else 404)
        assert not there or reply.json() == shown


@pytest.mark.parametrize("mode", [MODES["stream"], MODES["background stream"]])
def test_every_snapshot_names_the_conversation(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    found = [event for event in events(ask(client, id_, **mode).text) if "response" in event]
    assert len(found) >= 3
    assert all(event["response"]["conversation"] == {"id": id_} for event in found)


@pytest.mark.parametrize("conversation", [None, "absent"])
def test_without_a_conversation_there_is_none(
    client: httpx2.Client, upstream: ChatUpstream, conversation: str | None
) -> None:
    body: dict[str, Any] = {} if conversation == "absent" else {"conversation": None}
    assert create(client, **body).get("conversation") is None


@every_mode
def test_a_call_and_its_output_in_the_next_turn(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    function = {"name": "f", "arguments": '{"a":1}'}
    part = {"index": 0, "id": "call_1", "type": "function", "function": function}
    end = [sse(chunk(finish="tool_calls")), DONE]
    upstream.script(Reply(body=[sse(chunk(tool_calls=[part])), *end]), Reply.chat("Two"))
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    first = outcome(client, ask(client, id_, tools=tools, **mode))
    assert first["output"][0]["call_id"] == "call_1"
    # Without the output there is nothing to ask the model.
    bare = ask(client, id_, "And?", tools=tools)
    assert bare.status_code == 400
    assert "No tool output found for function call call_1." in error_of(bare)["message"]
    output = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
    body = {**mode, "input": [output], "tools": tools}
    assert outcome(client, ask(client, id_, **body))["output_text"] == "Two"
    roles = [message["role"] for message in upstream.requests[-1].json["messages"]]
    assert roles == ["user", "user", "assistant", "tool"]
    types = [item["type"] for item in listed(client, id_, order="asc")]
    assert types[2:] == ["function_call", "function_call_output", "message"]


def test_input_may_be_left_out(client: httpx2.Client, upstream: ChatUpstream, id_: str) -> None:
    bodies: list[Json] = [{}, {"input": None}, {"input": []}]
    for body in bodies:
        request = {"model": "m", "conversation": made(client, said("alone")), **body}
        reply = client.post("/v1/responses", json=request)
        assert reply.status_code == 200, reply.text
        messages = upstream.requests[-1].json["messages"]
        assert messages == [{"role": "user", "content": "alone"}]


def test_items_go_with_the_conversation_not_with_the_response(
    client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    response = outcome(client, ask(client, id_))
    assert client.delete(path_of(response["id"])).status_code == 200
    assert kept(client, id_) == ["zero", "one", "Hello"]
    client.delete(f"/v1/conversations/{id_}")
    reference = [{"type": "item_reference", "id": response["output"][0]["id"]}]
    gone = client.post("/v1/responses", json={"model": "m", "input": reference})
    assert gone.status_code == 404


def test_an_unstored_turn_is_in_no_list(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    """Its row is there for the conversation only."""
    metadata = {"id": id_[:60]}
    upstream.script(ENDLESS)
    query = {"metadata[id]": metadata["id"]}
    with asking(server, conversation=id_, store=False, stream=True, metadata=metadata) as sock:
        running = response_id(read_until(sock, b"Hello"))
        assert client.get("/v1/responses", params=query).json()["data"] == []
        for method in ("GET", "DELETE"):
            assert client.request(method, path_of(running)).status_code == 404
        assert not is_free(client, id_)
    upstream.script(Reply.chat("Hello"))
    assert eventually(lambda: is_free(client, id_))
    outcome(client, ask(client, id_, metadata=metadata, store=False))
    assert client.get("/v1/responses", params=query).json()["data"] == []


# -- one at a time -------------------------------------------------------------------------------


@every_mode
def test_one_of_many_at_once(
    server: LiveServer, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    """R-64: exactly one is made, and all others are told so."""
    count = 20
    upstream.script(slowly("Hel", "lo", pause=0.8))

    def race(number: int) -> httpx2.Response:
        with client_of(server) as client:
            return ask(client, id_, f"of {number}", **mode)

    with ThreadPoolExecutor(count) as pool:
        replies = list(pool.map(race, range(count)))
    refused = [reply for reply in replies if reply.status_code == 400]
    assert len(refused) == count - 1
    assert all(error_of(reply) == LOCKED for reply in refused)
    [answered] = [number for number, reply in enumerate(replies) if reply.status_code == 200]
    with client_of(server) as client:
        assert outcome(client, replies[answered])["output_text"] == "Hello"
        assert kept(client, id_) == ["zero", f"of {answered}", "Hello"]
    assert len(upstream.requests) == 1


def test_runs_and_added_items_do_not_mix(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    """R-64: whoever comes first, a run sees all that stands before it and nothing else."""
    upstream.script(Reply.chat("answer"))

    def race(number: int) -> int:
        with client_of(server) as mine:
            if number % 3:
                items = {"items": [said(f"{number} a"), said(f"{number} b")]}
                return mine.post(f"/v1/conversations/{id_}/items", json=items).status_code
            return ask(mine, id_, f"{number} run", store=bool(number % 2)).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(race, range(36)))
    assert set(statuses) <= {200, 400}
    there = kept(client, id_)
    runs = [number for number in range(0, 36, 3) if statuses[number] == 200]
    assert runs
    for number in range(36):
        mine = [text for text in there if text.split()[0] == str(number)]
        wanted = [f"{number} a", f"{number} b"] if number % 3 else [f"{number} run"]
        assert mine == (wanted if statuses[number] == 200 else [])
    seen = {
        messages[-1]["content"]: [message["content"] for message in messages]
        for messages in (request.json["messages"] for request in upstream.requests)
    }
    assert len(seen) == len(upstream.requests) == len(runs)
    for number in runs:
        place = there.index(f"{number} run")
        assert there[place + 1] == "answer"
        assert seen[f"{number} run"] == there[: place + 1]


@every_mode
def test_the_next_may_come_at_once(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    """Who was told the end finds it free: it was committed before."""
    for number in range(5):
        outcome(client, ask(client, id_, str(number), **mode))
        added(client, id_, said(f"{number} behind"))
    wanted = [[str(n), "Hello", f"{n} behind"] for n in range(5)]
    assert kept(client, id_) == ["zero", *(text for turn in wanted for text in turn)]


def test_sockets_and_requests_share_the_lock(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    """R-64, for every transport (spec §2.6)."""
    with plugged(server) as socket:
        upstream.script(ENDLESS)
        with asking(server, conversation=id_, stream=True) as sock:
            read_until(sock, b"Hello")
            refusal = socket.refused("two", model="m", conversation=id_)
            assert (refusal["status"], refusal["error"]["code"]) == (400, LOCKED["code"])
        assert eventually(lambda: is_free(client, id_))
        socket.ask("two", model="m", conversation=id_)
        while socket.next()["type"] != "response.output_text.delta":
            pass
        assert error_of(ask(client, id_)) == LOCKED
    assert eventually(lambda: is_free(client, id_), SOON)
    assert set(kept(client, id_)) == {"zero", "free"}


# -- what frees it -------------------------------------------------------------------------------

LEAVING: Final[dict[str, list[Step]]] = {
    "before the first token": ["stall"],
    "in the middle": [HELLO, 0.05, HELLO, "stall"],
}


@pytest.mark.parametrize("body", LEAVING.values(), ids=LEAVING)
@pytest.mark.parametrize("store", [True, False], ids=["stored", "unstored"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
def test_who_leaves_frees_it(
    server: LiveServer,
    client: httpx2.Client,
    upstream: ChatUpstream,
    stream: bool,
    store: bool,
    body: list[Step],
) -> None:
    """R-53: and leaves nothing in it."""
    id_ = made(client, said("zero"))
    upstream.script(Reply(body=body), Reply.chat("Hello"))
    with asking(server, conversation=id_, stream=stream, store=store):
        assert eventually(lambda: len(upstream.requests) == 1)
        time.sleep(0.1)
        assert not is_free(client, id_)
    began = time.monotonic()
    assert eventually(lambda: is_free(client, id_))
    assert time.monotonic() - began < SOON
    assert kept(client, id_) == ["zero", "free"]
    outcome(client, ask(client, id_))
    assert kept(client, id_) == ["zero", "free", "one", "Hello"]


def test_many_who_leave_at_any_moment(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    """Some before they are admitted, some before their run begins."""
    upstream.script(ENDLESS)
    for number in range(30):
        with asking(server, conversation=id_, stream=number % 2 == 0):
            time.sleep(number * 0.001)
    assert eventually(lambda: is_free(client, id_))
    time.sleep(0.2)
    assert kept(client, id_) == ["zero", "free"]
    upstream.script(Reply.chat("Hello"))
    outcome(client, ask(client, id_))


Ender = Callable[[httpx2.Client, str, str], httpx2.Response]
ENDERS: Final[dict[str, Ender]] = {
    "cancel": lambda client, _, running: client.post(f"{path_of(running)}/cancel"),
    "delete": lambda client, _, running: client.delete(path_of(running)),
}


@pytest.mark.parametrize("how", ENDERS.values(), ids=ENDERS)
def test_a_job_that_is_stopped_frees_it_at_once(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, how: Ender
) -> None:
    """R-58, R-59."""
    jobs = Background(client)
    upstream.script(ENDLESS)
    running = jobs.start(conversation=id_)
    assert not is_free(client, id_)
    jobs.say(running, "Hello")
    assert error_of(ask(client, id_)) == LOCKED
    assert how(client, id_, running).status_code == 200
    upstream.script(Reply.chat("Hello"))
    outcome(client, ask(client, id_, "next"))
    assert upstream.requests[0].left.wait(SOON)
    assert kept(client, id_) == ["zero", "next", "Hello"]


def test_a_deleted_stream_frees_it_at_once(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    upstream.script(ENDLESS, Reply.chat("Hello"))
    with asking(server, conversation=id_, stream=True) as sock:
        running = response_id(read_until(sock, b"Hello"))
        assert client.delete(path_of(running)).status_code == 200
        outcome(client, ask(client, id_, "next"))
        assert b"response.failed" in read_until(sock, b"\r\n0\r\n\r\n")
    assert kept(client, id_) == ["zero", "next", "Hello"]


@every_mode
def test_a_run_whose_conversation_is_deleted_ends_well(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    upstream.script(slowly("Hel", "lo", pause=0.4))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client, id_, **mode)
        assert eventually(lambda: len(upstream.requests) == 1)
        assert client.delete(f"/v1/conversations/{id_}").status_code == 200
        shown = outcome(client, asked.result())
    assert (shown["status"], shown["output_text"]) == ("completed", "Hello")
    assert shown["conversation"] == {"id": id_}
    assert client.get(f"/v1/conversations/{id_}").status_code == 404
    gone = ask(client, id_)
    assert (gone.status_code, error_of(gone)["param"]) == (404, "conversation")


FAILING: Final[dict[str, Reply]] = {
    "at once": Reply.json({"error": {"message": "x"}}, 500),
    "refused": Reply.json({"error": {"message": "bad", "type": "invalid_request_error"}}, 400),
    "in the middle": Reply(body=[HELLO, 0.05, "cut"]),
}


@every_mode
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_a_failed_run_leaves_nothing(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, failing: Reply, mode: Json
) -> None:
    """Spec §9: whether it is told as a status, an event, or a state."""
    upstream.script(failing)
    reply = ask(client, id_, **mode)
    if reply.status_code == 200:
        running = reply.headers["content-type"].startswith("text/event-stream")
        shown = events(reply.text)[-1]["response"] if running else outcome(client, reply)
        assert shown["status"] == "failed"
    assert kept(client, id_) == ["zero"]
    upstream.script(Reply.chat("Hello"))
    outcome(client, ask(client, id_, "again", **mode))
    assert kept(client, id_) == ["zero", "again", "Hello"]


@every_mode
def test_an_incomplete_run_is_appended(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    upstream.script(Reply(body=[HELLO, sse(chunk(finish="length")), DONE]), Reply.chat("More"))
    first = outcome(client, ask(client, id_, max_output_tokens=16, **mode))
    assert first["status"] == "incomplete"
    assert listed(client, id_)[0] == first["output"][0]
    outcome(client, ask(client, id_, "Go on", **mode))
    assert kept(client, id_) == ["zero", "one", "Hello", "Go on", "More"]
    roles = [message["role"] for message in upstream.requests[-1].json["messages"]]
    assert roles == ["user", "user", "assistant", "user"]


# -- Idempotency-Key -----------------------------------------------------------------------------


@every_mode
def test_a_replay_appends_nothing(
    client: httpx2.Client, upstream: ChatUpstream, id_: str, mode: Json
) -> None:
    """R-79: also while another response of it runs."""
    body = {"model": "m", "input": "one", "conversation": id_, **mode}
    headers = {"idempotency-key": f"key-of-{id_}"}

    def post() -> httpx2.Response:
        return client.post("/v1/responses", json=body, headers=headers)

    first = outcome(client, post())
    jobs = Background(client)
    upstream.script(ENDLESS)
    jobs.say(jobs.start(conversation=id_), "Hello")
    again = post()
    assert again.headers["idempotent-replayed"] == "true"
    assert outcome(client, again) == first
    jobs.forget()
    assert kept(client, id_) == ["zero", "one", "Hello"]


def test_twins_at_once_are_one_turn(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    """None of them is told that the other one is in its way."""
    upstream.script(slowly("Hel", "lo", pause=0.2))
    body = {"model": "m", "input": "one", "conversation": id_}
    headers = {"idempotency-key": f"key-of-{id_}"}

    def post(_: int) -> str:
        with client_of(server) as mine:
            reply = mine.post("/v1/responses", json=body, headers=headers)
            shown: Json = outcome(mine, reply)
            made_here: str = shown["id"]
            return made_here

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(post, range(8)))) == 1
    assert kept(client, id_) == ["zero", "one", "Hello"]


def test_an_error_frees_the_key_too(
    client: httpx2.Client, upstream: ChatUpstream, id_: str
) -> None:
    upstream.script(FAILING["at once"])
    body = {"model": "m", "input": "one", "conversation": id_}
    headers = {"idempotency-key": f"key-of-{id_}"}
    assert client.post("/v1/responses", json=body, headers=headers).status_code >= 500
    upstream.script(Reply.chat("Hello"))
    outcome(client, client.post("/v1/responses", json=body, headers=headers))
    assert kept(client, id_) == ["zero", "one", "Hello"]
