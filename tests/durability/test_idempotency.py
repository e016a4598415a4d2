"""Idempotency-Key over HTTP: one request, one run, one answer (R-79 to R-82)."""

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, HELLO, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.durability.watching import Json, client_at
from tests.live import CHAT_TOML, OTHER_KEY, LiveServer, serve

HI: Final[Json] = {"model": "m", "input": "Hi"}
_numbers = itertools.count()


@pytest.fixture
def key() -> str:
    """One that nobody has used."""
    return f"key {next(_numbers)}"


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(server) as client:
        yield client


def ask(client: httpx2.Client, key: str, **body: object) -> httpx2.Response:
    return client.post("/v1/responses", json={**HI, **body}, headers={"idempotency-key": key})


def is_replayed(reply: httpx2.Response) -> bool:
    """Whether the answer says that it was made for an earlier request."""
    assert reply.status_code == 200, reply.text
    said = reply.headers.get("idempotent-replayed")
    assert said in (None, "true")
    return said == "true"


# -- twins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_ten_at_once_are_one(
    server: LiveServer, upstream: ChatUpstream, key: str, stream: bool, background: bool
) -> None:
    """R-81: one call of the upstream; nine answers say that they are replays."""
    upstream.script(slowly("a", "b", pause=0.15))

    async def twins() -> list[httpx2.Response]:
        async with client_at(server.base_url) as client:
            body = {**HI, "stream": stream, "background": background}
            headers = {"idempotency-key": key}
            posts = (client.post("/responses", json=body, headers=headers) for _ in range(10))
            return await asyncio.gather(*posts)

    replies = asyncio.run(twins())
    assert sorted(map(is_replayed, replies)) == [False] + [True] * 9
    if stream:
        assert len({reply.content for reply in replies}) == 1
        final = assert_valid_log(events(replies[0].text))
        assert final["output_text"] == "ab"
    elif background:
        assert len({reply.json()["id"] for reply in replies}) == 1
    else:
        assert len({reply.content for reply in replies}) == 1
        assert replies[0].json()["output_text"] == "ab"
    with client_of(server) as client:
        jobs = Background(client)
        id_ = replies[0].json()["id"] if not stream else final["id"]
        assert jobs.reach(id_, "completed")["output_text"] == "ab"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("store", [True, False])
def test_the_same_answer_later(
    client: httpx2.Client, upstream: ChatUpstream, key: str, store: bool
) -> None:
    """R-79: byte for byte; also of what is not stored, which nobody else can see."""
    first = ask(client, key, store=store)
    again = ask(client, key, store=store)
    assert [is_replayed(first), is_replayed(again)] == [False, True]
    assert first.content == again.content
    assert len(upstream.requests) == 1
    found = client.get(path_of(first.json()["id"])).status_code
    assert found == (200 if store else 404)


