"""The queue and its limit, retention, signs of life, and the store that keeps nothing (spec §4.4;
reliability R-64, R-116, R-137)."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from antiphon.testing import assert_valid_beginning, assert_valid_log
from tests.api.background import DONE_ONLY, ENDLESS, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import Json, client_of, create, error_of, events, open_events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve


@contextlib.contextmanager
def background(server: LiveServer) -> Iterator[Background]:
    with client_of(server) as client:
        yield Background(client)


# -- a server that accepts work and does none ----------------------------------------------------


@pytest.fixture
def waiting(tmp_path: Path, upstream: ChatUpstream) -> Iterator[LiveServer]:
    """Three may wait here, for a worker that never comes."""
    env = {
        "ANTIPHON_BACKGROUND_RUNS": "0",
        "ANTIPHON_QUEUE_LIMIT": "3",
        "ANTIPHON_HEARTBEAT": "0.2",
    }
    with serve(tmp_path, CHAT_TOML.format(base_url=upstream.base_url), env) as live:
        yield live


def rows_of(server: LiveServer) -> int:
    with contextlib.closing(sqlite3.connect(server.folder / "antiphon.db")) as database:
        count: int = database.execute("SELECT count(*) FROM responses").fetchone()[0]
        return count


def test_a_full_queue_turns_away(waiting: LiveServer, upstream: ChatUpstream) -> None:
    """R-116: 429 with Retry-After, nothing stored, nothing of the others lost."""
    with background(waiting) as jobs:
        made = [jobs.start(input=f"{n}") for n in range(3)]
        before = rows_of(waiting)
        for stream in (False, True):
            body = {"model": "m", "input": "Hi", "background": True, "stream": stream}
            reply = jobs.client.post("/v1/responses", json=body)
            assert reply.status_code == 429
            assert int(reply.headers["retry-after"]) > 0
            error = error_of(reply)
            assert error["code"] == "rate_limit_exceeded"
        assert rows_of(waiting) == before == 3
        assert {jobs.get(id_)["status"] for id_ in made} == {"queued"}
        assert create(jobs.client)["status"] == "completed", "the foreground is not concerned"
        assert jobs.client.post(f"{path_of(made[0])}/cancel").json()["status"] == "cancelled"
        made.append(jobs.start(input="3"))
        jobs.client.delete(path_of(made[1]))
        jobs.start(input="4")
    assert len(upstream.requests) == 1


def test_what_is_queued_can_be_seen(waiting: LiveServer) -> None:
    with background(waiting) as jobs:
        made = jobs.start(input="one", instructions="Be kind.")
        shown = jobs.get(made)
        assert (shown["status"], shown["output"], shown["instructions"]) == (
            "queued",
            [],
            "Be kind.",
        )
        items = jobs.client.get(f"{path_of(made)}/input_items").json()
        assert [item["content"][0]["text"] for item in items["data"]] == ["one"]
        child = {"model": "m", "input": "Hi", "previous_response_id": made}
        reply = jobs.client.post("/v1/responses", json=child)
        assert reply.status_code == 400
        assert error_of(reply)["param"] == "previous_response_id"
        with jobs.reading(made) as found:
            log = [next(found), next(found)]
        assert [event["type"] for event in log] == ["response.created", "response.queued"]
        assert {event["response"]["status"] for event in log} == {"queued"}


@pytest.mark.parametrize("stream", [False, True], ids=["polled", "streamed"])
def test_a_queued_response_is_cancelled(waiting: LiveServer, stream: bool) -> None:
    """R-58: nobody makes it, its readers come to the end, it cannot be begun any more."""
    with background(waiting) as jobs:
        if stream:
            with jobs.posting() as found:
                log = [next(found), next(found)]
                made = log[0]["response"]["id"]
                with client_of(waiting) as second:
                    shown = second.post(f"{path_of(made)}/cancel").json()
                log += list(found)
        else:
            made = jobs.start()
            shown = jobs.client.post(f"{path_of(made)}/cancel").json()
            log = jobs.log(made)
        assert_valid_beginning(log)
        assert [event["type"] for event in log] == ["response.created", "response.queued"]
        assert (shown["status"], shown["output"]) == ("cancelled", [])
        assert jobs.get(made) == shown
        assert jobs.stream(made, starting_after=1) == DONE_ONLY


def test_what_waits_is_made_by_the_next_server(tmp_path: Path, upstream: ChatUpstream) -> None:
    """R-65, R-116: first come, first served; what was cancelled is not made."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    with serve(tmp_path, toml, {"ANTIPHON_BACKGROUND_RUNS": "0"}) as live, background(live) as jobs:
        made = [jobs.start(input=f"{n}") for n in range(5)]
        jobs.client.post(f"{path_of(made[2])}/cancel")
    with serve(tmp_path, toml, {"ANTIPHON_BACKGROUND_RUNS": "1"}) as live, background(live) as jobs:
        statuses = [jobs.log(id_)[-1]["type"] for id_ in made]
        assert jobs.get(made[2])["status"] == "cancelled"
    assert statuses == [
        *["response.completed"] * 2,
        "response.queued",
        *["response.completed"] * 2,
    ]
    asked = [request.json["messages"][0]["content"] for request in upstream.requests]
    assert asked == ["0", "1", "3", "4"]


