"""Routes over real sockets: fallbacks, weights, limits, who answered, recovery (R-40, R-50, R-51;
issue 7/8, must show 4)."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import client_of, create, events
from tests.backends.upstream import DONE, ChatUpstream, Reply, chunk, sse
from tests.live import LiveServer, serve

TOML: Final = """
[[backends]]
name = "first"
kind = "chat_completions"
base_url = "{first}"
models = ["only-first"]
max_retries = 0
first_byte_timeout = 1
breaker_failures = 3
breaker_cool_down = 0.5

[[backends]]
name = "second"
kind = "chat_completions"
base_url = "{second}"
models = ["only-second"]
max_concurrency = 4
first_byte_timeout = 3

[[routes]]
model = "m"
targets = [{{ backend = "first", model = "real" }}]
fallbacks = ["second"]
first_byte_timeout = 4

[[routes]]
model = "shared-*"
targets = [{{ backend = "first", weight = 3 }}, "second"]
"""

#: The first one would fetch images itself, and takes no sounds.
DEAF: Final = """
[[backends]]
name = "deaf"
kind = "responses"
base_url = "{first}"
profile = "openai"

[[backends]]
name = "inline"
kind = "chat_completions"
base_url = "{second}"
profile = "lmstudio"

[[routes]]
model = "m"
targets = ["deaf"]
fallbacks = ["inline"]
"""


@pytest.fixture
def second() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        server.script(Reply.chat("Hello ", "from ", "second"))
        yield server


@pytest.fixture
def live(tmp_path: Path, upstream: ChatUpstream, second: ChatUpstream) -> Iterator[LiveServer]:
    upstream.script(Reply.chat("Hello ", "from ", "first"))
    toml = TOML.format(first=upstream.base_url, second=second.base_url)
    with serve(tmp_path, toml) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def text_of(response: Any) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


def ask(api: httpx2.Client, model: str = "m", **body: Any) -> tuple[str, str]:
    """What was said, and who has said it."""
    reply = api.post("/v1/responses", json={"model": model, "input": "Hi", **body})
    assert reply.status_code == 200, reply.text
    who = reply.headers["x-antiphon-backend"]
    if body.get("stream"):
        said = events(reply.text)
        deltas = [event["delta"] for event in said if event["type"].endswith("text.delta")]
        final = said[-1]["response"]
        assert text_of(final) == "".join(deltas)
        return "".join(deltas), who
    return text_of(reply.json()), who


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        Reply.json({"error": {"message": "x"}}, 500),
        Reply.json({"error": {"message": "x"}}, 429),
        Reply.json({"error": {"message": "x"}}, 401),
        Reply.json({"error": {"message": "x"}}, 404),
        Reply(200, [b"<html>"], {"content-type": "text/html"}),
        Reply(body=["cut"], raw=True),
    ],
    ids=["500", "429", "401", "404", "web page", "reset"],
)
def test_a_failure_before_the_first_byte_is_made_good(
    api: httpx2.Client, upstream: ChatUpstream, second: ChatUpstream, fault: Reply, *, stream: bool
) -> None:
    upstream.script(fault)
    assert ask(api, stream=stream) == ("Hello from second", "second")
    assert [request.json["model"] for request in upstream.requests] == ["real"]
    assert [request.json["model"] for request in second.requests] == ["m"]


def test_without_trouble_only_the_first_is_asked(api: httpx2.Client, second: ChatUpstream) -> None:
    assert ask(api) == ("Hello from first", "first")
    assert second.requests == []
    assert ask(api, "only-second") == ("Hello from second", "second")


def test_what_has_begun_is_not_said_again(
    api: httpx2.Client, upstream: ChatUpstream, second: ChatUpstream
) -> None:
    upstream.script(Reply(body=[sse(chunk(content="Hel")), "cut"]))
    reply = api.post("/v1/responses", json={"model": "m", "input": "Hi", "stream": True})
    said = events(reply.text)
    assert said[-1]["type"] == "response.failed"
    assert text_of(said[-1]["response"]) == "Hel"
    assert reply.headers["x-antiphon-backend"] == "first"
    assert second.requests == []


def test_the_clients_mistake_is_told_at_once(
    api: httpx2.Client, upstream: ChatUpstream, second: ChatUpstream
) -> None:
    upstream.script(Reply.json({"error": {"message": "x", "param": "temperature"}}, 400))
    reply = api.post("/v1/responses", json={"model": "m", "input": "Hi"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "temperature")
    assert second.requests == []


def test_files_are_for_the_one_that_takes_the_request(
    tmp_path: Path, upstream: ChatUpstream, second: ChatUpstream
) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    image = {"type": "input_image", "image_url": "http://127.0.0.1:1/x.png"}
    said = [{"role": "user", "content": [sound, image]}]
    toml = DEAF.format(first=upstream.base_url, second=second.base_url)
    with serve(tmp_path, toml) as live, client_of(live) as api:
        reply = api.post("/v1/responses", json={"model": "m", "input": said})
    assert reply.json()["error"]["message"].startswith("The URL cannot be requested")
    assert (reply.status_code, second.requests) == (400, [])


def test_a_tool_loop_and_a_job_go_on_elsewhere(
    api: httpx2.Client, upstream: ChatUpstream, second: ChatUpstream
) -> None:
    """The next turns ask the one that has answered."""
    upstream.script(Reply.json({"error": {"message": "x"}}, 500))
    query = {"call": {"path": "x"}}
    second.script(Reply.calls(("f", query)), Reply.chat("Done"))
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    first = create(api, tools=tools)
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
    done = create(api, input=[result], previous_response_id=first["id"], background=True)
    until = time.monotonic() + 10
    while done["status"] in ("queued", "in_progress"):
        assert time.monotonic() < until
        time.sleep(0.02)
        done = api.get(f"/v1/responses/{done['id']}").json()
    assert text_of(done) == "Done"


def test_weights(api: httpx2.Client) -> None:
    """And what belongs together goes to one place."""
    counts = Counter(ask(api, "shared-x")[1] for _ in range(80))
    assert counts["first"] > counts["second"] > 0
    for key in ("a", "b"):
        assert len({ask(api, "shared-x", prompt_cache_key=key)[1] for _ in range(6)}) == 1


def test_so_many_at_a_time(api: httpx2.Client, second: ChatUpstream) -> None:
    """More wait; who waits too long is told to come again."""
    second.script(Reply.chat("a", "b", pause=0.2))
    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda _: ask(api, "only-second")[0], range(8)))
        assert answers == ["ab"] * 8
        assert time.monotonic() - began > 0.75
        second.script(Reply(body=[sse(chunk(content="x")), 4.0, sse(chunk(finish="stop")), DONE]))
        body = {"model": "only-second", "input": "Hi"}
        replies = list(pool.map(lambda _: api.post("/v1/responses", json=body), range(6)))
    assert sorted(reply.status_code for reply in replies) == [200] * 4 + [503] * 2
    assert {reply.headers.get("retry-after") for reply in replies if reply.status_code == 503} == {
        "1"
    }


def test_the_state_of_backends_is_told(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-138, R-122: counted where everybody may look, named in the metrics."""
    ready = live.root_url + "/health/ready"
    assert httpx2.get(ready).json()["backends"] == {"ok": 3, "resting": 0}
    upstream.script(Reply.json({"error": {"message": "x"}}, 500))
    for _ in range(3):
        ask(api)
    upstream.script(Reply.chat("x"))
    reply = httpx2.get(ready)
    assert (reply.status_code, reply.json()["backends"]) == (200, {"ok": 2, "resting": 1})
    metrics = api.get("/metrics").text
    assert 'antiphon_backend_resting{backend="first"} 1.0' in metrics
    assert 'antiphon_backend_calls_total{backend="first",outcome="failed"} 3.0' in metrics
    assert 'antiphon_backend_calls_total{backend="second",outcome="ok"} 3.0' in metrics
    time.sleep(0.6)
    ask(api)
    assert 'antiphon_backend_resting{backend="first"} 0.0' in api.get("/metrics").text


