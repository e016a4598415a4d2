"""Two workers on one port: whatever one has made or begun, the other one knows."""

import asyncio
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import create, error_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.durability.together import WORKERS, Together, serving
from tests.durability.watching import Json, client_at
from tests.live import CHAT_TOML

HI: Final[Json] = {"model": "m", "input": "Hi"}


@pytest.fixture(scope="module")
def together(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Together]:
    """The server, for all tests of this module."""
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    with serving(tmp_path_factory.mktemp("together"), toml) as together:
        yield together


@pytest.fixture(scope="module")
def both(together: Together) -> list[httpx2.Client]:
    """A client of each worker."""
    return together.clients()


@pytest.fixture
def jobs(both: list[httpx2.Client]) -> Iterator[list[Background]]:
    """Background responses by clients of each worker."""
    made = [Background(client) for client in both]
    yield made
    for one in made:
        one.forget()


# -- many at once ----------------------------------------------------------------------------------


async def _mixed(client: httpx2.AsyncClient, number: int) -> str:
    """What somebody does who does not know that there are two: the end of the last answer."""
    say = f"[[tokens=5]] number {number}"
    body: Json = {"model": "simulator", "input": say, "metadata": {"number": str(number)}}
    kind = number % 4
    if kind == 0:
        reply = await client.post("/responses", json={**body, "stream": True})
        assert reply.text.endswith("data: [DONE]\n\n")
        return "streamed"
    made = (await client.post("/responses", json={**body, "background": kind == 1})).json()
    while made["status"] in ("queued", "in_progress"):
        await asyncio.sleep(0.1)
        made = (await client.get(f"/responses/{made['id']}")).json()
    assert made["status"] == "completed"
    assert made["metadata"] == {"number": str(number)}
    follow = {**body, "previous_response_id": made["id"]}
    after = (await client.post("/responses", json=follow)).json()
    assert after["status"] == "completed"
    assert after["usage"]["input_tokens"] > made["usage"]["input_tokens"]
    gone = await client.delete(f"/responses/{made['id']}")
    assert gone.status_code == 200
    shown = await client.get(f"/responses/{made['id']}")
    assert shown.status_code == 404
    return "chained"


def test_hundreds_of_requests(together: Together) -> None:
    """Each by whoever gets it; both have something to do."""
    log_before = len(together.server.log())

    async def all_of_them() -> list[str]:
        # No connection is kept, so that every request may get to the other worker.
        limits = httpx2.Limits(max_connections=24, max_keepalive_connections=0)
        async with client_at(together.server.base_url) as known:
            url, headers = known.base_url, known.headers
        async with httpx2.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=60.0
        ) as client:
            return await asyncio.gather(*(_mixed(client, number) for number in range(120)))

    assert Counter(asyncio.run(all_of_them())) == {"streamed": 30, "chained": 90}
    served = Counter(re.findall(r"worker=(\d)", together.server.log()[log_before:]))
    assert served.keys() == {"1", "2"}
    assert min(served.values()) > sum(served.values()) / 4, served


# -- one makes it, the other one knows -------------------------------------------------------------


@pytest.mark.parametrize("maker", [0, 1])
def test_the_other_worker_streams_a_background_response(
    jobs: list[Background], upstream: ChatUpstream, maker: int
) -> None:
    """R-61, R-63: from the beginning while it is made, and from any event on."""
    upstream.script(slowly("a", "b", "c", pause=0.3))
    made, other = jobs[maker], jobs[1 - maker]
    response_id = made.start()
    log = other.log(response_id)
    assert assert_valid_log(log)["output_text"] == "abc"
    assert made.log(response_id, starting_after=3) == log[4:]
    assert other.get(response_id) == made.get(response_id)


@pytest.mark.parametrize("maker", [0, 1])
def test_the_other_worker_cancels(
    jobs: list[Background], upstream: ChatUpstream, maker: int
) -> None:
    """R-58: the call of the upstream ends, whoever makes it."""
    upstream.script(ENDLESS)
    made, other = jobs[maker], jobs[1 - maker]
    response_id = made.start()
    made.say(response_id, "Hello")
    reply = other.client.post(path_of(response_id) + "/cancel")
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    assert upstream.requests[0].left.wait(5)
    assert made.get(response_id) == reply.json()


