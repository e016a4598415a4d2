"""WebSocket mode over a real socket: lanes, and what a connection remembers (spec §2.6)."""

import time

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.talk import UNKNOWN, Json, create
from tests.api.talk_socket import ENDS, SLOW, Socket, plug, plugged
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import OTHER_KEY, LiveServer

# -- lanes ---------------------------------------------------------------------------------------


def by_lane(socket: Socket, count: int) -> tuple[dict[str, list[Json]], list[str]]:
    """The events of `count` responses by lane, and the lanes in the order of their ends."""
    lanes: dict[str, list[Json]] = {}
    ended: list[str] = []
    while len(ended) < count:
        event = socket.next()
        name = event.pop("stream_id", "")
        lanes.setdefault(name, []).append(event)
        if event["type"] in ENDS:
            ended.append(name)
    return lanes, ended


def test_without_a_stream_id_one_response_after_another(server: LiveServer) -> None:
    """Spec §10: sequential, in the order of arrival, never multiplexed."""
    texts = [SLOW, "[[tokens=3]]", "[[tokens=5]]"]
    with plugged(server) as socket:
        for index, text in enumerate(texts):
            socket.ask(text, metadata={"n": str(index)})
        for index in range(len(texts)):
            assert socket.rest()[-1]["response"]["metadata"] == {"n": str(index)}


def test_what_is_wrong_is_said_in_its_turn(server: LiveServer) -> None:
    with plugged(server) as socket:
        socket.ask(SLOW)
        socket.ask(temperature=5)
        socket.ask("[[tokens=2]]")
        socket.rest()
        assert socket.error()["error"]["param"] == "temperature"
        socket.rest()


def test_lanes_run_beside_each_other(server: LiveServer) -> None:
    """Spec §2.6: FIFO in a lane, no order between lanes; the nameless one is a lane, too."""
    with plugged(server) as socket:
        socket.ask("[[tokens=20]] [[pace=50ms]]", stream_id="slow")
        socket.ask("[[tokens=2]]", stream_id="slow", metadata={"second": "yes"})
        socket.ask("[[tokens=2]]", stream_id="fast")
        socket.ask("[[tokens=2]]")
        lanes, ended = by_lane(socket, 4)
    assert set(ended[:2]) == {"fast", ""}
    assert ended[2:] == ["slow", "slow"]
    assert lanes["slow"][-1]["response"]["metadata"] == {"second": "yes"}
    first = next(i for i, event in enumerate(lanes["slow"]) if event["type"] in ENDS)
    for log in (lanes["fast"], lanes[""], lanes["slow"][: first + 1], lanes["slow"][first + 1 :]):
        assert_valid_log(log)


def test_a_connection_has_32_names(server: LiveServer) -> None:
    with plugged(server) as socket:
        for number in range(32):
            socket.ask("[[tokens=1]]", stream_id=f"lane-{number}")
        by_lane(socket, 32)
        assert socket.refused(stream_id="one-more")["error"] == {
            "type": "invalid_request_error",
            "code": "websocket_stream_limit_reached",
            "param": "stream_id",
            "message": "This WebSocket connection has reached its maximum number of distinct "
            "stream IDs (32). Reuse an existing stream_id or open a new WebSocket connection.",
        }
        socket.made(stream_id="lane-7")
        socket.made()


def test_sixteen_run_at_once(server: LiveServer) -> None:
    with plugged(server) as socket:
        for number in range(20):
            socket.ask("[[tokens=4]] [[pace=250ms]]", stream_id=str(number))
        running = most = 0
        for _ in range(20):
            while (event := socket.next())["type"] not in ENDS:
                running += event["type"] == "response.created"
                most = max(most, running)
            running -= 1
    assert most == 16


# -- what is remembered --------------------------------------------------------------------------


def last_seen(upstream: ChatUpstream) -> list[tuple[str, str]]:
    """What the model saw last: roles and texts."""
    return [(m["role"], m["content"]) for m in upstream.requests[-1].json["messages"]]