def test_nothing_is_lost_or_said_twice_under_faults(
    api: httpx2.Client, upstream: ChatUpstream, second: ChatUpstream
) -> None:
    """The first one fails as it likes, dies, and comes back."""
    chance = random.Random(7)
    whole = Reply.chat("Hello ", "from ", "first")
    faults = [
        Reply.json({"error": {"message": "x"}}, 500),
        Reply.json({"error": {"message": "x"}}, 429),
        Reply.json({"error": {"message": "x"}}, 503),
        Reply(200, [b"{}"], {"content-type": "application/json"}),
        Reply(body=["cut"], raw=True),
        whole,
        whole,
    ]
    upstream.script(*(chance.choice(faults) for _ in range(200)), faults[0])
    with ThreadPoolExecutor(8) as pool:
        streams = itertools.cycle([True, False])
        answers = list(pool.map(lambda s: ask(api, stream=s), itertools.islice(streams, 150)))
    assert {(text, who) for text, who in answers} == {
        ("Hello from first", "first"),
        ("Hello from second", "second"),
    }
    assert len(second.requests) == sum(who == "second" for _, who in answers)
    upstream.script(faults[0])
    assert {ask(api)[1] for _ in range(10)} == {"second"}
    asked = len(upstream.requests)
    assert [ask(api)[1] for _ in range(10)] == ["second"] * 10
    assert len(upstream.requests) <= asked + 1, "its breaker is open"
    upstream.script(whole)
    until = time.monotonic() + 5
    while ask(api)[1] != "first":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [ask(api)[1] for _ in range(5)] == ["first"] * 5


def test_chat_completions_go_to_the_first_place_of_a_route(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Under the name that the model has there."""
    body = {"model": "m", "messages": []}
    reply = api.post("/v1/chat/completions", json=body)
    assert (reply.status_code, reply.headers["x-antiphon-backend"]) == (200, "first")
    assert upstream.requests[0].json["model"] == "real"
    long = api.post("/v1/chat/completions", json={**body, "model": "x" * 100_000})
    assert (long.status_code, long.json()["error"]["code"]) == (400, "model_not_found")
    assert len(long.text) < 1_000
