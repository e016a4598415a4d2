"""A server and workers on one database: take-over, cancel, streams, DELETE (issue 2/8, no. 2).

The server makes nothing itself: whatever the upstream sees comes from a worker.
"""

import fcntl
import itertools
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, HELLO, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import client_of
from tests.backends.upstream import ChatUpstream, Reply, Step
from tests.live import CHAT_TOML, LiveProgram, LiveServer, serve, work

#: Seconds.
LEASE: Final = 2.0
ENV: Final = {"ANTIPHON_LEASE": str(LEASE), "ANTIPHON_EVENT_HEARTBEAT": "60"}


class House:
    """One server, and the workers that live now."""

    def __init__(self, folder: Path, toml: str) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self.serve(toml)
        self.worker = self.one_more()

    def serve(self, toml: str | None = None) -> None:
        """Start a server; the one before is dead."""
        env = {**ENV, "ANTIPHON_BACKGROUND_RUNS": "0"}
        self.server: LiveServer = self._stack.enter_context(serve(self.folder, toml, env))
        self.jobs = Background(self._stack.enter_context(client_of(self.server)))

    def one_more(self) -> LiveProgram:
        """Another worker, which works when this returns."""
        return self._stack.enter_context(work(self.folder, env=ENV))

    def freeze(self) -> None:
        """Stop the worker, but not while it has the database for itself: nobody could go on."""
        while True:
            self.worker.process.send_signal(signal.SIGSTOP)
            if self._is_free():
                return
            self.thaw()
            time.sleep(0.05)

    def thaw(self) -> None:
        """Let it run again."""
        self.worker.process.send_signal(signal.SIGCONT)

    def rows_of(self, response_id: str) -> int:
        """How much the store has of a response, but for the sign that it was there."""
        return sum(
            self._count(table, response_id) for table in ("events", "jobs", "idempotency_keys")
        )

    def close(self) -> None:
        """End all."""
        self.thaw()
        self._stack.close()

    def _count(self, table: str, response_id: str) -> int:
        question = f"SELECT count(*) FROM {table} WHERE response_id = ?"  # noqa: S608
        with closing(self._connect()) as database:
            count: int = database.execute(question, (response_id,)).fetchone()[0]
            return count

    def _is_free(self) -> bool:
        with (
            (self.folder / "antiphon.db-writer").open() as turn,
            closing(self._connect()) as database,
        ):
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                database.execute("BEGIN IMMEDIATE")
            except (BlockingIOError, sqlite3.OperationalError):
                return False
            return True

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "antiphon.db", timeout=0.3, isolation_level=None)