@pytest.mark.parametrize("background", [True, False])
def test_the_other_worker_deletes_what_runs(
    both: list[httpx2.Client], upstream: ChatUpstream, background: bool
) -> None:
    """R-59: nothing comes back."""
    upstream.script(ENDLESS)
    maker, other = both
    asked = {**HI, "stream": True, "background": background}
    with maker.stream("POST", "/v1/responses", json=asked) as reply:
        lines = reply.iter_lines()
        created = next(line for line in lines if "response.created" in line and "data:" in line)
        response_id = re.findall(r"resp_\w+", created)[0]
        assert eventually(lambda: len(upstream.requests) == 1)
        assert other.delete(path_of(response_id)).status_code == 200
        assert upstream.requests[0].left.wait(5)
    for client in both:
        assert client.get(path_of(response_id)).status_code == 404


def test_a_conversation_goes_from_worker_to_worker(
    both: list[httpx2.Client], upstream: ChatUpstream
) -> None:
    """And one run at a time has it, wherever it is (R-64)."""
    upstream.script(Reply.chat("One"), Reply.chat("Two"), ENDLESS, Reply.chat("Three"))
    first, second = both
    talk = first.post("/v1/conversations", json={}).json()["id"]
    for client in (second, first):
        create(client, conversation=talk)
    items = second.get(f"/v1/conversations/{talk}/items").json()["data"]
    assert [item["role"] for item in items] == ["assistant", "user"] * 2
    body = {**HI, "conversation": talk, "stream": True}
    with first.stream("POST", "/v1/responses", json=body) as reply:
        lines = reply.iter_lines()
        next(lines)
        refused = second.post("/v1/responses", json={**HI, "conversation": talk})
        assert refused.status_code == 400, refused.text
        assert error_of(refused)["code"] == "conversation_locked"


# -- twins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_twins_at_once_at_both(
    together: Together, upstream: ChatUpstream, stream: bool, background: bool
) -> None:
    """R-81: one call of the upstream, one response."""
    upstream.script(slowly("a", "b", pause=0.3))
    key = {"idempotency-key": f"twin {stream} {background}"}
    body = {**HI, "stream": stream, "background": background}
    clients = [together.client(worker) for worker in WORKERS * 4]
    with ThreadPoolExecutor(len(clients)) as pool:
        asked = [
            pool.submit(client.post, "/v1/responses", json=body, headers=key) for client in clients
        ]
        replies = [one.result() for one in asked]
    assert {reply.status_code for reply in replies} == {200}
    replayed = Counter(reply.headers.get("idempotent-replayed") for reply in replies)
    assert replayed == {None: 1, "true": len(clients) - 1}
    assert len({re.findall(r"resp_\w+", reply.text)[0] for reply in replies}) == 1
    assert eventually(lambda: len(upstream.requests) == 1)
    time.sleep(0.5)
    assert len(upstream.requests) == 1


# -- what is one -----------------------------------------------------------------------------------


def _figure(client: httpx2.Client, name: str) -> float:
    text = client.get("/metrics").text
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert len(found) == 1, text
    return float(found[0])


def test_metrics_are_those_of_all(both: list[httpx2.Client], upstream: ChatUpstream) -> None:
    """R-138: whoever is asked."""
    upstream.script(Reply.chat("Hello"))
    ended = 'antiphon_responses_total{status="completed"}'
    calls = 'antiphon_backend_calls_total{backend="upstream",outcome="ok"}'
    time.sleep(1.5)  # others have told what they did for the tests before
    before = {name: _figure(both[0], name) for name in (ended, calls)}
    for client in (*both, both[1]):
        create(client)
    time.sleep(1.5)
    for client in both:
        assert {name: _figure(client, name) for name in before} == {
            name: value + 3 for name, value in before.items()
        }


def test_a_fresh_database_has_one_schema_and_one_key(
    together: Together, both: list[httpx2.Client]
) -> None:
    """The workers began at the same time."""
    with closing(sqlite3.connect(together.server.folder / "antiphon.db")) as database:
        (seals,) = database.execute("SELECT count(*) FROM encryption_keys").fetchone()
        versions = database.execute("SELECT count(*) FROM alembic_version").fetchone()
    assert (seals, versions) == (1, (1,))
    for client in both:
        assert client.get("/health/ready").status_code == 200
