"""Webhooks against a live server: the endpoints as the official SDK calls them, and deliveries to a
real receiver (spec §2.5, App. H; reliability R-93; issue 2/8, must show 7)."""

import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.webhooks import (
    ResponseCompletedWebhookEvent,
    UnwrapWebhookEvent,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
)

from tests.api.talk import client_of, error_of
from tests.live import KEY, OTHER_KEY, LiveServer, serve
from tests.receiver import Delivered, Receiver

URL: Final = "https://hooks.example.com/antiphon?token=1"
COMPLETED: Final = "response.completed"
#: Receivers of these tests are on loopback.
ENV: Final = {"ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1", "ANTIPHON_WEBHOOK_FIRST_RETRY": "1"}
UNKNOWN: Final = "whe_" + "0" * 48


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serve(tmp_path_factory.mktemp("webhooks"), env=ENV) as server:
        yield server


def sdk_of(server: LiveServer, key: str = KEY) -> OpenAI:
    """A client whose connections are closed with it."""
    return OpenAI(base_url=server.base_url, api_key=key, max_retries=0)


@pytest.fixture
def sdk(live: LiveServer) -> Iterator[OpenAI]:
    with sdk_of(live) as client:
        yield client
        for endpoint in client.webhooks.list(limit=100):
            client.webhooks.delete(endpoint.id)


@pytest.fixture
def plain(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def create(client: OpenAI, url: str = URL, name: str = "hook") -> WebhookEndpointWithSecret:
    return client.webhooks.create(name=name, url=url, event_types=["response.completed"])


def unwrap(got: Delivered, secret: str) -> UnwrapWebhookEvent:
    """The event as the official SDK gives it to who has the secret."""
    with OpenAI(api_key="k", webhook_secret=secret) as client:
        return client.webhooks.unwrap(got.body, got.headers)


def test_the_sdk_creates_reads_changes_and_deletes(sdk: OpenAI) -> None:
    made = create(sdk)
    assert re.fullmatch(r"whe_[0-9a-f]{48}", made.id)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made.signing_secret or "")
    shown = {
        "id": made.id,
        "object": "webhook_endpoint",
        "name": "hook",
        "url": URL,
        "event_types": [COMPLETED],
        "created_at": made.created_at,
        "updated_at": made.created_at,
        "signing_secret_hint": f"whsec_...{(made.signing_secret or '')[-4:]}",
    }
    assert made.to_dict() == {**shown, "signing_secret": made.signing_secret}
    assert sdk.webhooks.retrieve(made.id).to_dict() == shown

    changed = sdk.webhooks.update(
        made.id, name="new", event_types=["response.failed", "batch.completed", "response.failed"]
    )
    assert changed.updated_at is not None
    assert changed.updated_at >= made.created_at
    assert changed.to_dict() == {
        **shown,
        "name": "new",
        "event_types": ["response.failed", "batch.completed"],
        "updated_at": changed.updated_at,
    }
    assert sdk.webhooks.update(made.id, url="https://new.example/").url == "https://new.example/"
    gone = sdk.webhooks.delete(made.id)
    assert gone.to_dict() == {
        "id": made.id,
        "object": "webhook_endpoint.deleted",
        "deleted": True,
    }
    with pytest.raises(openai.NotFoundError):
        sdk.webhooks.retrieve(made.id)


def test_lists_are_pages_newest_first(sdk: OpenAI, plain: httpx2.Client) -> None:
    made = [create(sdk, name=str(number)) for number in range(5)]
    newest_first = [one.id for one in reversed(made)]
    page = sdk.webhooks.list(limit=2)
    assert [one.id for one in page.data] == newest_first[:2]
    assert page.has_more
    assert [one.id for one in sdk.webhooks.list(limit=2)] == newest_first
    assert all(isinstance(one, WebhookEndpoint) for one in page.data)
    body = plain.get("/v1/webhook_endpoints", params={"after": newest_first[3]}).json()
    assert body == {
        "object": "list",
        "data": [sdk.webhooks.retrieve(newest_first[4]).to_dict()],
        "first_id": newest_first[4],
        "last_id": newest_first[4],
        "has_more": False,
    }
    assert "signing_secret" not in body["data"][0]
    for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"after": "whe_x"}):
        refused = plain.get("/v1/webhook_endpoints", params=query)
        assert (refused.status_code, error_of(refused)["param"]) == (400, next(iter(query)))
    assert plain.get("/v1/webhook_endpoints", params={"odd": "1"}).status_code == 400