@pytest.fixture(scope="module")
def _house(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"), CHAT_TOML.format(base_url=_upstream.base_url))
    yield house
    house.close()


@pytest.fixture
def house(_house: House) -> Iterator[House]:
    """A server that makes nothing, and one worker."""
    yield _house
    _house.jobs.forget()


def asked(upstream: ChatUpstream, times: int, seconds: float = 10.0) -> bool:
    """Whether the upstream was asked so many times within `seconds`."""
    return eventually(lambda: len(upstream.requests) >= times, seconds)


def assert_went_on(house: House, response_id: str, text: str) -> None:
    """It is complete, and its log says that somebody else went on once."""
    body = house.jobs.reach(response_id, "completed")
    log = house.jobs.log(response_id)
    assert assert_valid_log(log) == body
    assert body["output_text"] == text
    assert [event["type"] for event in log].count("response.in_progress") == 2


def test_another_worker_takes_over_from_a_dead_one(house: House, upstream: ChatUpstream) -> None:
    """R-65, R-66; its lock tells at once that it is dead."""
    upstream.script(ENDLESS, Reply.chat("All", " of it"))
    response_id = house.jobs.start()
    house.jobs.say(response_id, "Hello")
    second = house.one_more()
    assert len(upstream.requests) == 1
    house.worker.kill()
    began = time.monotonic()
    house.worker = second
    assert asked(upstream, 2)
    assert time.monotonic() - began < LEASE + 2
    assert_went_on(house, response_id, "All of it")


def late_words(flag: threading.Event) -> Iterator[Step]:
    """Hello; the rest when it is asked for."""
    yield HELLO
    while not flag.is_set():
        yield 0.05
    yield from Reply.chat(" and bye").body


def test_a_frozen_worker_loses_its_lease_and_changes_nothing_afterwards(
    house: House, upstream: ChatUpstream
) -> None:
    """R-57, R-77: no lock can tell that it does not run. When it runs again it has the whole answer
    of the model, and is fenced off."""
    flag = threading.Event()
    upstream.script(Reply(body=late_words(flag)), ENDLESS)
    response_id = house.jobs.start()
    house.jobs.say(response_id, "Hello")
    second = house.one_more()
    house.freeze()
    began = time.monotonic()
    try:
        assert asked(upstream, 2)
        assert LEASE / 4 < time.monotonic() - began < LEASE + 2
        flag.set()
        time.sleep(0.3)
    finally:
        house.thaw()
    time.sleep(1.0)
    assert house.jobs.get(response_id)["status"] == "in_progress"
    assert house.jobs.client.post(path_of(response_id) + "/cancel").json()["status"] == "cancelled"
    replay = house.jobs.stream(response_id)
    assert "and bye" not in replay
    assert replay.count('"type":"response.in_progress"') == 2
    assert replay.count('"delta":"Hello"') == 2
    # It is a worker like any other again, and can be the only one.
    second.stop()
    upstream.script(Reply.chat("More"))
    assert house.jobs.reach(house.jobs.start(), "completed")["output_text"] == "More"


def test_a_cancel_at_the_server_stops_the_call_in_the_worker(
    house: House, upstream: ChatUpstream
) -> None:
    """R-58: within a second, as the upstream sees it."""
    upstream.script(ENDLESS)
    for times in (1, 2, 3):
        response_id = house.jobs.start()
        assert asked(upstream, times)
        if times != 2:
            house.jobs.say(response_id, "Hello")
        began = time.monotonic()
        reply = house.jobs.client.post(path_of(response_id) + "/cancel")
        assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
        assert upstream.requests[-1].left.wait(1.0)
        assert time.monotonic() - began < 1.0
        assert house.jobs.get(response_id) == reply.json()


def test_delete_at_the_server_stops_the_call_in_the_worker(
    house: House, upstream: ChatUpstream
) -> None:
    """R-59: nothing is left, and nothing comes back."""
    upstream.script(ENDLESS)
    response_id = house.jobs.start()
    house.jobs.say(response_id, "Hello")
    client = house.jobs.client
    assert client.delete(path_of(response_id)).status_code == 200
    assert upstream.requests[0].left.wait(1.0)
    assert client.get(path_of(response_id)).status_code == 404
    assert client.delete(path_of(response_id)).status_code == 404
    assert eventually(lambda: house.rows_of(response_id) == 0, 2)
    time.sleep(0.5)
    assert house.rows_of(response_id) == 0
    assert client.get(path_of(response_id)).status_code == 404


def test_the_server_streams_what_the_worker_makes(house: House, upstream: ChatUpstream) -> None:
    """Live, from any event on, and the same for everybody (R-61, R-63)."""
    upstream.script(slowly("a", "b", "c", "d", pause=0.4))
    arrived = []
    with house.jobs.posting() as events:
        log = []
        for event in events:
            log.append(event)
            if event["type"] == "response.output_text.delta":
                arrived.append(time.monotonic())
    assert_valid_log(log)
    gaps = [after - before for before, after in itertools.pairwise(arrived)]
    assert len(gaps) == 3
    assert all(0.2 < gap < 0.8 for gap in gaps), gaps
    response_id = log[0]["response"]["id"]
    assert house.jobs.log(response_id) == log
    assert house.jobs.log(response_id, starting_after=4) == log[5:]


def test_a_dead_server_stops_no_worker(house: House, upstream: ChatUpstream) -> None:
    """And the next server reads on where the reader was."""
    flag = threading.Event()
    upstream.script(Reply(body=late_words(flag)))
    with house.jobs.posting() as events:
        seen = [next(events) for _ in range(6)]
    house.server.kill()
    response_id = seen[0]["response"]["id"]
    house.serve()
    flag.set()
    assert_valid_log(seen + house.jobs.log(response_id, starting_after=5))
    assert len(upstream.requests) == 1
