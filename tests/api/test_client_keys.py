"""Keys that clients bring for the upstream (`client_key`; R-41, R-42, R-92, R-130)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from antiphon.app.backends import backends_of, routes_of
from antiphon.config import ConfigError, load_config
from antiphon.settings import Settings
from tests.api.talk import client_of, error_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.conformance.responses import ResponsesWire
from tests.conformance.wire import Turn
from tests.live import KEY, LiveServer, serve

HEADER: Final = "x-antiphon-upstream-key"
MINE: Final = "my-own-upstream-key"
THEIRS: Final = "key-of-the-operator"
TOML: Final = """
[[backends]]
name = "mine"
kind = "chat_completions"
base_url = "{base_url}"
client_key = true
models = ["mine"]
max_retries = 0

[[backends]]
name = "either"
kind = "chat_completions"
base_url = "{base_url}"
api_key_env = "THEIR_KEY"
client_key = true
models = ["either"]

[[backends]]
name = "theirs"
kind = "chat_completions"
base_url = "{base_url}"
api_key_env = "THEIR_KEY"
models = ["theirs"]

[[backends]]
name = "claude"
kind = "anthropic"
base_url = "{base_url}"
client_key = true
models = ["claude-x"]

[[backends]]
name = "google"
kind = "gemini"
base_url = "{base_url}"
client_key = true
models = ["gemini-x"]

[[backends]]
name = "responses"
kind = "responses"
base_url = "{base_url}"
client_key = true
models = ["responses-x"]
"""


@pytest.fixture
def live(tmp_path: Path, upstream: ChatUpstream) -> Iterator[LiveServer]:
    toml = TOML.format(base_url=upstream.base_url)
    with serve(tmp_path, toml, {"THEIR_KEY": THEIRS}) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def ask(api: httpx2.Client, model: str, key: str | None = None, **body: Any) -> httpx2.Response:
    headers = {} if key is None else {HEADER: key}
    return api.post("/v1/responses", json={"model": model, "input": "Hi", **body}, headers=headers)


@pytest.mark.parametrize(
    ("model", "sent", "used"),
    [
        ("mine", MINE, MINE),
        ("either", MINE, MINE),
        ("either", None, THEIRS),
        ("theirs", None, THEIRS),
        ("theirs", MINE, THEIRS),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_whose_key_is_used(
    api: httpx2.Client,
    upstream: ChatUpstream,
    model: str,
    sent: str | None,
    used: str,
    stream: bool,
) -> None:
    """Only where the operator allows it."""
    assert ask(api, model, sent, stream=stream).status_code == 200
    (request,) = upstream.requests
    assert request.headers["authorization"] == f"Bearer {used}"
    assert HEADER not in request.headers
    assert KEY not in str(request.headers)


@pytest.mark.parametrize(
    ("model", "header", "value"),
    [
        ("claude-x", "x-api-key", MINE),
        ("gemini-x", "x-goog-api-key", MINE),
        ("responses-x", "authorization", f"Bearer {MINE}"),
    ],
)
def test_every_kind_of_server_has_it_as_it_wants(
    api: httpx2.Client, upstream: ChatUpstream, model: str, header: str, value: str
) -> None:
    ask(api, model, MINE)
    assert upstream.requests[0].headers[header] == value


def test_without_a_key_nobody_is_asked(api: httpx2.Client, upstream: ChatUpstream) -> None:
    for stream in (False, True):
        reply = ask(api, "mine", stream=stream)
        assert reply.status_code == 400
        assert (error_of(reply)["code"], error_of(reply)["param"]) == (
            "missing_upstream_key",
            HEADER,
        )
    assert upstream.requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_accepted_is_the_clients(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, status: int
) -> None:
    upstream.script(Reply.json({"error": {"message": f"Incorrect key {MINE}"}}, status))
    reply = ask(api, "mine", MINE)
    assert reply.status_code == 400
    assert error_of(reply)["code"] == "invalid_upstream_key"
    assert MINE not in reply.text
    assert MINE not in live.log(), "R-130"
    assert ask(api, "theirs", MINE).status_code == 502, "the operator's own (R-41)"


@pytest.mark.parametrize("key", ["", "with a space", "a\tb", "ä"])
def test_what_is_no_key(api: httpx2.Client, key: str) -> None:
    headers = [(HEADER.encode(), key.encode("latin-1"))]
    reply = api.post("/v1/responses", json={"model": "mine", "input": "Hi"}, headers=headers)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == HEADER


def test_it_is_not_kept(live: LiveServer, api: httpx2.Client, upstream: ChatUpstream) -> None:
    """So a background response cannot have it; nothing of it is in the database."""
    reply = ask(api, "mine", MINE, background=True)
    assert (reply.status_code, error_of(reply)["param"]) == (400, HEADER)
    assert upstream.requests == []
    assert ask(api, "mine", MINE).status_code == 200
    idempotent = {HEADER: MINE, "idempotency-key": "one"}
    body = {"model": "mine", "input": "Hi"}
    assert api.post("/v1/responses", json=body, headers=idempotent).status_code == 200
    assert [request.headers["authorization"] for request in upstream.requests] == [
        f"Bearer {MINE}"
    ] * 2
    kept = b"".join(path.read_bytes() for path in live.folder.glob("antiphon.db*"))
    assert MINE.encode() not in kept


def test_a_tool_loop_and_chat_completions_use_it(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.calls(("web_search", {})), Reply.chat("Done"))
    body = {"model": "mine", "messages": []}
    assert api.post("/v1/chat/completions", json=body, headers={HEADER: MINE}).status_code == 200
    assert upstream.requests[0].headers["authorization"] == f"Bearer {MINE}"
    assert api.post("/v1/chat/completions", json=body).status_code == 400


@pytest.mark.parametrize(("second", "shown"), [(MINE, True), ("somebody-elses-key", False)])
def test_reasoning_is_for_the_account_that_it_was_made_for(
    api: httpx2.Client, upstream: ChatUpstream, second: str, *, shown: bool
) -> None:
    """Servers seal it for one organisation, and refuse it from another one."""
    wire = ResponsesWire()
    thinking = Turn((), ["Hm."], "c2ln", [("f", {})])
    upstream.script(wire.reply(thinking), wire.reply(Turn(["Done"])))
    first = ask(api, "responses-x", MINE).json()
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
    chained = {"previous_response_id": first["id"], "input": [result]}
    assert ask(api, "responses-x", second, **chained).status_code == 200
    kinds = [item["type"] for item in upstream.requests[-1].json["input"]]
    assert ("reasoning" in kinds) is shown


ROUTED: Final = """
[[backends]]
name = "a"
kind = "responses"
api_key_env = "THEIR_KEY"
client_key = true

