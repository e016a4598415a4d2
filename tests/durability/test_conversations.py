"""Conversations of servers that die, freeze, share a database, or lose it (issue 4/8, must show 2;
R-64, R-65, R-69, R-71): a turn is there once and whole, or not at all, and nothing stays locked."""

import contextlib
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.api.background import HELLO, Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import Json, client_of
from tests.api.test_conversation_runs import ask, is_free, kept, outcome
from tests.api.test_conversations import listed, made, said
from tests.api.test_disconnect import asking, read_until, response_id
from tests.backends.upstream import DONE, ChatUpstream, Reply, chunk, sse
from tests.durability.test_store_trouble import Site, locked
from tests.durability.verdict import assert_sound
from tests.durability.watching import GONE
from tests.live import CHAT_TOML, LiveServer, launch, serve

LEASE: Final = 2.0
ENV: Final = {
    "ANTIPHON_LEASE": str(LEASE),
    "ANTIPHON_EVENT_HEARTBEAT": "60",
    "ANTIPHON_BACKGROUND_ATTEMPTS": "50",
}
#: Seconds from a start to the end of everything (R-65).
RECOVERY: Final = 20.0
ENDLESS: Final = Reply(body=[HELLO, "stall"])


class Street:
    """Servers on one database."""

    def __init__(self, folder: Path, toml: str, stack: ExitStack) -> None:
        self.folder = folder
        self._toml = toml
        self._stack = stack

    def open(self, **env: str) -> tuple[LiveServer, httpx2.Client]:
        """One more."""
        live = self._stack.enter_context(serve(self.folder, self._toml, {**ENV, **env}))
        return live, self._stack.enter_context(client_of(live))


@pytest.fixture
def street(upstream: ChatUpstream, tmp_path: Path) -> Iterator[Street]:
    with ExitStack() as stack:
        yield Street(tmp_path, CHAT_TOML.format(base_url=upstream.base_url), stack)
    assert_sound(tmp_path)


def freed(client: httpx2.Client, id_: str) -> float:
    """Wait until something can be added; how many seconds that took."""
    began = time.monotonic()
    assert eventually(lambda: is_free(client, id_), RECOVERY)
    return time.monotonic() - began


# -- kill -9 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("living", [False, True], ids=["restarted", "another lives"])
@pytest.mark.parametrize("store", [True, False], ids=["stored", "unstored"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
def test_a_foreground_run_dies_with_its_server(
    street: Street, upstream: ChatUpstream, stream: bool, store: bool, living: bool
) -> None:
    """R-69: nothing of it is appended, and the next turn may begin."""
    upstream.script(ENDLESS, Reply.chat("Hello"))
    first, client = street.open()
    second = street.open()[1] if living else None
    id_ = made(client, said("zero"))
    with asking(first, conversation=id_, stream=stream, store=store) as sock:
        assert eventually(lambda: len(upstream.requests) == 1)
        running = response_id(read_until(sock, b"Hello")) if stream else None
        assert not is_free(second or client, id_)
        first.kill()
    after = second or street.open()[1]
    assert freed(after, id_) < LEASE + 2
    if running and store:
        assert after.get(path_of(running)).json()["status"] == "failed"
    outcome(after, ask(after, id_))
    assert kept(after, id_) == ["zero", "free", "one", "Hello"]


@pytest.mark.parametrize("living", [False, True], ids=["restarted", "another lives"])
def test_a_job_goes_on_elsewhere(street: Street, upstream: ChatUpstream, living: bool) -> None:
    """R-65, R-66: it holds the conversation all the time, and is appended once."""
    upstream.script(ENDLESS, slowly("All", " of it", pause=1.0))
    first, client = street.open()
    id_ = made(client, said("zero"))
    jobs = Background(client)
    running = jobs.start(conversation=id_, input="one")
    jobs.say(running, "Hello")
    second = street.open()[1] if living else None
    first.kill()
    after = second or street.open()[1]
    assert not is_free(after, id_)
    final = Background(after).reach(running, "completed")
    assert final["output_text"] == "All of it"
    assert kept(after, id_) == ["zero", "one", "All of it"]
    assert listed(after, id_)[0] == final["output"][0]
    shown = [message["content"] for message in upstream.requests[1].json["messages"]]
    assert shown == ["zero", "one"]


def test_a_frozen_server_changes_nothing_afterwards(street: Street, upstream: ChatUpstream) -> None:
    """R-57, R-77: it is taken for dead, somebody else runs, and then it thaws."""
    upstream.script(
        Reply(body=[HELLO, LEASE + 3, sse(chunk(finish="stop")), DONE]), Reply.chat("Theirs")
    )
    first, client = street.open()
    _, other = street.open()
    id_ = made(client, said("zero"))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client, id_)
        assert eventually(lambda: len(upstream.requests) == 1)
        time.sleep(0.3)
        first.process.send_signal(signal.SIGSTOP)
        try:
            assert freed(other, id_) < LEASE + 5
            outcome(other, ask(other, id_, "two"))
        finally:
            first.process.send_signal(signal.SIGCONT)
        reply = asked.result()
    assert reply.status_code >= 500
    assert kept(client, id_) == ["zero", "free", "two", "Theirs"]


# -- two servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_two_servers_make_one_of_many(
    street: Street, upstream: ChatUpstream, background: bool
) -> None:
    """R-64."""
    servers = [street.open()[0] for _ in range(2)]
    with client_of(servers[0]) as client:
        id_ = made(client, said("zero"))
        upstream.script(slowly("Hel", "lo", pause=0.8))

        def race(number: int) -> httpx2.Response:
            with client_of(servers[number % 2]) as mine:
                return ask(mine, id_, f"of {number}", background=background)

        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(race, range(12)))
        statuses = [reply.status_code for reply in replies]
        assert Counter(statuses) == {200: 1, 400: 11}
        winner = statuses.index(200)
        outcome(client, replies[winner])
        assert kept(client, id_) == ["zero", f"of {winner}", "Hello"]