def test_no_more_are_made_at_once_than_may(tmp_path: Path, upstream: ChatUpstream) -> None:
    """R-116: the others wait their turn."""
    upstream.script(ENDLESS)
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    with serve(tmp_path, toml, {"ANTIPHON_BACKGROUND_RUNS": "2"}) as live, background(live) as jobs:
        made = [jobs.start() for _ in range(4)]
        assert eventually(lambda: len(upstream.requests) == 2)
        time.sleep(0.3)
        assert len(upstream.requests) == 2
        assert [jobs.get(id_)["status"] for id_ in made] == [
            "in_progress",
            "in_progress",
            "queued",
            "queued",
        ]
        jobs.client.post(f"{path_of(made[0])}/cancel")
        assert eventually(lambda: len(upstream.requests) == 3)
        jobs.client.delete(path_of(made[1]))
        assert eventually(lambda: len(upstream.requests) == 4)
        jobs.forget()


# -- signs of life -------------------------------------------------------------------------------


def test_a_quiet_run_gives_signs_of_life(tmp_path: Path, upstream: ChatUpstream) -> None:
    """Design §5: comments for each reader, events in the log: each once, for all the same."""
    upstream.script(slowly("Hel", "lo", pause=1.2))
    env = {"ANTIPHON_HEARTBEAT": "0.1", "ANTIPHON_EVENT_HEARTBEAT": "0.3"}
    with (
        serve(tmp_path, CHAT_TOML.format(base_url=upstream.base_url), env) as live,
        background(live) as jobs,
    ):
        made = jobs.start()
        text = jobs.stream(made)
        assert text.count(": ping\n\n") >= 4
        log = events(text)
        assert_valid_log(log)
        beats = [event for event in log[3:] if event["type"] == "response.in_progress"]
        assert 2 <= len(beats) <= 8
        assert {beat["response"]["output_text"] for beat in beats} == {"Hel", "Hello"}
        assert jobs.log(made) == log


def test_a_reader_of_what_is_queued_gets_comments_only(waiting: LiveServer) -> None:
    with background(waiting) as jobs, client_of(waiting) as client:
        made = jobs.start()
        with client.stream("GET", path_of(made), params={"stream": "true"}) as reply:
            text = ""
            for piece in reply.iter_text():
                text += piece
                if text.count(": ping\n\n") == 3:
                    break
        assert [event["type"] for event in open_events(text)] == [
            "response.created",
            "response.queued",
        ]


# -- how long things are kept --------------------------------------------------------------------


def test_unstored_is_kept_ten_minutes_after_its_end(tmp_path: Path, upstream: ChatUpstream) -> None:
    """Spec §1: long enough to be polled."""
    with (
        serve(tmp_path, CHAT_TOML.format(base_url=upstream.base_url)) as live,
        background(live) as jobs,
    ):
        made = jobs.start(store=False)
        final = jobs.reach(made, "completed")
        assert final["store"] is False
        database = sqlite3.connect(tmp_path / "antiphon.db")
        with contextlib.closing(database):
            query = "SELECT expires_at FROM responses WHERE id = ?"
            (expires,) = database.execute(query, [made]).fetchone()
            assert abs(expires - final["completed_at"] - 600) <= 2
            database.execute("UPDATE responses SET expires_at = ?", [int(time.time())])
            database.commit()
        for suffix in ("", "?stream=true", "/input_items"):
            assert jobs.client.get(path_of(made) + suffix).status_code == 404


def test_the_events_can_be_gone_before_the_response(tmp_path: Path, upstream: ChatUpstream) -> None:
    """The setting `event_log_hours`."""
    env = {"ANTIPHON_EVENT_LOG_HOURS": "0.0004"}
    with (
        serve(tmp_path, CHAT_TOML.format(base_url=upstream.base_url), env) as live,
        background(live) as jobs,
    ):
        made = jobs.start()
        final = jobs.reach(made, "completed")

        def replay() -> httpx2.Response:
            return jobs.client.get(path_of(made), params={"stream": "true"})

        assert eventually(lambda: replay().status_code == 400, 5)
        error = error_of(replay())
        assert error["param"] == "stream"
        assert "no longer kept" in error["message"]
        assert jobs.get(made) == final
        assert create(jobs.client, previous_response_id=made)["status"] == "completed"


# -- the store that keeps nothing ----------------------------------------------------------------


@pytest.fixture(scope="module")
def forgetful(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    env = {"ANTIPHON_DATABASE_URL": "memory://"}
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    with serve(tmp_path_factory.mktemp("memory"), toml, env) as live:
        yield live


def test_all_of_it_works_in_memory(forgetful: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(slowly(*"abcd", pause=0.05), ENDLESS, ENDLESS, Reply.chat("More"))
    with background(forgetful) as jobs:
        seen: list[Json] = []
        with jobs.posting() as found:
            for event in found:
                seen.append(event)
                if event.get("delta") == "b":
                    break
        made = seen[0]["response"]["id"]
        rest = jobs.log(made, starting_after=seen[-1]["sequence_number"])
        final = assert_valid_log(seen + rest)
        assert jobs.get(made) == final
        assert jobs.log(made) == seen + rest

        cancelled = jobs.start()
        jobs.say(cancelled, "Hello")
        shown = jobs.client.post(f"{path_of(cancelled)}/cancel").json()
        assert (shown["status"], shown["output_text"]) == ("cancelled", "Hello")
        assert_valid_beginning(jobs.log(cancelled))

        deleted = jobs.start()
        jobs.say(deleted, "Hello")
        assert jobs.client.delete(path_of(deleted)).status_code == 200
        assert jobs.client.get(path_of(deleted)).status_code == 404
        assert all(request.left.wait(1) for request in upstream.requests[1:3])

        child = jobs.start(store=False, previous_response_id=made)
        assert jobs.reach(child, "completed")["output_text"] == "More"