[[backends]]
name = "b"
kind = "{kind}"
{other}

[[routes]]
model = "m"
targets = ["a"]
fallbacks = ["{fallback}"]
"""
OPENAI: Final = 'base_url = "https://api.openai.com/v1"'


@pytest.mark.parametrize(
    ("kind", "other", "fallback", "says"),
    [
        ("chat_completions", OPENAI, "b", "with and without client_key"),
        ("simulator", "", "simulator", "with and without client_key"),
        ("anthropic", "client_key = true", "b", "on several servers"),
        ("gemini", "client_key = true", "b", "on several servers"),
        ("responses", 'client_key = true\nbase_url = "http://api.openai.com/v1"', "b", "several"),
        ("chat_completions", f"client_key = true\n{OPENAI}", "b", None),
        ("responses", f"client_key = true\n{OPENAI}", "b", None),
    ],
)
def test_a_route_takes_a_key_to_one_server_and_spends_nobody_elses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    other: str,
    fallback: str,
    says: str | None,
) -> None:
    """R-92, R-132: what could leak does not start."""
    monkeypatch.setenv("THEIR_KEY", THEIRS)
    path = tmp_path / "antiphon.toml"
    path.write_text(ROUTED.format(kind=kind, other=other, fallback=fallback), encoding="utf-8")
    config = load_config(path)
    table = backends_of(Settings(), config)
    if says is None:
        assert [route.name for route in routes_of(config, table)] == ["m"]
    else:
        with pytest.raises(ConfigError, match=says):
            routes_of(config, table)