def test_a_run_is_stopped_from_another_server(street: Street, upstream: ChatUpstream) -> None:
    """R-59: by deleting its response; the conversation is free at once."""
    upstream.script(ENDLESS, Reply.chat("Hello"))
    (first, client), (_, other) = street.open(), street.open()
    id_ = made(client, said("zero"))
    with asking(first, conversation=id_, stream=True) as sock:
        running = response_id(read_until(sock, b"Hello"))
        assert other.delete(path_of(running)).status_code == 200
        outcome(other, ask(other, id_))
        assert upstream.requests[0].left.wait(2.0)
        assert b"response.failed" in read_until(sock, b"\r\n0\r\n\r\n")
    assert kept(other, id_) == ["zero", "one", "Hello"]


# -- a store in trouble --------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, upstream: ChatUpstream) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, upstream, stack)
    assert "Traceback" not in (tmp_path / "stderr.log").read_text()


@contextlib.contextmanager
def full(site: Site) -> Iterator[None]:
    """The disk is full: a limit on the size of files stands for it."""
    pid, none = site.live.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (16384, none))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (none, none))


@pytest.mark.parametrize("store", [True, False], ids=["stored", "unstored"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
def test_an_end_that_cannot_be_stored(site: Site, stream: bool, store: bool) -> None:
    """R-71: an error is told, nothing is appended, and it does not stay locked."""
    site.upstream.script(slowly("Hel", "lo", pause=0.3))
    id_ = made(site.client, said("zero"))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, site.client, id_, stream=stream, store=store)
        assert eventually(lambda: len(site.upstream.requests) == 1)
        time.sleep(0.1)
        with full(site):
            reply = asked.result()
            assert not is_free(site.client, id_)
    if stream:
        assert '"type":"response.failed"' in reply.text
        assert '"type":"response.completed"' not in reply.text
    else:
        assert (reply.status_code, reply.headers["x-should-retry"]) == (503, "false")
    assert freed(site.client, id_) < 5
    assert kept(site.client, id_) == ["zero", "free"]
    assert_sound(site.folder)


def test_a_job_waits_for_the_store(site: Site) -> None:
    """R-71: what the model said is not lost, and the conversation is its own meanwhile."""
    site.upstream.script(slowly("Hel", "lo", pause=0.3))
    id_ = made(site.client, said("zero"))
    jobs = Background(site.client)
    running = jobs.start(conversation=id_, input="one")
    assert eventually(lambda: len(site.upstream.requests) == 1)
    with full(site):
        time.sleep(1.0)
        assert jobs.get(running)["status"] == "in_progress"
    jobs.reach(running, "completed")
    assert kept(site.client, id_) == ["zero", "one", "Hello"]


def test_a_lock_while_it_ends_is_waited_for(site: Site) -> None:
    """R-70."""
    site.upstream.script(slowly("Hel", "lo", pause=0.3))
    id_ = made(site.client, said("zero"))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, site.client, id_)
        assert eventually(lambda: len(site.upstream.requests) == 1)
        with locked(site.database) as unlock:
            time.sleep(3)
            assert not asked.done()
            assert kept(site.client, id_) == ["zero"]
            unlock()
        assert outcome(site.client, asked.result())["output_text"] == "Hello"
    assert kept(site.client, id_) == ["zero", "one", "Hello"]


# -- the kill loop -------------------------------------------------------------------------------

ROUNDS: Final = 10
TALK: Final = "[[reason=4]] [[tokens=12]] [[pace=12ms]]"
WAYS: Final[list[Json]] = [
    {"stream": True},
    {"stream": True, "store": False},
    {},
    {"background": True},
    {"background": True, "stream": True},
]