def test_the_events_that_happen_here(sdk: OpenAI) -> None:
    found = sdk.webhooks.event_types.list()
    assert found.to_dict() == {
        "object": "list",
        "data": [f"response.{end}" for end in ("completed", "failed", "cancelled", "incomplete")],
    }


def test_another_project_sees_nothing(live: LiveServer, sdk: OpenAI) -> None:
    """R-29: like an unknown id, to the letter."""
    made = create(sdk)
    with client_of(live, OTHER_KEY) as other:
        assert other.get("/v1/webhook_endpoints").json()["data"] == []
        calls: list[tuple[str, str, dict[str, Any] | None]] = [
            ("GET", "", None),
            ("POST", "", {"name": "x"}),
            ("DELETE", "", None),
            ("POST", "/rotate_secret", {}),
            ("POST", "/test", {"event_type": COMPLETED}),
        ]
        for method, path, body in calls:
            answers = [
                other.request(method, f"/v1/webhook_endpoints/{id_}{path}", json=body)
                for id_ in (made.id, UNKNOWN)
            ]
            assert [answer.status_code for answer in answers] == [404, 404]
            texts = [error_of(answer)["message"] for answer in answers]
            assert texts[0].replace(made.id, UNKNOWN) == texts[1]
    assert sdk.webhooks.retrieve(made.id).name == "hook"


@pytest.mark.parametrize("path", ["webhook_endpoints", "webhook_event_types"])
def test_a_key_is_needed(live: LiveServer, path: str) -> None:
    with client_of(live, None) as nobody:
        assert nobody.get(f"/v1/{path}").status_code == 401


GOOD: Final = {"name": "hook", "url": URL, "event_types": [COMPLETED]}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"name": None}, "name", "invalid_type"),
        ({"name": ""}, "name", "empty_string"),
        ({"name": "x" * 257}, "name", "string_above_max_length"),
        ({"name": 1}, "name", "invalid_type"),
        ({"name": "a\0b"}, "name", "invalid_value"),
        ({"url": ...}, "url", "missing_required_parameter"),
        ({"url": "hooks.example.com"}, "url", "invalid_value"),
        ({"url": "ftp://example.com/"}, "url", "invalid_value"),
        ({"url": "https://user@example.com/"}, "url", "invalid_value"),
        ({"url": "https://example.com\\@x/"}, "url", "invalid_value"),
        ({"url": "http://10.0.0.1/"}, "url", "invalid_value"),
        ({"url": "http://169.254.169.254/"}, "url", "invalid_value"),
        ({"url": "http://[::1]/"}, "url", "invalid_value"),
        ({"url": "http://2130706433/"}, "url", "invalid_value"),
        ({"url": "http://intranet.localhost:1/"}, "url", "invalid_value"),
        ({"url": "https://example.com/" + "x" * 2048}, "url", "string_above_max_length"),
        ({"event_types": []}, "event_types", "empty_array"),
        ({"event_types": COMPLETED}, "event_types", "invalid_type"),
        ({"event_types": [COMPLETED, "response.created"]}, "event_types[1]", "invalid_value"),
        ({"event_types": [COMPLETED] * 28}, "event_types", "array_above_max_length"),
        ({"secret": "x"}, "secret", "unknown_parameter"),
    ],
)
def test_a_bad_body_is_named(
    sdk: OpenAI, plain: httpx2.Client, change: Mapping[str, Any], param: str, code: str
) -> None:
    body = {key: value for key, value in {**GOOD, **change}.items() if value is not ...}
    refused = plain.post("/v1/webhook_endpoints", json=body)
    error = error_of(refused)
    assert (refused.status_code, error["param"], error["code"]) == (400, param, code)
    if change.get("name", "") is None or ... in change.values():
        return
    made = create(sdk)
    update = plain.post(f"/v1/webhook_endpoints/{made.id}", json=change)
    assert (update.status_code, error_of(update)["param"]) == (400, param)
    assert sdk.webhooks.retrieve(made.id).updated_at == made.updated_at


def test_bad_bodies_of_the_other_calls(sdk: OpenAI, plain: httpx2.Client) -> None:
    one = f"/v1/webhook_endpoints/{create(sdk).id}"
    cases: list[tuple[str, Any, str | None]] = [
        ("/test", {}, "event_type"),
        ("/test", {"event_type": "response.created"}, "event_type"),
        ("/rotate_secret", {"keep_old_secret_active_for_24_hours": 1}, None),
        ("/rotate_secret", {"keep": True}, "keep"),
        ("", [], None),
    ]
    for path, body, param in cases:
        refused = plain.post(one + path, json=body)
        assert refused.status_code == 400
        assert param is None or error_of(refused)["param"] == param
    for content, status in ((b"", 400), (b"{", 400), (b'{"name":"' + b"x" * 65536 + b'"}', 413)):
        refused = plain.post(one, content=content, headers={"content-type": "application/json"})
        assert refused.status_code == status
        error_of(refused)
    assert plain.post(one, content=b"{}").status_code == 415