def test_who_comes_while_it_runs_waits_for_the_same(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """R-79, R-81: and it runs on when the first one leaves, who will come back for it."""
    upstream.script(slowly("a", "b", "c", pause=0.4))
    with (
        pytest.raises(httpx2.ReadTimeout),
        client_of(server, timeout=0.5) as hasty,
    ):
        ask(hasty, key)
    second = ask(client, key)
    assert is_replayed(second)
    assert second.json()["output_text"] == "abc"
    assert len(upstream.requests) == 1


def test_a_stream_is_attached_to_from_its_start(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """R-79: the same events for the one that left, for one that comes while it runs, and later."""
    upstream.script(slowly("a", "b", "c", pause=0.3))
    headers = {"idempotency-key": key}
    body = {**HI, "stream": True}
    with client.stream("POST", "/v1/responses", json=body, headers=headers) as reply:
        lines = reply.iter_lines()
        beginning = [next(lines) for _ in range(12)]
    during = ask(client, key, stream=True)
    after = ask(client, key, stream=True)
    assert is_replayed(during)
    assert is_replayed(after)
    assert during.content == after.content
    assert during.text.split("\n")[: len(beginning)] == beginning
    assert assert_valid_log(events(during.text))["output_text"] == "abc"
    assert len(upstream.requests) == 1


# -- other bodies, other people --------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"input": "Ho"}, {"stream": True}, {"background": True}])
def test_another_body_is_refused(
    client: httpx2.Client, upstream: ChatUpstream, key: str, change: Json
) -> None:
    """R-80: 422, because SDKs would try a 409 again."""
    assert not is_replayed(ask(client, key))
    reply = ask(client, key, **change)
    assert reply.status_code == 422
    assert error_of(reply)["code"] == "idempotency_key_reused"
    assert len(upstream.requests) == 1


def test_another_body_is_refused_while_the_first_runs(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    upstream.script(ENDLESS)
    made = ask(client, key, background=True).json()
    assert ask(client, key, background=True, input="Ho").status_code == 422
    assert client.delete(path_of(made["id"])).status_code == 200


def test_the_order_of_a_body_does_not_matter(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    headers = {"idempotency-key": key, "content-type": "application/json"}
    bodies = (b'{"model":"m","input":"Hi"}', b'{ "input": "Hi", "model": "m" }')
    first, second = (client.post("/v1/responses", content=body, headers=headers) for body in bodies)
    assert [is_replayed(first), is_replayed(second)] == [False, True]


def test_another_project_has_its_own_keys(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """R-33, R-79."""
    mine = ask(client, key)
    with client_of(server, OTHER_KEY) as other:
        theirs = ask(other, key, input="Theirs")
        assert not is_replayed(theirs)
        assert is_replayed(ask(other, key, input="Theirs"))
    assert theirs.json()["id"] != mine.json()["id"]
    assert ask(client, key).content == mine.content
    assert len(upstream.requests) == 2


# -- what is not remembered ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_frees_the_key(
    client: httpx2.Client, upstream: ChatUpstream, key: str, stream: bool
) -> None:
    """R-82: nothing was said but an error; the same key works when the upstream does."""
    upstream.script(Reply.json({"error": {"message": "no"}}, 400), Reply.chat("Well"))
    refused = ask(client, key, stream=stream)
    assert refused.status_code >= 400
    reply = ask(client, key, stream=stream)
    assert not is_replayed(reply)
    assert "Well" in reply.text
    assert len(upstream.requests) == 2


def test_a_stream_that_failed_is_what_was_answered(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """R-79: it was a 200, so it is replayed as it was."""
    upstream.script(Reply(body=[HELLO, 0.2, "cut"]), Reply.chat("Well"))
    first, again = (ask(client, key, stream=True) for _ in range(2))
    assert [is_replayed(first), is_replayed(again)] == [False, True]
    assert first.content == again.content
    assert assert_valid_log(events(first.text))["status"] == "failed"
    assert len(upstream.requests) == 1


def test_what_is_wrong_with_a_request_is_not_recorded(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    """R-82."""
    assert ask(client, key, temperature=9).status_code == 400
    assert ask(client, key, previous_response_id="resp_" + "0" * 48).status_code == 400
    assert not is_replayed(ask(client, key))


def test_who_waits_for_a_run_that_fails_is_told(
    server: LiveServer, upstream: ChatUpstream, key: str
) -> None:
    """R-81: twins of a failure get an error as well, and may all try again."""
    upstream.script(Reply(body=[0.5, "cut"]), Reply.chat("Well"))

    async def twins() -> list[int]:
        async with client_at(server.base_url) as client:
            headers = {"idempotency-key": key}
            posts = (client.post("/responses", json=HI, headers=headers) for _ in range(4))
            return [reply.status_code for reply in await asyncio.gather(*posts)]

    first = asyncio.run(twins())
    assert all(status >= 500 for status in first), first
    with client_of(server) as client:
        assert ask(client, key).json()["output_text"] == "Well"


def test_a_deleted_response_frees_the_key(
    client: httpx2.Client, upstream: ChatUpstream, key: str
) -> None:
    first = ask(client, key).json()
    assert client.delete(path_of(first["id"])).status_code == 200
    again = ask(client, key)
    assert not is_replayed(again)
    assert again.json()["id"] != first["id"]


@pytest.mark.parametrize(
    "headers",
    [
        [("idempotency-key", "")],
        [("idempotency-key", "x" * 256)],
        [("idempotency-key", "a\tb")],
        [("idempotency-key", "ä".encode())],
        [("idempotency-key", "a"), ("idempotency-key", "b")],
    ],
    ids=["empty", "long", "tab", "not ascii", "twice"],
)
def test_the_bounds_of_a_key(
    client: httpx2.Client, upstream: ChatUpstream, headers: list[tuple[str, str]]
) -> None:
    """R-79: 1 to 255 printable ASCII characters, once."""
    reply = client.post("/v1/responses", json=HI, headers=headers)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == "Idempotency-Key"
    assert upstream.requests == []
    assert not is_replayed(ask(client, "y" * 250 + f"{next(_numbers):05d}"))


# -- after a kill ----------------------------------------------------------------------------------


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_keys_after_a_kill(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack, key: str
) -> None:
    """R-82: what was answered is replayed, what runs in the background is gone on with, and a
    foreground run that died frees its key."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    live = stack.enter_context(serve(tmp_path, toml))
    upstream.script(Reply.chat("Done"), ENDLESS, ENDLESS, Reply.chat("Later"))
    with client_of(live) as client:
        done = ask(client, key)
        running = ask(client, key + "b", background=True).json()
        assert eventually(lambda: len(upstream.requests) == 2)
        posting = client.stream(
            "POST",
            "/v1/responses",
            json={**HI, "stream": True},
            headers={"idempotency-key": key + "f"},
        )
        with posting as reply:
            assert "response.created" in next(reply.iter_lines())
            live.kill()
    live = stack.enter_context(serve(tmp_path, toml))
    with client_of(live) as client:
        again = ask(client, key)
        assert is_replayed(again)
        assert again.content == done.content
        twin = ask(client, key + "b", background=True)
        assert is_replayed(twin)
        assert twin.json()["id"] == running["id"]
        assert Background(client).reach(running["id"], "completed")["output_text"] == "Later"
        fresh = ask(client, key + "f", stream=True)
        assert not is_replayed(fresh)
        assert assert_valid_log(events(fresh.text))["output_text"] == "Later"
    with closing(sqlite3.connect(tmp_path / "antiphon.db")) as database:
        rows = database.execute("SELECT status, count(*) FROM responses GROUP BY status").fetchall()
    assert dict(rows) == {"completed": 3, "failed": 1}
