"""Background responses over HTTP: the mode matrix, polling, streams from any event on (spec §1.1,
§4.4, §5; reliability E)."""

import re
import threading
from collections.abc import Iterator
from typing import Final

import httpx2
import orjson
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import (
    DONE_ONLY,
    ENDLESS,
    Background,
    path_of,
    slowly,
)
from tests.api.talk import Json, client_of, create, error_of, events
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.clients.replies import WEATHER, calling, said
from tests.live import LiveServer

ID: Final = re.compile(r"\b(resp|msg|rs|fc|ctc)_[0-9a-f]{48}\b")


@pytest.fixture
def jobs(client: httpx2.Client) -> Iterator[Background]:
    jobs = Background(client)
    yield jobs
    jobs.forget()


# -- the mode matrix (spec §1.1) -----------------------------------------------------------------

#: store, background, stream → status of GET, of GET as a stream, of a request that continues it.
MATRIX: Final = [
    (True, False, False, 200, 400, 200),
    (True, False, True, 200, 400, 200),
    (True, True, False, 200, 200, 200),
    (True, True, True, 200, 200, 200),
    (False, False, False, 404, 404, 400),
    (False, False, True, 404, 404, 400),
    (False, True, False, 200, 200, 400),
    (False, True, True, 200, 200, 400),
]


@pytest.mark.parametrize("row", MATRIX)
def test_the_mode_matrix(
    jobs: Background, upstream: ChatUpstream, row: tuple[bool, bool, bool, int, int, int]
) -> None:
    store, background, stream, got, streamed, continued = row
    body = {"store": store, "background": background, "stream": stream}
    reply = jobs.client.post("/v1/responses", json={"model": "m", "input": "Hi", **body})
    assert reply.status_code == 200
    shown = events(reply.text)[-1]["response"] if stream else reply.json()
    assert (shown["store"], shown["background"]) == (store, background)
    assert shown["status"] == ("queued" if background and not stream else "completed")
    if background:
        jobs.reach(shown["id"], "completed")
    path = path_of(shown["id"])
    assert jobs.client.get(path).status_code == got
    log = jobs.client.get(path, params={"stream": "true"})
    assert log.status_code == streamed
    if streamed == 400:
        error = error_of(log)
        assert error["param"] == "stream"
        assert error["message"].endswith("because it was not created with background=true.")
    child = {"model": "m", "input": "More", "previous_response_id": shown["id"]}
    reply = jobs.client.post("/v1/responses", json=child)
    assert reply.status_code == continued
    if continued == 400:
        assert error_of(reply)["code"] == "previous_response_not_found"


# -- polling -------------------------------------------------------------------------------------


def test_it_is_queued_then_in_progress_then_done(jobs: Background, upstream: ChatUpstream) -> None:
    """Spec §5; R-67: GET works with the first answer in hand."""
    upstream.script(slowly("Hel", "lo", pause=0.3))
    first = create(jobs.client, background=True, metadata={"k": "v"}, instructions="Be kind.")
    assert first["status"] == "queued"
    assert (first["output"], first["usage"], first["completed_at"]) == ([], None, None)
    assert (first["output_text"], first["error"]) == ("", None)
    seen = [first["status"], jobs.get(first["id"])["status"]]
    running = jobs.reach(first["id"], "in_progress")
    seen.append(running["status"])
    final = jobs.reach(first["id"], "completed")
    seen.append(final["status"])
    order = ["queued", "in_progress", "completed"]
    assert seen == sorted(seen, key=order.index)
    assert final["output_text"] == "Hello"
    assert final["completed_at"] >= final["created_at"] == first["created_at"]
    for shown in (first, running, final):
        assert list(shown) == list(final)
        assert (shown["metadata"], shown["instructions"]) == ({"k": "v"}, "Be kind.")


SAID: Final = {
    "text": Reply.chat("Hello", " there"),
    "nothing": said(),
    "two calls": calling(
        ("call_a", "weather", '{"city":"Paris"}'), ("call_b", "weather", '{"city":"Rome"}')
    ),
    "reasoning": said(sse(chunk(reasoning_content="Hmm.")), sse(chunk(content="42"))),
    "refusal": said(sse(chunk(refusal="No."))),
    "too long": said(sse(chunk(content="half")), finish="length"),
    "filtered": said(sse(chunk(content="half")), finish="content_filter"),
}