def test_a_project_has_a_hundred_endpoints_at_most(sdk: OpenAI) -> None:
    for number in range(100):
        create(sdk, name=str(number))
    with pytest.raises(openai.BadRequestError, match="limit"):
        create(sdk)


def test_a_test_event_arrives_signed(sdk: OpenAI) -> None:
    with Receiver(200, 410) as receiver:
        made = create(sdk, receiver.url)
        result = sdk.webhooks.test(made.id, event_type="response.completed")
        assert result.to_dict() == {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": made.id,
            "event_type": COMPLETED,
            "status_code": 200,
            "success": True,
        }
        assert sdk.webhooks.test(made.id, event_type="batch.completed").status_code == 410
        first, second = receiver.wait(2)
    event = unwrap(first, made.signing_secret or "")
    assert isinstance(event, ResponseCompletedWebhookEvent)
    assert event.to_dict() == first.event
    assert (event.id[:4], event.data.id[:5]) == ("evt_", "resp_")
    assert first.path == "/hook"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["user-agent"].startswith("Antiphon/")
    assert second.event["type"] == "batch.completed"
    assert second.id != first.id
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrap(first, "whsec_" + "A" * 43 + "=")


def test_a_test_without_an_answer_says_nothing_of_the_reason(sdk: OpenAI, live: LiveServer) -> None:
    """R-94: a closed port, a private address behind a name, a name that is none."""
    with Receiver() as receiver:
        closed = receiver.url
    texts = set()
    for url in (closed, f"http://{os.uname().nodename}:1/", "http://name.invalid/"):
        made = create(sdk, url)
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.webhooks.test(made.id, event_type="response.completed")
        texts.add(str(refused.value).replace(made.id, ""))
    assert len(texts) == 1
    assert "closed" not in live.log()
    assert "name.invalid/" not in live.log(), "a URL may be a secret"


def test_too_many_tests_at_once(sdk: OpenAI, plain: httpx2.Client) -> None:
    """R-93: 429, and when to come back."""
    with Receiver(*[-30] * 4) as receiver, ThreadPoolExecutor(4) as pool:
        path = f"/v1/webhook_endpoints/{create(sdk, receiver.url).id}/test"
        body = {"event_type": COMPLETED}
        slow = [pool.submit(plain.post, path, json=body) for _ in range(4)]
        receiver.wait(4)
        refused = plain.post(path, json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert error_of(refused)["code"] == "rate_limit_exceeded"
        receiver.leave()
        assert [one.result().status_code for one in slow] == [200] * 4


def test_a_rotated_secret_signs_beside_the_old_one_if_asked(sdk: OpenAI) -> None:
    with Receiver() as receiver:
        made = create(sdk, receiver.url)
        kept = sdk.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        sdk.webhooks.test(made.id, event_type="response.completed")
        alone = sdk.webhooks.rotate_secret(made.id)
        sdk.webhooks.test(made.id, event_type="response.completed")
        both, last = receiver.wait(2)
    secrets = [one.signing_secret or "" for one in (made, kept, alone)]
    assert len(set(secrets)) == 3
    assert alone.signing_secret_hint == f"whsec_...{secrets[2][-4:]}"
    for secret in secrets[:2]:
        unwrap(both, secret)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            unwrap(last, secret)
    unwrap(last, secrets[2])


def test_a_secret_is_rotated_without_a_body(sdk: OpenAI, plain: httpx2.Client) -> None:
    made = create(sdk)
    rotated = plain.post(f"/v1/webhook_endpoints/{made.id}/rotate_secret")
    assert rotated.status_code == 200
    assert rotated.json()["signing_secret"] != made.signing_secret


def ended(client: OpenAI, text: str = "Hi") -> str:
    """The id of a background response."""
    made = client.responses.create(model="simulator", input=text, background=True)
    assert made.status == "queued"
    return made.id


def test_the_end_of_a_background_response_is_delivered(sdk: OpenAI) -> None:
    with Receiver() as receiver:
        made = create(sdk, receiver.url)
        sdk.responses.create(model="simulator", input="in the foreground")
        id_ = ended(sdk)
        (got,) = receiver.wait(1)
        event = unwrap(got, made.signing_secret or "")
        assert isinstance(event, ResponseCompletedWebhookEvent)
        assert event.data.id == id_
        # Committed before it was told (design §5).
        assert sdk.responses.retrieve(id_).status == "completed"
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Hi", "completed"),
        ("[[tokens=5]] [[length]]", "incomplete"),
        ("[[fail=500]]", "failed"),
        ("[[wait=30s]]", "cancelled"),
    ],
)
def test_every_end_has_its_event(live: LiveServer, sdk: OpenAI, text: str, end: str) -> None:
    """Must show 4: GET and webhook agree; and nobody else is told."""
    with Receiver() as receiver, Receiver() as elsewhere, sdk_of(live, OTHER_KEY) as other:
        foreign = create(other, elsewhere.url)
        made = sdk.webhooks.create(
            name="hook",
            url=receiver.url,
            event_types=[
                "response.completed",
                "response.incomplete",
                "response.failed",
                "response.cancelled",
            ],
        )
        id_ = ended(sdk, text)
        if end == "cancelled":
            assert sdk.responses.cancel(id_).status == "cancelled"
        (got,) = receiver.wait(1)
        event = unwrap(got, made.signing_secret or "")
        assert (event.type, event.to_dict()["data"]) == (f"response.{end}", {"id": id_})
        assert sdk.responses.retrieve(id_).status == end
        other.webhooks.delete(foreign.id)
    assert (len(receiver.got), len(elsewhere.got)) == (1, 0)


