"""What operators do: a worker, a backup and its restore, limits, figures (R-76, R-115, R-138)."""

import re
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, Background, path_of
from tests.api.command import antiphon
from tests.api.raw import eventually
from tests.api.talk import client_of, create, error_of
from tests.api.test_stalled_readers import in_flight, stalled
from tests.backends.upstream import ChatUpstream
from tests.live import CHAT_TOML, OTHER_KEY, LiveServer, serve, work

SERVER_ONLY: Final = {"ANTIPHON_BACKGROUND_RUNS": "0"}


# -- backup and restore --------------------------------------------------------------------------


def test_a_backup_is_made_while_serving_and_can_be_served(
    tmp_path: Path, upstream: ChatUpstream
) -> None:
    """R-76: everything that was acknowledged before is in it, and what was being made goes on from
    it. These are the steps of docs/deploying.md."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    upstream.script(ENDLESS)
    env = {"ANTIPHON_LEASE": "1"}
    with serve(tmp_path, toml, env) as live, client_of(live) as client, ExitStack() as stack:
        jobs = Background(client)
        running = jobs.start()
        jobs.say(running, "Hello")
        stop = threading.Event()
        load = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(stop.set)
        made = [create(client, "simulator", input=f"{n}") for n in range(50)]
        load.submit(_keep_writing, live, stop)
        done = antiphon(tmp_path, "backup", "copy.db")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"copy\.db: \d+\.\d MiB\n", done.stdout)
        assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0
        again = antiphon(tmp_path, "backup", "copy.db")
        assert (again.returncode, again.stdout) == (2, "")
        stop.set()
        client.delete(path_of(running))
        for response in made:
            client.delete(path_of(response["id"]))

    for name in ("antiphon.db", "antiphon.db-wal", "antiphon.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "antiphon.db")

    with serve(tmp_path, toml, env) as live, client_of(live) as client:
        assert client.get("/health/ready").status_code == 200
        for response in made:
            assert client.get(path_of(response["id"])).json() == response
        jobs = Background(client)
        assert eventually(lambda: len(upstream.requests) == 2, 15), "it goes on"
        assert client.post(path_of(running) + "/cancel").json()["status"] == "cancelled"
        create(client, "simulator", previous_response_id=made[0]["id"])
    assert antiphon(tmp_path, "doctor", "--config", "antiphon.toml").returncode == 0


def _keep_writing(live: LiveServer, stop: threading.Event) -> None:
    with client_of(live) as client:
        while not stop.is_set():
            create(client, "simulator")


# -- worker --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_hands_back_and_leaves(
    tmp_path: Path, upstream: ChatUpstream, sign: signal.Signals
) -> None:
    """R-73: one signal, exit status 0, and another goes on at once."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    upstream.script(ENDLESS, ENDLESS)
    with serve(tmp_path, toml, SERVER_ONLY) as live, client_of(live) as client:
        jobs = Background(client)
        made = jobs.start()
        with work(tmp_path) as first:
            assert eventually(lambda: len(upstream.requests) == 1, 15), first.log()
            began = time.monotonic()
            first.process.send_signal(sign)
            assert first.process.wait(10) == 0
            assert time.monotonic() - began < 3
            assert upstream.requests[0].left.wait(1)
            assert "Traceback" not in first.log()
        with work(tmp_path):
            assert eventually(lambda: len(upstream.requests) == 2, 10)
            jobs.client.post(path_of(made) + "/cancel")
            assert upstream.requests[1].left.wait(2)


