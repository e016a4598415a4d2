"""The deliverer (engine/webhooks.py): reliability R-93, with a clock and a way out of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import openai
import pytest
from openai import InvalidWebhookSignatureError
from openai.types.webhooks import ResponseCompletedWebhookEvent
from structlog.testing import capture_logs

from antiphon import __version__
from antiphon.engine import webhooks
from antiphon.engine.webhooks import (
    CLAIM,
    DISABLE,
    GIVE_UP,
    MOST,
    MOST_EACH,
    Deliverer,
    DeliveryOptions,
    again_at,
    headers_of,
    notice_of,
)
from antiphon.errors import Overloaded, RateLimitError
from antiphon.protocol.webhooks import FIRED, secret_of, signing_key
from antiphon.store.base import Delivery, Endpoint, Notice
from antiphon.store.memory_webhooks import MemoryWebhooks
from tests.store.rows import DAY, NOW, Clock

SECRET: Final = secret_of(b"k" * 32)
OLD: Final = secret_of(b"o" * 32)


@dataclass
class Post:
    """One try."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class FakeSender:
    """Answers with `outcomes` in turn, then with 204; to a `slow` URL only when told to."""

    def __init__(self) -> None:
        self.outcomes: list[int | str] = []
        self.slow: set[str] = set()
        self.go = asyncio.Event()
        self.posts: list[Post] = []
        self.arrived = asyncio.Condition()

    def check(self, url: str) -> None:
        """Every URL is fine."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        async with self.arrived:
            self.posts.append(Post(url, headers, body))
            self.arrived.notify_all()
        if url in self.slow:
            await self.go.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else 204
        if isinstance(outcome, str):
            raise ConnectionError(outcome)
        return outcome

    async def wait(self, count: int) -> list[Post]:
        """The tries, as soon as there are so many."""
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: len(self.posts) >= count)
        return self.posts


class Scene:
    """A deliverer and what is around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryWebhooks()
        self.sender = FakeSender()
        self.news = asyncio.Event()
        self.deliverer = Deliverer(
            self.store, self.sender, self.wait, DeliveryOptions(first_retry=10.0), self.clock
        )

    async def wait(self, seconds: float) -> None:
        """Until something was committed."""
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return
        self.news.clear()

    def happen(self, *numbers: int, created_at: int = NOW) -> None:
        """Responses end."""
        for number in numbers:
            found = notice_of(f"resp_{number}", "completed", created_at)
            assert found is not None
            self.store.enqueue("alpha", found)
        self.news.set()

    async def idle(self, due: int | None = None) -> None:
        """Until nothing is left to do before `due`."""
        for _ in range(500):
            if await self.store.next_due() == due:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"due at {await self.store.next_due()}, not {due}")

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds
        self.news.set()

    async def endpoint(self, id_: str = "whe_1") -> Endpoint:
        """As it is stored."""
        found = await self.store.endpoint("alpha", id_)
        assert found is not None
        return found


def endpoint(number: int = 1, secret: str = SECRET) -> Endpoint:
    return Endpoint(
        id=f"whe_{number}",
        project="alpha",
        name="hook",
        url=f"https://{number}.example/",
        event_types=list(FIRED),
        secret=secret,
        created_at=NOW,
    )


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(webhooks, "_JITTER", 0.0)
    monkeypatch.setattr(webhooks, "_PACE", 0.005)
    monkeypatch.setattr(webhooks, "_GRACE", 0.1)
    made = Scene()
    await made.store.add(endpoint(), 100)
    made.deliverer.start()
    yield made
    await made.deliverer.close()


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
def test_every_end_of_a_response_is_an_event(status: str) -> None:
    found = notice_of("resp_1", status, NOW)
    assert found is not None
    assert found.type == f"response.{status}"
    assert ResponseCompletedWebhookEvent.model_validate_json(
        found.body.replace(f"response.{status}".encode(), b"response.completed")
    ).model_dump() == {
        "id": found.id,
        "object": "event",
        "type": "response.completed",
        "created_at": NOW,
        "data": {"id": "resp_1"},
    }