def failures(server: LiveServer, count: int) -> None:
    """Wait until the server has noted down so many in its outbox."""
    for _ in range(400):
        if server.log().count("webhook_failed") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(server.log())


def test_two_failures_a_kill_and_one_success(tmp_path: Path) -> None:
    """Issue 2/8, must show 7: exactly one success, valid signature, same id."""
    with Receiver(500, 503) as receiver:
        with serve(tmp_path, env=ENV) as first, sdk_of(first) as client:
            made = create(client, receiver.url)
            id_ = ended(client)
            failures(first, 1)
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
        with serve(tmp_path, env=ENV) as second:
            failures(second, 2)
        with serve(tmp_path, env=ENV) as third, sdk_of(third) as client:
            got = receiver.wait(3, 20)
            assert client.responses.retrieve(id_).status == "completed"
    assert len(receiver.got) == 3
    assert len({one.id for one in got}) == 1
    assert {one.event["data"]["id"] for one in got} == {id_}
    for one in got:
        unwrap(one, made.signing_secret or "")
    with closing(sqlite3.connect(tmp_path / "antiphon.db")) as connection:
        assert connection.execute("SELECT count(*) FROM webhook_deliveries").fetchone() == (0,)


FIXED: Final = """
[[webhooks]]
name = "ops"
url = "{url}"
secret_env = "OPS_SECRET"
project = "first"

[[webhooks]]
url = "https://elsewhere.example/"
secret_env = "OPS_SECRET"
event_types = ["response.failed"]
project = "other"
"""


def test_the_endpoints_of_the_configuration(tmp_path: Path) -> None:
    secret = "a secret of the operator"
    with (
        Receiver() as receiver,
        serve(tmp_path, FIXED.format(url=receiver.url), {**ENV, "OPS_SECRET": secret}) as server,
        sdk_of(server) as client,
    ):
        (fixed,) = client.webhooks.list()
        assert (fixed.name, fixed.url) == ("ops", receiver.url)
        assert fixed.signing_secret_hint == "whsec_...ator"
        calls = (
            lambda: client.webhooks.update(fixed.id, name="x"),
            lambda: client.webhooks.rotate_secret(fixed.id),
            lambda: client.webhooks.delete(fixed.id),
        )
        for call in calls:
            with pytest.raises(openai.BadRequestError, match="configuration"):
                call()
        assert client.webhooks.test(fixed.id, event_type="response.failed").status_code == 200
        unwrap(receiver.wait(1)[0], secret)
        id_ = ended(client)
        assert unwrap(receiver.wait(2)[1], secret).to_dict()["data"] == {"id": id_}
    with serve(tmp_path, "", ENV) as server, sdk_of(server) as client:
        assert client.webhooks.list().data == []


def test_a_private_receiver_gets_nothing_unless_it_is_allowed(tmp_path: Path) -> None:
    """R-93: also when its name was allowed when the endpoint was made."""
    with Receiver() as receiver:
        with serve(tmp_path, env=ENV) as server, sdk_of(server) as client:
            create(client, receiver.url)
        with serve(tmp_path) as server, sdk_of(server) as client:
            (endpoint,) = client.webhooks.list()
            with pytest.raises(openai.BadRequestError, match="could not be reached"):
                client.webhooks.test(endpoint.id, event_type="response.completed")
    assert receiver.got == []