@pytest.mark.parametrize("reply", SAID.values(), ids=SAID)
@pytest.mark.parametrize("stream", [False, True], ids=["polled", "streamed"])
def test_it_says_what_a_foreground_response_says(
    jobs: Background, upstream: ChatUpstream, reply: Reply, stream: bool
) -> None:
    """Same keys in the same order with the same values, but for ids, times, `background`."""
    upstream.script(reply)
    whole = create(jobs.client, tools=[WEATHER])
    if stream:
        with jobs.posting(tools=[WEATHER]) as found:
            log = list(found)
        assert_valid_log(log)
        final = log[-1]["response"]
        assert jobs.get(final["id"]) == final
    else:
        made = jobs.start(tools=[WEATHER])
        jobs.log(made)
        final = jobs.get(made)
    assert final["background"] is True
    assert comparable(final) == comparable(whole)
    assert upstream.requests[0].json == upstream.requests[1].json


def comparable(response: Json) -> str:
    """The response as text, without what differs from one to the next."""
    times = {key: None for key in ("created_at", "completed_at") if response[key] is not None}
    same = {**response, **times, "background": None}
    return ID.sub(r"\1_", orjson.dumps(same).decode())


def test_a_strict_schema_holds_the_answer(jobs: Background, upstream: ChatUpstream) -> None:
    """Spec §8: what does not match is a failure here, too."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    upstream.script(Reply.chat('{"a": 1}'), Reply.chat('{"a": "x"}'))
    assert jobs.reach(jobs.start(text=text), "completed")["output_text"] == '{"a": 1}'
    error = jobs.reach(jobs.start(text=text), "failed")["error"]
    assert error["code"] == "server_error"
    assert "schema" in error["message"]


#: How the simulator fails → the error that the Response has.
FAULTS: Final = {
    "401": "server_error",
    "429": "rate_limit_exceeded",
    "500": "server_error",
    "context": "context_length_exceeded",
    "cut": "server_error",
    "empty": "server_error",
    "html": "server_error",
    "429 after=3": "rate_limit_exceeded",
}


@pytest.mark.parametrize(("fault", "code"), FAULTS.items(), ids=FAULTS)
def test_a_failure_is_a_state_and_not_an_http_error(
    jobs: Background, fault: str, code: str
) -> None:
    """R-45, R-49: POST and GET are 200; the log has the `error` event, then `response.failed`."""
    made = jobs.start("simulator", input=f"[[tokens=9]] [[fail={fault}]]")
    log = jobs.log(made)
    final = assert_valid_log(log)
    assert log[-2]["type"] == "error"
    assert final == jobs.get(made)
    assert (final["status"], final["error"]["code"]) == ("failed", code)
    assert final["error"]["message"] == log[-2]["message"]
    assert final["completed_at"] is None
    if "after" in fault or fault == "cut":
        assert final["output_text"] != ""


def test_what_is_wrong_with_a_request_is_told_before_it_is_queued(
    jobs: Background, upstream: ChatUpstream
) -> None:
    """Design §5: everything that can be checked is checked before the first byte."""
    bad: dict[str, Json] = {
        "temperature": {"temperature": 3},
        "tools": {"tools": [{"type": "web_search"}]},
        "conversation": {"conversation": "conv_1"},
        "previous_response_id": {"previous_response_id": "resp_" + "0" * 48},
    }
    for param, fields in bad.items():
        for stream in (False, True):
            body = {"model": "m", "input": "Hi", "background": True, "stream": stream, **fields}
            reply = jobs.client.post("/v1/responses", json=body)
            assert reply.status_code in (400, 404), reply.text
            assert error_of(reply)["param"] == param
    assert upstream.requests == []


def test_what_is_ignored_is_named_in_the_header_of_the_post(jobs: Background) -> None:
    body = {"model": "simulator", "input": "Hi", "background": True, "temperature": 0.5}
    for stream in (False, True):
        reply = jobs.client.post("/v1/responses", json={**body, "stream": stream})
        assert reply.headers["x-antiphon-ignored"] == "temperature"


# -- chains --------------------------------------------------------------------------------------


def test_a_chain_through_the_background(jobs: Background, upstream: ChatUpstream) -> None:
    """Either kind continues the other."""
    first = jobs.start(input="one")
    jobs.reach(first, "completed")
    second = jobs.start(input="two", previous_response_id=first)
    final = jobs.reach(second, "completed")
    assert final["previous_response_id"] == first
    create(jobs.client, input="three", previous_response_id=second)
    texts = [message["content"] for message in upstream.requests[-1].json["messages"]]
    assert texts == ["one", "Hello", "two", "Hello", "three"]
    items = jobs.client.get(f"{path_of(second)}/input_items", params={"order": "asc"}).json()
    assert [item["content"][0]["text"] for item in items["data"]] == ["one", "Hello", "two"]


@pytest.mark.parametrize("background", [False, True])
def test_a_running_response_cannot_be_continued(
    jobs: Background, upstream: ChatUpstream, background: bool
) -> None:
    upstream.script(ENDLESS)
    made = jobs.start()
    jobs.say(made, "Hello")
    body = {"model": "m", "input": "Hi", "previous_response_id": made, "background": background}
    reply = jobs.client.post("/v1/responses", json=body)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == "previous_response_id"


def test_a_parent_that_is_deleted_meanwhile(jobs: Background, upstream: ChatUpstream) -> None:
    """What was accepted is made of what was there, or fails; it never waits for ever."""
    parent = create(jobs.client, input="one")
    upstream.script(slowly("Hel", "lo", pause=0.2))
    child = jobs.start(input="two", previous_response_id=parent["id"])
    jobs.client.delete(path_of(parent["id"]))
    jobs.log(child)
    assert jobs.get(child)["status"] in ("completed", "failed")


# -- streams -------------------------------------------------------------------------------------


def test_the_stream_of_a_post_begins_with_the_queue(
    jobs: Background, upstream: ChatUpstream
) -> None:
    """Spec §4.1."""
    upstream.script(Reply.chat("Hel", "lo"))
    body = {"model": "m", "input": "Hi", "background": True, "stream": True}
    reply = jobs.client.post("/v1/responses", json=body)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    log = events(reply.text)
    assert [event["type"].removeprefix("response.") for event in log] == [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    statuses = [event["response"]["status"] for event in log if "response" in event]
    assert statuses == ["queued", "queued", "in_progress", "completed"]
    final = assert_valid_log(log)
    assert jobs.stream(final["id"]) == reply.text, "a replay is the same bytes"
    assert jobs.stream(final["id"]) == reply.text, "as often as anybody likes (R-62)"


def test_every_event_of_a_finished_log_can_be_the_first(
    jobs: Background, upstream: ChatUpstream
) -> None:
    """R-61, R-62: each event above `starting_after`, once, and the end."""
    upstream.script(Reply.chat("Hel", "lo"))
    made = jobs.start()
    log = jobs.log(made)
    for after in range(-1, len(log) - 1):
        assert jobs.log(made, starting_after=after) == log[after + 1 :]
    for after in (len(log) - 1, len(log), 10**17):
        assert jobs.stream(made, starting_after=after) == DONE_ONLY
    for after in (-2, -(10**17)):
        assert jobs.log(made, starting_after=after) == log


@pytest.mark.parametrize("value", ["x", "", "1.5", "1e3", "0x1", "null", "9" * 40])
def test_starting_after_is_an_integer(jobs: Background, value: str) -> None:
    """Spec §4.4."""
    made = jobs.start("simulator")
    query = {"stream": "true", "starting_after": value}
    reply = jobs.client.get(path_of(made), params=query)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == "starting_after"


def test_without_stream_it_is_the_response(jobs: Background) -> None:
    """The header Accept makes no stream (spec §2.1)."""
    made = jobs.start("simulator")
    final = jobs.reach(made, "completed")
    for query in ({}, {"stream": "false"}):
        reply = jobs.client.get(
            path_of(made), params=query, headers={"accept": "text/event-stream"}
        )
        assert reply.json() == final


def test_a_running_log_is_read_from_any_event(jobs: Background, upstream: ChatUpstream) -> None:
    """Who resumes gets the rest as it comes; who is ahead of the run gets its end."""
    upstream.script(slowly(*"abcdefgh", pause=0.1))
    made = jobs.start()
    with jobs.reading(made) as found:
        seen = [event for event, _ in zip(found, range(7), strict=False)]
    rest = jobs.log(made, starting_after=seen[-1]["sequence_number"])
    assert assert_valid_log(seen + rest)["output_text"] == "abcdefgh"
    made = jobs.start()
    assert jobs.stream(made, starting_after=1000) == DONE_ONLY
    assert jobs.get(made)["status"] == "completed"


def test_all_readers_see_the_same(
    server: LiveServer, jobs: Background, upstream: ChatUpstream
) -> None:
    """R-63: many at once, each from where it likes, some after the end."""
    upstream.script(slowly(*(f"{n} " for n in range(40)), pause=0.02))
    made = jobs.start()
    starts = [-1, -1, -1, 0, 3, 7, 20, 41]
    logs: dict[int, list[Json]] = {}

    def read(number: int, after: int) -> None:
        with client_of(server) as client:
            logs[number] = Background(client).log(made, starting_after=after)

    threads = [threading.Thread(target=read, args=each) for each in enumerate(starts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    whole = jobs.log(made)
    assert_valid_log(whole)
    assert logs == {number: whole[after + 1 :] for number, after in enumerate(starts)}


def test_leaving_the_stream_of_a_post_does_not_stop_the_work(
    jobs: Background, upstream: ChatUpstream
) -> None:
    """Spec §1.1, design §5; R-61: who left comes back for the rest."""
    upstream.script(slowly(*"abcdefgh", pause=0.1))
    seen: list[Json] = []
    with jobs.posting() as found:
        for event in found:
            seen.append(event)
            if event.get("delta") == "b":
                break
    made = seen[0]["response"]["id"]
    rest = jobs.log(made, starting_after=seen[-1]["sequence_number"])
    assert assert_valid_log(seen + rest)["output_text"] == "abcdefgh"
    assert not upstream.requests[0].left.is_set()
    assert jobs.get(made)["status"] == "completed"


def test_leaving_the_stream_of_a_get_stops_nobody(jobs: Background, upstream: ChatUpstream) -> None:
    upstream.script(slowly(*"abcd", pause=0.1))
    made = jobs.start()
    for _ in range(3):
        with jobs.reading(made) as found:
            assert next(found)["type"] == "response.created"
    assert jobs.reach(made, "completed")["output_text"] == "abcd"


@pytest.mark.parametrize("asked", [None, True, False])
def test_padding_is_there_unless_somebody_does_not_want_it(
    jobs: Background, upstream: ChatUpstream, asked: bool | None
) -> None:
    """Spec §4: the POST decides whether there is any, a GET may leave it out."""
    options: Json = {} if asked is None else {"stream_options": {"include_obfuscation": asked}}
    with jobs.posting(**options) as found:
        log = list(found)
    made = log[0]["response"]["id"]
    padded = {"obfuscation" in event for event in log if event["type"].endswith(".delta")}
    assert padded == {asked is not False}
    assert jobs.log(made) == jobs.log(made, include_obfuscation="true") == log
    bare = [{k: v for k, v in event.items() if k != "obfuscation"} for event in log]
    assert jobs.log(made, include_obfuscation="false") == bare


def test_a_long_log_is_read_piece_by_piece(jobs: Background) -> None:
    """More than one window of the store, while it runs and after."""
    with jobs.posting("simulator", input="[[tokens=3000]]") as found:
        live = list(found)
    assert_valid_log(live)
    made = live[0]["response"]["id"]
    assert jobs.log(made) == live
    assert jobs.log(made, starting_after=2500) == live[2501:]


def test_the_query_of_a_running_stream_is_checked_first(jobs: Background) -> None:
    made = jobs.start("simulator")
    reply = jobs.client.get(path_of(made), params={"stream": "true", "colour": "red"})
    assert reply.status_code == 400
    assert error_of(reply)["code"] == "unknown_parameter"
