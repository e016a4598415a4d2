"""``truncation`` over HTTP, before upstreams that count, that do not, and that refuse (spec §1)."""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.background import Background
from tests.api.heavy_bodies import MIB
from tests.api.talk import Json, client_of, create, error_of, events
from tests.api.watch import Waiting
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import LiveServer, serve

TOML: Final = """
[[backends]]
name = "counts"
kind = "chat_completions"
base_url = "{base_url}"
profile = "vllm"
context_window = 1000
models = ["counts"]

[[backends]]
name = "says-nothing"
kind = "chat_completions"
base_url = "{base_url}"
models = ["*"]

[[backends]]
name = "simulator"
kind = "simulator"
context_window = 8000
models = ["simulator"]
"""
TRUNCATED: Final = "x-antiphon-truncated"
LONG: Final = " lorem ipsum" * 100
TOO_LONG: Final = Reply.json({"error": {"message": "x", "code": "context_length_exceeded"}}, 400)
#: Seconds (R-118).
LONGEST_WAIT: Final = 0.1


@pytest.fixture(scope="module")
def small(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server whose models have windows."""
    toml = TOML.format(base_url=_upstream.base_url)
    with serve(tmp_path_factory.mktemp("small"), toml) as live:
        yield live


@pytest.fixture(scope="module")
def asker(small: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(small) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_tokenizer(upstream: ChatUpstream) -> Iterator[None]:
    yield
    upstream.paths.clear()


def talk(turns: int, text: str = LONG) -> list[Json]:
    """Turns 1, 2 …, of a question and an answer."""
    return [
        {"role": role, "content": f"{number}{mark}{text}"}
        for number in range(1, turns + 1)
        for role, mark in (("user", ""), ("assistant", "a"))
    ]


def seen(upstream: ChatUpstream) -> list[list[str]]:
    """The first word of each message of each chat request."""
    return [
        [str(message["content"]).split()[0] for message in request.json["messages"]]
        for request in upstream.requests
        if request.path.endswith("/chat/completions")
    ]


def test_disabled_is_refused_before_the_upstream_is_asked(
    asker: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Its own tokenizer has counted."""
    upstream.paths["/tokenize"] = Reply.json({"count": 1_000})
    for how in ({}, {"stream": True}, {"background": True}, {"truncation": "disabled"}):
        reply = asker.post("/v1/responses", json={"model": "counts", "input": talk(5), **how})
        assert reply.status_code == 400
        error = error_of(reply)
        assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
        assert error["message"].startswith("Your input exceeds the context window of this model.")
    assert seen(upstream) == []


def test_an_estimate_refuses_nothing(asker: httpx2.Client, upstream: ChatUpstream) -> None:
    """There is no tokenizer: the upstream decides."""
    upstream.paths["/tokenize"] = Reply.json({}, 404)
    create(asker, "counts", input=talk(5))
    assert len(seen(upstream)[0]) == 10


@pytest.mark.parametrize("stream", [False, True])
def test_auto_says_in_header_and_body_what_was_dropped(
    asker: httpx2.Client,
    upstream: ChatUpstream,
    stream: bool,
) -> None:
    asked = [{"role": "developer", "content": "rules"}, *talk(12)]
    body = {"model": "counts", "input": asked, "truncation": "auto", "stream": stream}
    reply = asker.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    final = events(reply.text)[-1]["response"] if stream else reply.json()
    (words,) = seen(upstream)
    assert words[0] == "rules"
    first, kept = words[1], len(words)
    assert words[1:] == [f"{n}{mark}" for n in range(int(first), 13) for mark in ("", "a")]
    assert 1 < kept < 25
    items = asker.get(f"/v1/responses/{final['id']}/input_items?limit=100&order=asc").json()["data"]
    id_ = next(item["id"] for item in items if item["content"][0]["text"].split()[0] == first)
    assert final["truncated"] == {"items": 25 - kept, "first_kept_id": id_}
    assert reply.headers[TRUNCATED] == f"items={25 - kept}; first-kept={id_}"
    assert len(items) == 25, "what is stored stays whole"


def test_what_fits_has_no_header(asker: httpx2.Client, upstream: ChatUpstream) -> None:
    body = {"model": "counts", "input": "Hi", "truncation": "auto"}
    reply = asker.post("/v1/responses", json=body)
    assert TRUNCATED not in reply.headers
    assert "truncated" not in reply.json()
    assert seen(upstream) == [["Hi"]]


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_refuses_gets_half_and_half_again(
    asker: httpx2.Client,
    upstream: ChatUpstream,
    stream: bool,
) -> None:
    upstream.script(TOO_LONG, TOO_LONG, Reply.chat("Hello"))
    body = {"model": "m", "input": talk(5), "truncation": "auto", "stream": stream}
    reply = asker.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    final = events(reply.text)[-1]["response"] if stream else reply.json()
    assert [words[0] for words in seen(upstream)] == ["1", "3", "4"]
    assert final["output_text"] == "Hello"
    assert final["truncated"]["items"] == 6
    assert reply.headers[TRUNCATED].startswith("items=6; first-kept=msg_")
    assert final["usage"]["total_tokens"] == 8


@pytest.mark.parametrize("fields", [{}, {"truncation": "auto", "input": talk(1)}])
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_refuses_what_may_not_go(
    asker: httpx2.Client,
    upstream: ChatUpstream,
    fields: dict[str, Any],
    stream: bool,
) -> None:
    """Before the first byte it is a 400, streaming or not."""
    upstream.script(TOO_LONG, Reply.chat("never"))
    body = {"model": "m", "input": talk(5), "stream": stream, **fields}
    reply = asker.post("/v1/responses", json=body)
    assert reply.status_code == 400
    assert error_of(reply)["code"] == "context_length_exceeded"
    assert len(seen(upstream)) == 1


def test_a_chain_is_truncated_turn_by_turn(asker: httpx2.Client, upstream: ChatUpstream) -> None:
    """And nothing of what was not shown is lost: a longer window would show it again."""
    parent: str | None = None
    for number in range(1, 10):
        made = create(
            asker,
            "counts",
            input=f"{number}{LONG}",
            previous_response_id=parent,
            truncation="auto",
            max_output_tokens=16,
        )
        parent = made["id"]
    words = seen(upstream)[-1]
    assert words[-1] == "9"
    assert words[0] != "1"
    create(asker, "m", input="10", previous_response_id=parent)
    assert seen(upstream)[-1] == [*[x for n in range(1, 10) for x in (str(n), "Hello")], "10"]


def test_a_job_is_truncated(asker: httpx2.Client, upstream: ChatUpstream) -> None:
    background = Background(asker)
    upstream.script(TOO_LONG, Reply.chat("Hello"))
    id_ = background.start(input=talk(2), truncation="auto")
    final = background.reach(id_, "completed")
    assert final["truncated"]["items"] == 2
    assert [words[0] for words in seen(upstream)] == ["1", "2"]


@pytest.mark.parametrize("how", ["sent", "chained", "compacted"])
def test_a_history_of_ten_mebibytes_keeps_nobody_waiting(
    how: str, small: LiveServer, asker: httpx2.Client
) -> None:
    """R-118, with a known window: what is dropped has to be measured."""
    history = talk(500, " lorem ipsum dolor sit amet" * 400)
    assert sum(len(item["content"]) for item in history) > 10 * MIB
    body: Json = {"model": "simulator", "input": history, "truncation": "auto"}
    if how == "chained":
        parent = create(asker, "simulator", input=history, truncation="auto")["id"]
        body |= {"previous_response_id": parent, "input": "and?"}
    if how == "compacted":
        body["context_management"] = [{"type": "compaction"}]
    waits = []
    for _ in range(3):
        with Waiting(small) as others:
            reply = asker.post("/v1/responses", json=body)
        assert reply.status_code == 200, reply.text[:500]
        assert how == "compacted" or reply.json()["truncated"]["items"] > 900
        waits.append(others.worst)
        if others.worst < LONGEST_WAIT:
            break
    print(f"{how}: {min(waits) * 1000:.0f} ms")
    assert min(waits) < LONGEST_WAIT