def test_a_second_signal_ends_a_worker_at_once(tmp_path: Path, upstream: ChatUpstream) -> None:
    """R-73: and the job is not lost, as after a kill. The worker is held by a lock: it cannot hand
    back what it has."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    upstream.script(ENDLESS, ENDLESS)
    with serve(tmp_path, toml, SERVER_ONLY) as live, client_of(live) as client:
        jobs = Background(client)
        made = jobs.start()
        with work(tmp_path) as first:
            assert eventually(lambda: len(upstream.requests) == 1, 15), first.log()
            with _locked(tmp_path):
                first.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
                first.process.send_signal(signal.SIGTERM)  # an echo of the first
                time.sleep(1.8)  # a forced end takes less
                assert first.process.poll() is None
                began = time.monotonic()
                first.process.send_signal(signal.SIGTERM)
                assert first.process.wait(10) == 128 + signal.SIGTERM
                assert time.monotonic() - began < 2.5
        with work(tmp_path):
            assert eventually(lambda: len(upstream.requests) == 2, 15)
            jobs.client.post(path_of(made) + "/cancel")


def _locked(folder: Path) -> Any:
    stack = ExitStack()
    database = sqlite3.connect(folder / "antiphon.db", isolation_level=None)
    stack.callback(database.close)
    database.execute("BEGIN IMMEDIATE")
    return stack


# -- limits --------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LiveServer]:
    """Three at once, two of one project."""
    env = {"ANTIPHON_MAX_IN_FLIGHT": "3", "ANTIPHON_MAX_IN_FLIGHT_PER_PROJECT": "2"}
    with serve(tmp_path, None, env) as live:
        yield live


def refused(client: httpx2.Client, **body: Any) -> httpx2.Response:
    """The answer, which tells when to come back."""
    reply = client.post("/v1/responses", json={"model": "simulator", "input": "Hi", **body})
    assert int(reply.headers["retry-after"]) >= 1
    return reply


def test_a_full_server_turns_away_at_once(small: LiveServer) -> None:
    """R-115: 429 for who has too many, 503 for who comes to a full server; background responses
    wait in their own queue; a place is free again when its request ends, however it does."""
    with ExitStack() as stack, client_of(small) as client, client_of(small, OTHER_KEY) as other:

        def running(sock: socket.socket) -> socket.socket:
            assert b"200 OK" in sock.recv(100)
            return stack.enter_context(sock)

        mine = [running(stalled(small, model="simulator", input=LONG)) for _ in range(2)]
        for stream in (False, True):
            reply = refused(client, stream=stream)
            assert reply.status_code == 429
            assert error_of(reply)["code"] == "rate_limit_exceeded"
        times = []
        for _ in range(9):
            began = time.monotonic()
            refused(client)
            times.append(time.monotonic() - began)
        assert sorted(times)[4] < 0.05
        assert create(other, "simulator")["status"] == "completed"

        asking = threading.Thread(target=create, args=(other, "simulator"), kwargs={"input": SLOW})
        asking.start()
        assert eventually(lambda: in_flight(small) == 3)
        with client_of(small, OTHER_KEY) as late:
            reply = refused(late)
            assert reply.status_code == 503
            assert error_of(reply)["code"] == "server_is_overloaded"
            assert refused(client).status_code == 429
            jobs = Background(client)
            assert jobs.reach(jobs.start("simulator"), "completed")
            assert_valid_log(jobs.log(jobs.start("simulator")))
        asking.join()
        mine.pop().close()
        assert eventually(lambda: in_flight(small) < 2)
        assert create(client, "simulator")["status"] == "completed"
    assert shed(small) == {"project": 12.0, "server": 1.0, "queue": 0.0}


LONG: Final = "[[tokens=100000]][[pace=20ms]]"
SLOW: Final = "[[tokens=40]][[pace=50ms]]"


def test_who_is_refused_leaves_no_trace(small: LiveServer) -> None:
    """R-115: a bad request does not take a place for ever."""
    with client_of(small) as client:
        for _ in range(5):
            bad = client.post("/v1/responses", json={"model": "simulator", "input": 5})
            assert bad.status_code == 400
            unknown = {"model": "simulator", "input": "Hi", "previous_response_id": "resp_x"}
            assert client.post("/v1/responses", json=unknown).status_code == 400
        assert create(client, "simulator")["status"] == "completed"


# -- figures -------------------------------------------------------------------------------------


def figures(live: LiveServer) -> str:
    with client_of(live) as client:
        return client.get("/metrics").text


def shed(live: LiveServer) -> dict[str, float]:
    found = re.findall(r'antiphon_requests_shed_total\{scope="(\w+)"\} (\S+)', figures(live))
    return {scope: float(count) for scope, count in found}


def test_the_figures_of_the_process(tmp_path: Path) -> None:
    """R-138: they are there from the start, they move, and they name nobody."""
    with serve(tmp_path, None, {"ANTIPHON_LEASE": "0.5"}) as live:
        assert eventually(lambda: value(live, "antiphon_loop_lag_seconds_count") > 2)
        assert eventually(lambda: value(live, "antiphon_database_wait_seconds_count") > 2)
        text = figures(live)
        for name in (
            "antiphon_responses_in_flight",
            "antiphon_queue_length",
            'antiphon_responses_recovered_total{outcome="failed"}',
            "antiphon_log_lines_dropped_total",
        ):
            assert f"\n{name} 0.0\n" in text
        with client_of(live) as client:
            create(client, "simulator", metadata={"who": "tenant-7"})
        assert "tenant" not in figures(live)
        assert 'model="' not in figures(live), "backends alone are named: the operator's names"


def value(live: LiveServer, name: str) -> float:
    line = next(line for line in figures(live).splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])
