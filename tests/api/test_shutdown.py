"""SIGTERM: running responses get time, then a terminal event; nobody is cut off (R-73, R-48)."""

import asyncio
import contextlib
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from antiphon.testing import assert_valid_log
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
            await asyncio.sleep(0.3)
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
                await asyncio.sleep(0.3)
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