def test_what_is_not_stored_is_continued_on_the_same_socket(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Spec §2.6: and by nobody else (R-30)."""
    upstream.script(Reply.chat("One"), Reply.chat("Two"), Reply.chat("Three"))
    with plugged(server) as socket:
        first = socket.made("A", model="m", store=False)["id"]
        second = socket.made("B", model="m", store=False, previous_response_id=first)["id"]
        body = {"model": "m", "input": "Hi", "previous_response_id": second}
        assert client.post("/v1/responses", json=body).status_code == 400
        with plugged(server) as another:
            missing = another.refused(previous_response_id=second)["error"]
            assert missing["code"] == "previous_response_not_found"
            assert missing["message"] == f"Previous response with id '{second}' not found."
            another.made()
        socket.made("C", model="m", store=False, previous_response_id=second)
        assert last_seen(upstream) == [
            ("user", "A"),
            ("assistant", "One"),
            ("user", "B"),
            ("assistant", "Two"),
            ("user", "C"),
        ]
        # Only the newest of a lane is remembered.
        assert socket.refused(previous_response_id=first)["status"] == 400


def test_lanes_can_fork_each_other(server: LiveServer, upstream: ChatUpstream) -> None:
    """An error of a fork in another lane does not make the parent's lane forget it."""
    bad = [{"type": "function_call_output", "call_id": "none", "output": "x"}]
    with plugged(server) as socket:
        parent = socket.made("A", model="m", store=False, stream_id="a")["id"]
        chained: Json = {"model": "m", "store": False, "previous_response_id": parent}
        assert socket.refused(bad, stream_id="b", **chained)["status"] == 400
        socket.made("B", stream_id="b", **chained)
        assert last_seen(upstream)[0] == ("user", "A")
        socket.made("C", stream_id="a", **chained)
        assert last_seen(upstream)[0] == ("user", "A")


@pytest.mark.parametrize("how", ["refused", "failed"])
def test_a_failed_continuation_forgets_its_parent(
    server: LiveServer, upstream: ChatUpstream, how: str
) -> None:
    with plugged(server) as socket:
        parent = socket.made(model="m", store=False)["id"]
        chained: Json = {"model": "m", "store": False, "previous_response_id": parent}
        if how == "refused":
            socket.refused(temperature=9, **chained)
        else:
            upstream.script(Reply.json({}, 400))
            socket.ask(**chained)
            failed = socket.rest()[-1]
            assert failed["type"] == "response.failed"
            again = {**chained, "previous_response_id": failed["response"]["id"]}
            assert socket.refused(**again)["error"]["code"] == "previous_response_not_found"
        assert socket.refused(**chained)["error"]["code"] == "previous_response_not_found"


def test_a_failure_of_something_else_forgets_nothing(server: LiveServer) -> None:
    with plugged(server) as socket:
        parent = socket.made(store=False)["id"]
        socket.refused(temperature=9)
        socket.refused(previous_response_id=UNKNOWN)
        socket.made(store=False, previous_response_id=parent)


def test_stored_responses_are_found_in_the_store(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat("One"), Reply.chat("Two"))
    first = create(client, input="A")["id"]
    with plugged(server) as socket:
        second = socket.made("B", model="m", previous_response_id=first)["id"]
        socket.refused(temperature=9, previous_response_id=second)
    with plugged(server) as socket:
        socket.made("C", model="m", previous_response_id=second)
    assert [text for _, text in last_seen(upstream)] == ["A", "One", "B", "Two", "C"]
    with plugged(server, OTHER_KEY) as stranger:
        error = stranger.refused(previous_response_id=second)["error"]
    assert error["code"] == "previous_response_not_found"


def test_a_stored_response_has_what_is_behind_it_stored_or_not(
    server: LiveServer, upstream: ChatUpstream
) -> None:
    """The connection forgets it, the store does not."""
    with plugged(server) as socket:
        first = socket.made("A", model="m", store=False)["id"]
        second = socket.made("B", model="m", previous_response_id=first)["id"]
    with plugged(server) as socket:
        socket.made("C", model="m", previous_response_id=second)
        assert [text for _, text in last_seen(upstream)] == ["A", "Hello", "B", "Hello", "C"]


@pytest.mark.parametrize("where", ["chain", "conversation", "references"])
def test_what_the_store_had_counts_as_well(
    server: LiveServer, client: httpx2.Client, where: str
) -> None:
    """Spec §2.6, R-19: a continuation may be short, and holds all that is before it."""
    eight = "x" * 8 * 1024 * 1024
    messages = [{"type": "message", "role": "user", "content": eight} for _ in range(3)]
    kept = client.post("/v1/conversations", json={"items": messages}, timeout=30).json()
    listed = client.get(f"/v1/conversations/{kept['id']}/items", timeout=30).json()["data"]
    brief: Json = {"store": False, "generate": False}
    with plugged(server) as socket:
        if where == "chain":
            stored = socket.made(messages, generate=False)["id"]
            brief["previous_response_id"] = stored
        elif where == "conversation":
            brief["conversation"] = kept["id"]
        else:
            brief["text"] = [{"type": "item_reference", "id": item["id"]} for item in listed]
        lanes = {lane: socket.made(stream_id=lane, **brief)["id"] for lane in "abc"}
        short: Json = {"store": False, "generate": False, "stream_id": "d"}
        # Three times 24 MiB are too much: the lane that was quiet for longest is forgotten.
        error = socket.refused(previous_response_id=lanes["a"], **short)["error"]
        assert error["code"] == "previous_response_not_found"
        # And what was read here once still counts when it goes on.
        socket.made(previous_response_id=lanes["c"], **short)
        error = socket.refused(previous_response_id=lanes["b"], **short)["error"]
        assert error["code"] == "previous_response_not_found"
        socket.made(previous_response_id=lanes["c"], **short)


def test_a_reader_of_the_end_can_go_on_in_another_lane(server: LiveServer) -> None:
    """Commit before you tell (design §5)."""
    with plugged(server) as socket:
        for number in range(20):
            made = socket.made("[[tokens=1]]", store=False, stream_id="a")["id"]
            socket.made(
                "[[tokens=1]]", store=False, stream_id=str(number), previous_response_id=made
            )


@pytest.mark.parametrize("store", [True, False])
def test_a_warm_up_generates_nothing_and_can_be_continued(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, store: bool
) -> None:
    with plugged(server) as socket:
        socket.ask("A", model="m", generate=False, store=store, instructions="Be brief")
        said = socket.rest()
        types = [event["type"] for event in said]
        assert types == ["response.created", "response.in_progress", "response.completed"]
        response = said[-1]["response"]
        assert response["output"] == []
        assert upstream.requests == []
        socket.made("B", model="m", store=store, previous_response_id=response["id"])
        assert last_seen(upstream) == [("user", "A"), ("user", "B")]
    found = client.get(f"/v1/responses/{response['id']}")
    assert found.status_code == (200 if store else 404)


def test_two_sockets_of_one_key_know_nothing_of_each_other(server: LiveServer) -> None:
    one, two = plug(server), plug(server)
    with one.raw, two.raw:
        one.ask(SLOW, stream_id="x")
        began = time.monotonic()
        two.made("[[tokens=1]]", stream_id="x")
        assert time.monotonic() - began < 0.4
        one.rest("x")
