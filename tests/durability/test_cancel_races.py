"""Cancel against completion, 500 times: one end, the same for everybody (issue 2/8, must show 4;
R-57, R-58)."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import orjson
import pytest

from antiphon.testing import assert_valid_beginning, assert_valid_log
from tests.api.talk import client_of
from tests.api.talk import events as parse_events
from tests.durability.verdict import assert_sound
from tests.durability.watching import RUNNING, Json, client_at
from tests.live import LiveServer, serve, work
from tests.receiver import Receiver

ENV: Final = {"ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1", "ANTIPHON_LEASE": "2"}
#: How long a run takes when nobody else does, roughly, in seconds.
RUN: Final = 0.06
INPUT: Final = "[[tokens=4]] [[pace=15ms]]"
AT_ONCE: Final = 20
#: Ends by their events.
FIRED: Final = ["response.completed", "response.cancelled", "response.failed"]


@dataclass
class Race:
    """One response; what was answered to two cancels and to its readers."""

    cancels: list[Json]
    final: bytes
    stream: str

    @property
    def status(self) -> str:
        """How it ended."""
        status: str = orjson.loads(self.final)["status"]
        return status


async def race(client: httpx2.AsyncClient, seed: int) -> Race:
    """Cancel at a random moment: before the claim, while it runs, around its end."""
    luck = random.Random(seed)
    body = {"model": "simulator", "input": INPUT, "background": True}
    made = await client.post("/responses", json=body)
    assert made.status_code == 200, made.text
    path = f"/responses/{made.json()['id']}"
    reader = asyncio.create_task(client.get(path, params={"stream": "true"}))
    await asyncio.sleep(luck.choice([0, luck.uniform(0, RUN), luck.uniform(RUN, 5 * RUN)]))
    cancels = []
    for _ in range(2):
        reply = await client.post(f"{path}/cancel")
        assert reply.status_code == 200, reply.text
        cancels.append(reply.json())
    stream = await asyncio.wait_for(reader, 10)
    final = (await client.get(path)).content
    await asyncio.sleep(luck.uniform(0, 2 * RUN))
    assert (await client.get(path)).content == final
    replay = await client.get(path, params={"stream": "true"})
    assert replay.text == stream.text
    return Race(cancels, final, stream.text)


async def races(base_url: str, count: int) -> list[Race]:
    """So many, some at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> Race:
        async with places:
            return await race(client, seed)

    async with client_at(base_url) as client:
        return await asyncio.gather(*(one(seed) for seed in range(count)))


def assert_one_end(run: Race) -> None:
    """The answers to both cancels, GET and the stream say the same."""
    final = orjson.loads(run.final)
    assert run.cancels == [final, final]
    assert run.status in ("completed", "cancelled")
    log = parse_events(run.stream)
    if run.status == "completed":
        assert assert_valid_log(log) == final
    else:
        assert_valid_beginning(log)
        assert final["output"] == [] or log[-1]["type"] != "response.completed"


@pytest.fixture(params=["one process", "a worker"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveServer]:
    """Runs are made by the server itself, or beside it."""
    with ExitStack() as stack:
        if request.param == "one process":
            yield stack.enter_context(serve(tmp_path, env=ENV))
        else:
            env = {**ENV, "ANTIPHON_BACKGROUND_RUNS": "0"}
            live = stack.enter_context(serve(tmp_path, env=env))
            stack.enter_context(work(tmp_path, env=ENV))
            yield live
    assert_sound(tmp_path)


def test_a_response_is_completed_or_cancelled_and_never_both(
    live: LiveServer, request: pytest.FixtureRequest
) -> None:
    count = 500 if request.node.callspec.id == "one process" else 100
    with Receiver() as receiver, client_of(live) as client:
        hook = {"name": "all", "url": receiver.url, "event_types": FIRED}
        assert client.post("/v1/webhook_endpoints", json=hook).status_code == 200
        runs = asyncio.run(races(live.base_url, count))
        for run in runs:
            assert_one_end(run)
        ends = Counter(run.status for run in runs)
        assert min(ends["completed"], ends["cancelled"]) > count / 20, ends
        assert sum(orjson.loads(run.final)["status"] in RUNNING for run in runs) == 0
        told = receiver.wait(count, 30)
    said = sorted((note.event["data"]["id"], note.event["type"]) for note in told)
    bodies = [orjson.loads(run.final) for run in runs]
    assert said == sorted((body["id"], f"response.{body['status']}") for body in bodies)