def test_what_is_not_the_end_is_no_event() -> None:
    assert notice_of("resp_1", "in_progress", NOW) is None


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """As the official SDK does, whose clock says `NOW`."""
    openai.OpenAI(api_key="k", webhook_secret=secret).webhooks.verify_signature(
        body.decode(), dict(headers), tolerance=10**10
    )


def test_the_official_sdk_accepts_the_signature() -> None:
    headers = headers_of(endpoint(), "wh_1", NOW, b'{"a": "\xc3\xa9"}')
    verify(headers, b'{"a": "\xc3\xa9"}', SECRET)
    assert headers["user-agent"] == f"Antiphon/{__version__}"
    assert headers["webhook-timestamp"] == str(NOW)
    with pytest.raises(InvalidWebhookSignatureError):
        verify(headers, b'{"a": "e"}', SECRET)
    with pytest.raises(InvalidWebhookSignatureError):
        verify(headers, b'{"a": "\xc3\xa9"}', OLD)


def test_the_old_secret_signs_until_its_time_is_over() -> None:
    made = endpoint()
    made.old_secret, made.old_secret_until = OLD, NOW + 10
    both = headers_of(made, "wh_1", NOW + 9, b"{}")
    assert len(both["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OLD):
        verify(both, b"{}", secret)
    over = headers_of(made, "wh_1", NOW + 10, b"{}")
    verify(over, b"{}", SECRET)
    with pytest.raises(InvalidWebhookSignatureError):
        verify(over, b"{}", OLD)


def test_a_secret_of_the_operator_may_be_plain_text() -> None:
    plain = "a secret of the operator"
    verify(headers_of(endpoint(secret=plain), "wh_1", NOW, b"{}"), b"{}", plain)
    for bad in ("short", "whsec_", "whsec_?", "whsec_" + "A" * 16):
        with pytest.raises(ValueError, match=r"secret|base64"):
            signing_key(bad)


def delivery(attempts: int, age: int = 0) -> Delivery:
    return Delivery("wh_1", endpoint(), Notice("evt_1", FIRED[0], NOW - age, b"{}"), attempts)


def test_each_wait_is_longer_and_none_is_the_same_for_all() -> None:
    waits = [[(again_at(delivery(n), NOW, 5.0) or 0) - NOW for _ in range(200)] for n in range(9)]
    for few, expected in zip(waits, (5, 25, 125, 625, 3125, 15625, 21600, 21600), strict=False):
        assert min(few) >= round(expected * 0.8)
        assert max(few) <= round(expected * 1.2)
        assert len(set(few)) > 2
    assert again_at(delivery(10_000), NOW, 5.0) is not None


def test_after_three_days_it_is_over() -> None:
    assert GIVE_UP == 3 * DAY
    assert again_at(delivery(0, GIVE_UP - 7), NOW, 5.0) is not None
    assert again_at(delivery(0, GIVE_UP - 3), NOW, 5.0) is None


async def test_a_notice_is_delivered(scene: Scene) -> None:
    scene.happen(1)
    (post,) = await scene.sender.wait(1)
    assert post.url == "https://1.example/"
    assert b'"data":{"id":"resp_1"}' in post.body
    verify(post.headers, post.body, SECRET)
    await scene.idle()


async def test_only_2xx_is_success_and_the_id_stays(scene: Scene) -> None:
    scene.sender.outcomes = [500, 302, "nobody there", 400, 299]
    scene.happen(1)
    due = NOW
    for tries, wait in enumerate((10, 50, 250, 1250), 1):
        await scene.sender.wait(tries)
        due += wait
        await scene.idle(due)
        assert len(scene.sender.posts) == tries
        scene.later(wait)
    posts = await scene.sender.wait(5)
    await scene.idle()
    assert len({post.headers["webhook-id"] for post in posts}) == 1
    stamps = [int(post.headers["webhook-timestamp"]) - NOW for post in posts]
    assert stamps == [0, 10, 60, 310, 1560]
    assert (await scene.endpoint()).failing_since is None
    for post in posts:
        verify(post.headers, post.body, SECRET)


async def test_what_never_arrives_is_given_up_and_logged(scene: Scene) -> None:
    scene.clock.now = NOW + GIVE_UP
    scene.sender.outcomes = ["nobody there"]
    with capture_logs() as logs:
        scene.happen(1)
        await scene.sender.wait(1)
        await scene.idle()
    assert [line["event"] for line in logs] == ["webhook_given_up"]
    assert "example" not in str(logs), "a URL may be a secret"


async def test_an_endpoint_that_only_fails_is_disabled_after_days(scene: Scene) -> None:
    scene.sender.outcomes = ["nobody there"] * 2
    scene.happen(1)
    await scene.sender.wait(1)
    await scene.idle(NOW + 10)
    assert (await scene.endpoint()).failing_since == NOW
    scene.later(DISABLE)
    with capture_logs() as logs:
        await scene.sender.wait(2)
        await scene.idle()
        await scene.deliverer.close()
    assert logs[-1]["event"] == "webhook_endpoint_disabled"
    assert (await scene.endpoint()).disabled_at == NOW + DISABLE


async def test_a_slow_receiver_holds_up_no_other(scene: Scene) -> None:
    await scene.store.add(endpoint(2), 100)
    scene.sender.slow = {"https://1.example/"}
    scene.happen(*range(40))
    posts = await scene.sender.wait(40 + MOST_EACH)
    await asyncio.sleep(0.05)
    count = [post.url for post in posts].count
    assert (count("https://1.example/"), count("https://2.example/")) == (MOST_EACH, 40)
    scene.sender.go.set()
    await scene.sender.wait(80)
    await scene.idle()


async def test_no_more_than_so_many_are_tried_at_once(scene: Scene) -> None:
    for number in range(2, 80):
        await scene.store.add(endpoint(number), 100)
    scene.sender.slow = {f"https://{number}.example/" for number in range(80)}
    scene.happen(1)
    await scene.sender.wait(MOST)
    await asyncio.sleep(0.05)
    assert len(scene.sender.posts) == MOST
    scene.sender.go.set()
    await scene.sender.wait(79)
    await scene.idle()


async def test_trouble_of_the_store_passes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-71."""
    real = scene.store.next_due
    broken = True

    async def next_due() -> int | None:
        if broken:
            raise Overloaded
        return await real()

    monkeypatch.setattr(scene.store, "next_due", next_due)
    with capture_logs() as logs:
        scene.happen(1)
        await asyncio.sleep(0.05)
        assert logs[0]["event"] == "webhooks_wait_for_the_store"
        broken = False
        scene.news.set()
        await scene.sender.wait(1)


async def test_an_outcome_that_is_not_stored_is_found_out_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-71: the claim lapses, the same id comes again (rule 1)."""
    real = scene.store.delivered

    async def delivered(delivery: Delivery) -> None:
        monkeypatch.setattr(scene.store, "delivered", real)
        raise Overloaded

    monkeypatch.setattr(scene.store, "delivered", delivered)
    with capture_logs() as logs:
        scene.happen(1)
        await scene.sender.wait(1)
        await scene.idle(NOW + CLAIM)
        await asyncio.sleep(0.05)
        scene.later(CLAIM)
        first, second = await scene.sender.wait(2)
        await scene.idle()
    assert logs[0]["event"] == "webhook_outcome_not_stored"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_a_success_meanwhile_keeps_an_endpoint_enabled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process has just delivered counts."""
    scene.sender.outcomes = ["nobody there"] * 2
    scene.happen(1)
    await scene.sender.wait(1)
    await scene.idle(NOW + 10)
    real = scene.store.failed

    async def failed(delivery: Delivery, now: int, again_at: int | None) -> None:
        await real(delivery, now, again_at)
        await scene.store.delivered(delivery)

    monkeypatch.setattr(scene.store, "failed", failed)
    scene.later(DISABLE)
    with capture_logs() as logs:
        await scene.sender.wait(2)
        await scene.idle()
        await scene.deliverer.close()
    assert (await scene.endpoint()).disabled_at is None
    assert [line["event"] for line in logs] == ["webhook_given_up"]


async def test_what_was_never_started_can_be_closed() -> None:
    await Scene().deliverer.close()


async def test_what_the_end_interrupts_is_tried_again(scene: Scene) -> None:
    """The claim lapses; the same id comes again (rule 1)."""
    scene.sender.slow = {"https://1.example/"}
    scene.happen(1)
    await scene.sender.wait(1)
    await scene.deliverer.close()
    await scene.idle(NOW + CLAIM)
    scene.sender.go.set()
    after = Deliverer(scene.store, scene.sender, scene.wait, clock=scene.clock)
    scene.later(CLAIM)
    after.start()
    first, second = await scene.sender.wait(2)
    await scene.idle()
    await after.close()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_an_end_lets_tries_under_way_finish(scene: Scene) -> None:
    scene.sender.slow = {"https://1.example/"}
    scene.happen(1)
    await scene.sender.wait(1)
    closing = asyncio.ensure_future(scene.deliverer.close())
    await asyncio.sleep(0.03)
    scene.sender.go.set()
    await closing
    assert await scene.store.next_due() is None


async def test_while_nothing_happens_the_store_is_left_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.happen(1)
    await scene.sender.wait(1)
    await scene.idle()
    await asyncio.sleep(0.05)
    asked = 0

    async def next_due() -> int | None:
        nonlocal asked
        asked += 1
        return None

    monkeypatch.setattr(scene.store, "next_due", next_due)
    await asyncio.sleep(0.3)
    assert asked <= 1


async def test_a_trial_is_sent_once_whatever_the_answer(scene: Scene) -> None:
    scene.sender.outcomes = [503]
    assert await scene.deliverer.test(endpoint(), "response.failed") == 503
    scene.sender.outcomes = ["nobody there"]
    with pytest.raises(ConnectionError):
        await scene.deliverer.test(endpoint(), "batch.completed")
    assert b'"type":"response.failed"' in scene.sender.posts[0].body
    assert b'"data":{"id":"resp_' in scene.sender.posts[0].body
    assert await scene.store.next_due() is None


async def trials(scene: Scene, numbers: list[int]) -> list[asyncio.Task[int]]:
    """Tests of these endpoints, all of which wait for their answer."""
    scene.sender.slow |= {f"https://{number}.example/" for number in numbers}
    before = len(scene.sender.posts)
    made = [
        asyncio.create_task(scene.deliverer.test(endpoint(number), "response.failed"))
        for number in numbers
    ]
    await scene.sender.wait(before + len(numbers))
    return made


async def test_tests_take_the_places_of_tries(scene: Scene) -> None:
    """R-93: who tests again and again is told to wait, and holds up no more than any other."""
    await scene.store.add(endpoint(2), 100)
    first = await trials(scene, [1] * MOST_EACH)
    with pytest.raises(RateLimitError) as refused:
        await scene.deliverer.test(endpoint(1), "response.failed")
    assert refused.value.retry_after == 10
    scene.happen(1)
    await scene.sender.wait(MOST_EACH + 1)
    await asyncio.sleep(0.05)
    assert [post.url for post in scene.sender.posts[MOST_EACH:]] == ["https://2.example/"]
    scene.sender.go.set()
    assert await asyncio.gather(*first) == [204] * MOST_EACH
    await scene.sender.wait(MOST_EACH + 2)
    await scene.idle()
    assert await scene.deliverer.test(endpoint(1), "response.failed") == 204


async def test_no_more_tests_than_places(scene: Scene) -> None:
    """R-93."""
    running = await trials(scene, [*range(2, MOST + 2)])
    with pytest.raises(RateLimitError):
        await scene.deliverer.test(endpoint(1), "response.failed")
    scene.happen(1)
    await asyncio.sleep(0.1)
    assert len(scene.sender.posts) == MOST
    running.pop().cancel()
    await scene.sender.wait(MOST + 1)
    scene.sender.go.set()
    await asyncio.gather(*running)
    await scene.idle()


async def test_a_mistake_in_the_loop_is_logged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def next_due() -> int | None:
        raise AttributeError("mistake")

    monkeypatch.setattr(scene.store, "next_due", next_due)
    with capture_logs() as logs:
        scene.news.set()
        await asyncio.sleep(0.1)
    assert logs[0]["event"] == "webhooks_broke"
