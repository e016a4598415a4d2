"""A server leaves in time, whoever still wants something of it (R-73), and says so properly."""

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import httpx2
import orjson
import pytest

from tests.api.background import ENDLESS, slowly
from tests.api.raw import eventually
from tests.api.talk import client_of, error_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.durability.watching import Json
from tests.live import CHAT_TOML, LiveServer, serve

#: Seconds.
GRACE: Final = 1.0
ENV: Final = {"ANTIPHON_SHUTDOWN_GRACE": str(GRACE)}
HI: Final[Json] = {"model": "m", "input": "Hi"}
KEYED: Final = {"idempotency-key": "k"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def row_of(folder: Path) -> tuple[str, Json, int | None]:
    """The one response: status, body, when it expires."""
    question = "SELECT status, body, expires_at FROM responses"
    with closing(sqlite3.connect(folder / "antiphon.db")) as database:
        ((status, body, expires_at),) = database.execute(question).fetchall()
    return status, orjson.loads(body), expires_at


def leave(server: LiveServer) -> None:
    """SIGTERM: it is gone in time, and had no accident."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(GRACE + 5) == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("store", [True, False])
def test_a_run_whose_client_has_left(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack, store: bool
) -> None:
    """R-73, R-82: a foreground request with a key outlives its client, but not its server; its key
    is free for the next one."""
    upstream.script(ENDLESS, Reply.chat("Well"))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    body = {**HI, "store": store}
    server = stack.enter_context(serve(tmp_path, toml, ENV))
    with client_of(server, timeout=0.7) as hasty, pytest.raises(httpx2.ReadTimeout):
        hasty.post("/v1/responses", json=body, headers=KEYED)
    time.sleep(0.3)
    assert not upstream.requests[0].left.is_set()
    began = time.monotonic()
    leave(server)
    assert time.monotonic() - began >= GRACE - 0.1, "it might still have come to its end"
    status, shown, expires_at = row_of(tmp_path)
    assert status == shown["status"] == "failed"
    assert "shutting down" in shown["error"]["message"], shown["error"]
    assert expires_at is not None
    server = stack.enter_context(serve(tmp_path, toml, ENV))
    with client_of(server) as client:
        reply = client.post("/v1/responses", json=body, headers=KEYED)
        assert reply.status_code == 200
        assert "idempotent-replayed" not in reply.headers
        assert reply.json()["output_text"] == "Well"


def test_a_run_that_ends_within_the_grace_period(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """R-73, R-79: it is replayed by the next server."""
    upstream.script(slowly("a", "b", "c", pause=0.4))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    server = stack.enter_context(serve(tmp_path, toml, ENV))
    with client_of(server, timeout=0.5) as hasty, pytest.raises(httpx2.ReadTimeout):
        hasty.post("/v1/responses", json=HI, headers=KEYED)
    leave(server)
    server = stack.enter_context(serve(tmp_path, toml, ENV))
    with client_of(server) as client:
        reply = client.post("/v1/responses", json=HI, headers=KEYED)
    assert reply.headers["idempotent-replayed"] == "true"
    assert reply.json()["output_text"] == "abc"
    assert len(upstream.requests) == 1


def test_a_twin_of_what_another_server_makes(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """R-73, R-81: who waits at a server that leaves hears 503 and when to come back, and has the
    answer then."""
    flag = threading.Event()
    upstream.script(Reply(body=waiting(flag)))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    maker, leaving = (stack.enter_context(serve(tmp_path, toml, ENV)) for _ in range(2))
    first, second = (stack.enter_context(client_of(one)) for one in (maker, leaving))
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(first.post, "/v1/responses", json=HI, headers=KEYED)
        assert eventually(lambda: len(upstream.requests) == 1)
        twin = pool.submit(second.post, "/v1/responses", json=HI, headers=KEYED)
        time.sleep(0.5)
        leave(leaving)
        reply = twin.result()
        flag.set()
        answer = made.result()
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.headers.get("x-should-retry") != "false"
    error = error_of(reply)
    assert (error["type"], error["code"]) == ("service_unavailable_error", "server_is_overloaded")
    assert answer.json()["output_text"] == "Late"
    again = first.post("/v1/responses", json=HI, headers=KEYED)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == answer.content
    assert len(upstream.requests) == 1


def waiting(flag: threading.Event) -> Iterator[bytes | float]:
    """An answer when it is asked for."""
    while not flag.is_set():
        yield 0.05
    yield from Reply.chat("Late").body  # type: ignore[misc]
