"""SIGTERM: running responses get time, then a terminal event; nobody is cut off (R-73, R-48)."""

import asyncio
import contextlib
import signal
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from antiphon.testing import assert_valid_log
from tests.api.raw import closed, eventually, next_reply, read_all
from tests.api.talk import client_of
from tests.live import KEY, serve

SLOW = "[[tokens=400]] [[pace=50ms]]"
SHORT = "[[tokens=20]] [[pace=50ms]]"


async def ask(client: httpx2.AsyncClient, text: str, *, stream: bool) -> httpx2.Response:
    body = {"model": "simulator", "input": text, "stream": stream}
    return await client.post("/responses", json=body, headers={"authorization": f"Bearer {KEY}"})


def events(reply: httpx2.Response) -> list[Any]:
    lines = [line for line in reply.text.split("\n") if line.startswith("data: {")]
    return [orjson.loads(line.removeprefix("data: ")) for line in lines]


async def test_every_response_has_an_end_and_the_server_leaves_with_status_0(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "1.5"}) as live:
        async with httpx2.AsyncClient(base_url=live.base_url, timeout=30) as client:
            slow = [asyncio.create_task(ask(client, SLOW, stream=True)) for _ in range(5)]
            plain = [asyncio.create_task(ask(client, SLOW, stream=False)) for _ in range(5)]
            short = asyncio.create_task(ask(client, SHORT, stream=True))
            await asyncio.sleep(0.5)
            live.process.send_signal(signal.SIGTERM)
            for reply in await asyncio.gather(*slow):
                assert assert_valid_log(events(reply))["status"] == "failed"
                assert reply.text.endswith("data: [DONE]\n\n")
            for reply in await asyncio.gather(*plain):
                assert reply.status_code == 503
                assert reply.json()["error"]["message"] == "The server is shutting down."
            assert assert_valid_log(events(await short))["status"] == "completed"
        assert live.process.wait(10) == 0
        assert "Traceback" not in live.log()


def test_nobody_new_is_let_in(tmp_path: Path) -> None:
    """R-73: 0.5 s after SIGTERM no connection is taken, while a stream still runs; who has one and
    was still sending hears 503 with the time to come back, and that this was the last."""
    host = b"Host: a\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
    head = b"POST /v1/responses HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
    body = orjson.dumps({"model": "simulator", "input": SLOW, "stream": True})
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "3"}) as live:
        address = ("127.0.0.1", live.port)
        with (
            socket.create_connection(address, 10) as running,
            socket.create_connection(address, 10) as sending,
            socket.create_connection(address, 10) as idle,
        ):
            running.sendall(head + length + body)
            assert b"200 OK" in running.recv(100)
            sending.sendall(head + length + body[:10])
            idle.sendall(b"GET /health/ready HTTP/1.1\r\n" + host + b"\r\n")
            assert next_reply(idle).status == 200
            began = time.monotonic()
            live.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: not reachable(live.port), within=2)
            assert time.monotonic() - began < 0.5
            assert closed(idle)
            sending.sendall(body[10:])
            refused = next_reply(sending)
            assert refused.status == 503
            assert refused.json()["error"]["code"] == "server_is_overloaded"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["connection"] == "close"
            assert closed(sending)
            assert read_all(running).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert time.monotonic() - began > 2
        assert live.process.wait(10) == 0


def test_not_ready_from_the_first_moment_on(tmp_path: Path) -> None:
    """R-73, R-122: whoever still gets an answer after SIGTERM hears 503."""
    with serve(tmp_path) as live, client_of(live) as client:
        assert client.get("/health/ready").status_code == 200
        live.process.send_signal(signal.SIGTERM)
        answers = []
        with contextlib.suppress(httpx2.HTTPError):
            while True:
                answers.append(client.get("/health/ready"))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses[1:]) <= {503}, "the first may have been before the signal"
        assert all(a.headers["connection"] == "close" for a in answers if a.status_code == 503)
        assert live.process.wait(10) == 0