@dataclass
class Turn:
    """One request of the loop, and what its client knows."""

    conversation: str
    text: str
    body: Json
    key: str | None
    #: The last that it was told.
    id: str | None = None
    #: It was answered to the end.
    answered: bool = False
    #: It was refused: the conversation was busy.
    refused: bool = False

    def take(self, client: httpx2.Client) -> None:
        """Ask for it once."""
        headers = {"idempotency-key": self.key} if self.key else {}
        with (
            contextlib.suppress(*GONE),
            client.stream("POST", "/v1/responses", json=self.body, headers=headers) as reply,
        ):
            told = b""
            for piece in reply.iter_bytes():
                told += piece
                if b'"id":"resp_' in told:
                    self.id = response_id(told)
            self.refused = reply.status_code == 400
            assert self.refused or reply.status_code in (200, 500, 503), told
            done = (b"data: [DONE]" in told) if self.body.get("stream") else True
            self.answered = reply.status_code == 200 and done and b"response.failed" not in told

    def must_be_there(self) -> bool:
        """Whether it was promised."""
        return self.answered or bool(self.body.get("background") and self.id)


class Loop:
    """Servers that are killed, and clients that talk on in a few conversations."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.conversations: list[str] = []
        self.turns: list[Turn] = []

    def next_turn(self) -> Turn:
        """One more request."""
        number = f"turn-{len(self.turns):04d}"
        body = {
            "model": "simulator",
            "input": f"{number} {TALK}",
            "conversation": self.random.choice(self.conversations),
            **self.random.choice(WAYS),
        }
        key = self.random.choice([None, f"key-{number}"])
        turn = Turn(body["conversation"], body["input"], body, key)
        self.turns.append(turn)
        return turn

    def round(self) -> None:
        """Start, talk, kill."""
        server = launch(self.folder, ["antiphon.cli", "serve"], None, ENV)
        base_url = server.wait_for_url()
        live = LiveServer(server.process, self.folder, base_url, base_url.removesuffix("/v1"))
        with client_of(live) as client, ThreadPoolExecutor(8) as pool:
            while len(self.conversations) < 3:
                self.conversations.append(made(client))
            until = time.monotonic() + self.random.uniform(0.05, 1.2)
            asked: list[Future[None]] = []
            while time.monotonic() < until:
                asked.append(pool.submit(self.next_turn().take, client))
                time.sleep(self.random.uniform(0, 0.15))
            live.kill()
        for future in asked:
            future.result()


def test_servers_that_are_killed_again_and_again(tmp_path: Path) -> None:
    """R-64, R-65, R-69: whatever the moment, each turn is there whole and once, or not at all."""
    loop = Loop(tmp_path, seed=ROUNDS)
    for _ in range(ROUNDS):
        loop.round()
    with serve(tmp_path, None, ENV) as live, client_of(live) as client:
        waited = [freed(client, id_) for id_ in loop.conversations]
        assert sum(waited) < RECOVERY
        for turn in loop.turns:
            if turn.key and not turn.must_be_there():
                while turn.refused or not turn.answered:  # the same request, until it is answered
                    turn.take(client)
        for id_ in loop.conversations:
            freed(client, id_)  # jobs that were asked for again
        there = [found for id_ in loop.conversations for found in turns_of(client, id_)]
        assert_each_once(client, loop, Counter(there))
    assert_sound(tmp_path)


def turns_of(client: httpx2.Client, id_: str) -> list[tuple[str, str]]:
    """The turns that a conversation holds, and in which it stands; each must be whole."""
    items: list[Json] = []
    page: Json = {"has_more": True, "last_id": None}
    while page["has_more"]:
        query: dict[str, Any] = {"order": "asc", "limit": 100}
        query |= {"after": page["last_id"]} if page["last_id"] else {}
        page = client.get(f"/v1/conversations/{id_}/items", params=query).json()
        items += page["data"]
    items = [item for item in items if item != said("free") and _text(item) != "free"]
    shapes = [(item["type"], item.get("role")) for item in items]
    turn = [("message", "user"), ("reasoning", None), ("message", "assistant")]
    assert shapes == turn * (len(items) // 3)
    assert all(item.get("status", "completed") == "completed" for item in items)
    assert len({item["id"] for item in items}) == len(items)
    return [(id_, _text(item)) for item in items[::3]]


def _text(item: Json) -> str:
    text: str = item["content"][0]["text"] if item.get("content") else ""
    return text


def assert_each_once(client: httpx2.Client, loop: Loop, there: "Counter[tuple[str, str]]") -> None:
    """What was promised is there, what was refused is not, and what GET says is true."""
    assert set(there.values()) <= {1}
    kinds: Counter[bool] = Counter()
    for turn in loop.turns:
        found = (turn.conversation, turn.text) in there
        kinds[found] += 1
        if turn.must_be_there():
            assert found, turn
        if turn.refused:
            assert not found, turn
        if turn.id is not None:
            shown = client.get(path_of(turn.id))
            if shown.status_code == 404:
                assert turn.body.get("store") is False
            else:
                assert found is (shown.json()["status"] == "completed"), (turn, shown.json())
    assert min(kinds[True], kinds[False]) > 3, kinds
