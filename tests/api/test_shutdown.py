"""SIGTERM: running responses get time, then a terminal event; nobody is cut off (R-73, R-48)."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx2
import orjson

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