def test_what_is_no_response_is_told_so_too(tmp_path: Path) -> None:
    """R-16, R-73: who still sends a body when all time is over gets our 503 and no text; nothing of
    it is a fault."""
    head = b"POST /v1/conversations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + KEY.encode()
    rest = b"\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "0"}) as live:
        with socket.create_connection(("127.0.0.1", live.port), 10) as sending:
            sending.sendall(head + rest)
            time.sleep(0.3)
            live.process.send_signal(signal.SIGTERM)
            told = next_reply(sending)
            assert told.status == 503
            assert told.json()["error"]["code"] == "server_is_overloaded"
            assert told.headers["x-request-id"].startswith("req_")
            assert closed(sending)
        assert live.process.wait(10) == 0
        assert "ASGI" not in live.log()


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(tmp_path: Path, second: signal.Signals) -> None:
    """R-73: whoever sends it does not want to wait; what was committed is there afterwards."""
    headers = {"authorization": f"Bearer {KEY}"}
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "60"}) as live:
        async with httpx2.AsyncClient(base_url=live.base_url, timeout=30) as client:
            done = await asyncio.gather(*(ask(client, "Hi", stream=False) for _ in range(20)))
            slow = [asyncio.create_task(ask(client, SLOW, stream=True)) for _ in range(5)]
            await asyncio.sleep(0.3)
            live.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.6)
            assert live.process.poll() is None
            began = time.monotonic()
            live.process.send_signal(second)
            assert live.process.wait(10) == 128 + second
            assert time.monotonic() - began < 1.5
            cut = await asyncio.gather(*slow, return_exceptions=True)
            assert all(isinstance(outcome, httpx2.HTTPError) for outcome in cut)
        assert "ended_by_a_second_signal" in live.log()
        assert "Traceback" not in live.log()
    with contextlib.closing(sqlite3.connect(tmp_path / "antiphon.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with serve(tmp_path) as live:
        for reply in done:
            url = f"{live.base_url}/responses/{reply.json()['id']}"
            assert httpx2.get(url, headers=headers).content == reply.content


@pytest.mark.parametrize("echo", [signal.SIGTERM, signal.SIGINT])
async def test_an_echo_of_the_first_signal_is_no_second_one(
    tmp_path: Path, echo: signal.Signals
) -> None:
    """R-73: ``timeout 60 antiphon serve`` hears its SIGTERM twice; what runs has its time."""
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "20"}) as live:
        async with httpx2.AsyncClient(base_url=live.base_url, timeout=30) as client:
            short = asyncio.create_task(ask(client, SHORT, stream=True))
            await asyncio.sleep(0.4)
            for sig in (signal.SIGTERM, echo, echo):
                live.process.send_signal(sig)
                await asyncio.sleep(0.01)
            assert assert_valid_log(events(await short))["status"] == "completed"
        assert live.process.wait(10) == 0


async def test_a_second_signal_ends_a_server_whose_disk_hangs(tmp_path: Path) -> None:
    """R-73: another program holds the lock, so the store cannot be closed in time."""
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "60"}) as live:
        async with httpx2.AsyncClient(base_url=live.base_url, timeout=30) as client:
            slow = asyncio.create_task(ask(client, SLOW, stream=True))
            await asyncio.sleep(0.3)
            with contextlib.closing(sqlite3.connect(tmp_path / "antiphon.db")) as database:
                database.execute("BEGIN IMMEDIATE")
                stored = asyncio.create_task(ask(client, "Hi", stream=False))
                await asyncio.sleep(0.2)
                live.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.6)
                began = time.monotonic()
                live.process.send_signal(signal.SIGTERM)
                assert live.process.wait(10) == 128 + signal.SIGTERM
                assert time.monotonic() - began < 2.5
                await asyncio.gather(slow, stored, return_exceptions=True)


async def test_after_a_kill_the_next_start_ends_what_was_running(tmp_path: Path) -> None:
    """R-69: a client that saw an id finds a response that has ended."""
    with serve(tmp_path) as live:
        body = {"model": "simulator", "input": SLOW, "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            httpx2.AsyncClient(base_url=live.base_url, timeout=30, headers=headers) as client,
            client.stream("POST", "/responses", json=body) as reply,
        ):
            created = await anext(line async for line in reply.aiter_lines() if "data:" in line)
            live.process.kill()
            live.process.wait(10)
    response_id = orjson.loads(created.removeprefix("data: "))["response"]["id"]
    with serve(tmp_path) as live:
        found = httpx2.get(f"{live.base_url}/responses/{response_id}", headers=headers).json()
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
