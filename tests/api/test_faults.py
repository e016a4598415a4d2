"""Upstream faults end to end: one outcome each, streamed or not (must show 5; R-39 to R-52)."""

import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.api.fault_table import (
    BREAKS,
    HELLO,
    LEAKS,
    ODD,
    REFUSALS,
    STOP,
    UPSTREAM_KEY,
    Fault,
    Odd,
)
from tests.api.talk import Json, client_of, create, error_of, events
from tests.backends.upstream import DONE, ChatUpstream, Reply, chunk, sse
from tests.live import LiveServer, serve

_BACKEND = """
[[backends]]
name = "{name}"
kind = "chat_completions"
base_url = "{base_url}"
api_key_env = "UPSTREAM_KEY"
models = ["{name}"]
connect_timeout = 1
first_byte_timeout = {patience}
idle_timeout = 0.4
total_timeout = 5
max_retries = {retries}
"""
#: Seconds in which every fault must have its answer.
SOON = 5.0


@pytest.fixture(scope="module")
def hasty(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server with little patience. Each model is a backend with a circuit breaker of its own."""
    backends = {"m": 0, "patient": 2, "broken": 0, "refused": 0}
    nobody = "http://127.0.0.1:1/v1"
    toml = "".join(
        _BACKEND.format(
            name=name,
            retries=retries,
            patience=5 if retries else 0.4,
            base_url=nobody if name == "refused" else _upstream.base_url,
        )
        for name, retries in backends.items()
    )
    env = {"UPSTREAM_KEY": UPSTREAM_KEY}
    with serve(tmp_path_factory.mktemp("hasty"), toml, env) as live:
        yield live


@pytest.fixture(scope="module")
def _api(hasty: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(hasty) as client:
        yield client


@pytest.fixture
def api(_api: httpx2.Client, upstream: ChatUpstream) -> httpx2.Client:
    """A client; a good answer has closed the circuit breaker."""
    create(_api)
    upstream.requests.clear()
    return _api


def ask(api: httpx2.Client, model: str = "m", *, stream: bool = False) -> httpx2.Response:
    body = {"model": model, "input": "Hi", "stream": stream}
    reply = api.post("/v1/responses", json=body)
    assert reply.elapsed.total_seconds() < SOON
    assert [word for word in LEAKS if word in reply.text + str(reply.headers)] == []
    return reply


def check_refusal(fault: Fault, reply: httpx2.Response) -> None:
    assert reply.status_code == fault.status, reply.text
    error = error_of(reply)
    assert (error["code"], error["param"]) == (fault.code, fault.param)
    assert reply.headers.get("x-should-retry") == fault.retry
    assert reply.headers.get("retry-after") == fault.retry_after
    assert reply.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", REFUSALS, ids=[fault.name for fault in REFUSALS])
def test_refusal(fault: Fault, stream: bool, api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-39 to R-44, R-46: before anything was said, the answer is an HTTP status."""
    upstream.script(fault.reply)
    check_refusal(fault, ask(api, stream=stream))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("fault", BREAKS, ids=[fault.name for fault in BREAKS])
def test_break(fault: Fault, api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-45, R-52: without a stream, a status that forbids to pay twice."""
    upstream.script(fault.reply)
    check_refusal(fault, ask(api))


@pytest.mark.parametrize("fault", BREAKS, ids=[fault.name for fault in BREAKS])
def test_break_of_a_stream(fault: Fault, api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-45, R-48, R-49: the stream ends with `error` and `response.failed`, and so it is stored."""
    upstream.script(fault.reply)
    reply = ask(api, stream=True)
    assert reply.status_code == 200
    told = events(reply.text)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    assert told[-2]["error"]["code"] == fault.code
    final: Json = told[-1]["response"]
    assert final["status"] == "failed"
    assert final["error"]["code"] == fault.failed
    assert final["completed_at"] is None
    assert final["output_text"] == fault.text
    stored = api.get(f"/v1/responses/{final['id']}")
    assert stored.json() == final


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("odd", ODD, ids=[odd.name for odd in ODD])
def test_odd_but_whole(odd: Odd, stream: bool, api: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(odd.reply)
    reply = ask(api, stream=stream)
    assert reply.status_code == 200, reply.text
    final = events(reply.text)[-1]["response"] if stream else reply.json()
    assert final["status"] == "completed"
    assert final["output_text"] == odd.text
    usage = final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == odd.usage


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_nobody_listens(stream: bool, api: httpx2.Client) -> None:
    reply = ask(api, "refused", stream=stream)
    assert reply.status_code == 502
    assert error_of(reply)["code"] == "server_error"
    assert "x-should-retry" not in reply.headers


def test_the_log_has_no_key(hasty: LiveServer) -> None:
    """R-42, R-130: the operator reads what happened, but no key."""
    log = hasty.log()
    assert "upstream_refused" in log
    assert UPSTREAM_KEY not in log
    assert "Traceback" not in log


# -- retries and the circuit breaker -------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        Reply.json({"error": {}}, 503),
        Reply.json({"error": {}}, 429, retry_after="0"),
        Reply(raw=True, body=["cut"]),
    ],
    ids=["503", "429", "cut"],
)
def test_what_passes_is_tried_again(
    first: Reply, api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-40: before the first byte, and within one deadline."""
    upstream.script(first, first, Reply.chat("At last"))
    assert create(api, "patient")["output_text"] == "At last"
    assert len(upstream.requests) == 3


def test_what_was_begun_is_not_tried_again(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-52: tokens are paid once."""
    upstream.script(Reply(body=[HELLO, 0.05, "cut"]), Reply.chat("Again"))
    reply = ask(api, "patient")
    assert reply.status_code == 502
    assert reply.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


def test_a_long_retry_after_is_for_the_client(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-39."""
    upstream.script(Reply.json({"error": {}}, 429, retry_after="30"))
    began = time.monotonic()
    assert ask(api, "patient").headers["retry-after"] == "30"
    assert time.monotonic() - began < 1
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429])
def test_one_callers_mistakes_are_nobody_elses(
    status: int, api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-50: only 5xx and silence open the circuit breaker."""
    upstream.script(Reply.json({"error": {"message": "no"}}, status))
    for _ in range(8):
        assert ask(api).status_code != 503
    upstream.script(Reply.chat("Fine"))
    assert create(api)["output_text"] == "Fine"


def test_a_broken_backend_is_left_alone(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-40, R-50: then the answer comes at once, and the other backends go on."""
    upstream.script(Reply.json({"error": {}}, 500))
    statuses = [ask(api, "broken").status_code for _ in range(6)]
    assert statuses == [502] * 5 + [503]
    reply = ask(api, "broken", stream=True)
    assert reply.status_code == 503
    assert error_of(reply)["code"] == "server_is_overloaded"
    assert error_of(reply)["type"] == "service_unavailable_error"
    assert 1 <= int(reply.headers["retry-after"]) <= 10
    assert len(upstream.requests) == 5
    upstream.script(Reply.chat("Fine"))
    assert create(api)["output_text"] == "Fine"


def test_a_reasoning_model_that_breaks_keeps_its_thoughts(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-45: what was said stays, as incomplete."""
    upstream.script(Reply(body=[sse(chunk(reasoning_content="Hm")), HELLO, 0.05, "cut"]))
    final = events(ask(api, stream=True).text)[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"][1]["status"] == "incomplete"


def test_whole_answers_after_all_this(api: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=[HELLO, STOP, DONE]))
    assert create(api)["output_text"] == "Hello"
