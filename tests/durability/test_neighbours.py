"""Processes on one database that do each other no harm (R-59, R-70)."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, Background, live_events, path_of, slowly
from tests.api.talk import client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.durability.verdict import assert_sound
from tests.durability.watching import Json
from tests.live import CHAT_TOML, serve, work

#: Seconds.
LEASE: Final = 2.0
LOCK: Final = 4.0
JOBS: Final = 4
HI: Final[Json] = {"model": "m", "input": "Hi"}
WORDS: Final = tuple("0123456789ab")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def owners_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Who makes what, and which attempt that is."""
    question = "SELECT id, owner, attempt FROM responses"
    with closing(sqlite3.connect(folder / "antiphon.db")) as database:
        return {id_: (owner, attempt) for id_, owner, attempt in database.execute(question)}


def test_nobody_dies_of_a_lock(tmp_path: Path, upstream: ChatUpstream, stack: ExitStack) -> None:
    """R-70: a lock that lasts twice a lease silences everybody, and so it says nothing."""
    upstream.script(slowly(*WORDS, pause=0.6))
    env = {"ANTIPHON_LEASE": str(LEASE), "ANTIPHON_BACKGROUND_RUNS": "2"}
    server = stack.enter_context(serve(tmp_path, CHAT_TOML.format(base_url=upstream.base_url), env))
    stack.enter_context(work(tmp_path, env=env))
    client = stack.enter_context(client_of(server, timeout=40))
    jobs = Background(client)
    with ThreadPoolExecutor(1) as pool:
        ids = [jobs.start() for _ in range(JOBS)]
        streaming = pool.submit(client.post, "/v1/responses", json={**HI, "stream": True})
        for id_ in ids:
            jobs.say(id_, "0")
        before = owners_of(tmp_path)
        assert len({before[id_][0] for id_ in ids}) == 2, "both are at work"
        with closing(sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            time.sleep(LOCK)
            outsider.execute("ROLLBACK")
        final = assert_valid_log(events(streaming.result().text))
    assert (final["status"], final["output_text"]) == ("completed", "".join(WORDS))
    for id_ in ids:
        assert jobs.reach(id_, "completed")["output_text"] == "".join(WORDS)
        assert owners_of(tmp_path)[id_] == before[id_]
    assert len(upstream.requests) == JOBS + 1
    assert "owner_" not in server.log()
    assert_sound(tmp_path)


def test_delete_at_another_server_stops_a_stream(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """R-59: the upstream is left within a second, and who reads is told."""
    upstream.script(Reply(body=[sse(chunk(content="Hello")), "stall"]))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    first, second = (stack.enter_context(serve(tmp_path, toml)) for _ in range(2))
    maker, other = (stack.enter_context(client_of(each)) for each in (first, second))
    with maker.stream("POST", "/v1/responses", json={**HI, "stream": True}) as reply:
        reading = live_events(reply.iter_lines())
        seen = [next(reading) for _ in range(5)]
        id_ = seen[0]["response"]["id"]
        assert other.delete(path_of(id_)).status_code == 200
        assert upstream.requests[0].left.wait(1.0)
        final = assert_valid_log([*seen, *reading])
    assert final["status"] == "failed"
    assert maker.get(path_of(id_)).status_code == 404
    # And without a stream there is nothing to delete before the end; others are left alone.
    upstream.script(slowly("a", "b", "c", pause=0.4))
    with maker.stream("POST", "/v1/responses", json={**HI, "stream": True}) as reply:
        assert assert_valid_log(list(live_events(reply.iter_lines())))["output_text"] == "abc"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_delete_of_what_somebody_waits_for(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack, elsewhere: bool
) -> None:
    """R-59: a keyed request that is deleted while it runs is answered with an error that SDKs do
    not try again, wherever the DELETE came from."""
    upstream.script(ENDLESS, Reply.chat("Again"))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    first, second = (stack.enter_context(serve(tmp_path, toml)) for _ in range(2))
    maker, other = (stack.enter_context(client_of(each)) for each in (first, second))
    headers = {"idempotency-key": "k"}
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(maker.post, "/v1/responses", json=HI, headers=headers)
        while not (running := owners_of(tmp_path)):
            time.sleep(0.05)
        (id_,) = running
        time.sleep(0.3)
        assert (other if elsewhere else maker).delete(path_of(id_)).status_code == 200
        reply = posting.result(5)
    assert upstream.requests[0].left.wait(1.0)
    assert reply.status_code == 500
    assert reply.headers["x-should-retry"] == "false"
    assert "deleted" in error_of(reply)["message"]
    assert len(upstream.requests) == 1


def test_a_stream_whose_log_is_gone(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """R-79: its replay is refused, never empty."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    server = stack.enter_context(serve(tmp_path, toml))
    client = stack.enter_context(client_of(server))

    def ask() -> tuple[int, str]:
        reply = client.post(
            "/v1/responses", json={**HI, "stream": True}, headers={"idempotency-key": "k"}
        )
        return reply.status_code, reply.text

    first = ask()
    assert ask() == first
    with closing(sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)) as database:
        database.execute("UPDATE responses SET log_until = 1")
    status, text = ask()
    assert status == 400
    assert "no longer kept" in text
    assert len(upstream.requests) == 1
