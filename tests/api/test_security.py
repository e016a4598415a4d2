"""What the live server must show of sections C and M: keys, headers, CORS, logs, error texts."""

import re
import socket
from collections.abc import Iterator

import httpx2
import pytest

from tests.api.bad_bodies import VALUES
from tests.api.raw import replies
from tests.api.talk import UNKNOWN, Json, client_of, create, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, KEY, LiveServer, serve

#: A text that occurs nowhere else.
MARKER = "xylophone-4713-zeugma"
ORIGIN = "https://app.example"

GUARDED = [
    ("POST", "/v1/responses"),
    ("GET", f"/v1/responses/{UNKNOWN}"),
    ("DELETE", f"/v1/responses/{UNKNOWN}"),
    ("POST", f"/v1/responses/{UNKNOWN}/cancel"),
    ("GET", f"/v1/responses/{UNKNOWN}/input_items"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/simulator"),
    ("GET", "/metrics"),
]
OPEN = ["/health/live", "/health/ready", "/docs", "/openapi.json", "/nothing", "/v1/nothing"]


@pytest.fixture(scope="module")
def watched(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server with an access log in JSON, CORS for one origin, and no descriptions."""
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    env = {
        "ANTIPHON_ACCESS_LOG": "true",
        "ANTIPHON_LOG_FORMAT": "json",
        "ANTIPHON_LOG_LEVEL": "debug",
        "ANTIPHON_CORS_ORIGINS": ORIGIN,
        "ANTIPHON_DOCS": "false",
        "ANTIPHON_PUBLIC_METRICS": "true",
    }
    with serve(tmp_path_factory.mktemp("watched"), toml, env) as live:
        yield live


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_without_a_key(method: str, path: str, server: LiveServer) -> None:
    """R-27, R-38: also metrics."""
    with client_of(server, None) as stranger:
        reply = stranger.request(method, path)
    assert reply.status_code == 401
    error = error_of(reply)
    assert error["message"].startswith("You didn't provide an API key.")
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["connection"] == "close"


_WRONG = "sk-antiphon-" + "Wr0ng" * 8 + "tail"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_with_a_wrong_key(method: str, path: str, server: LiveServer) -> None:
    with client_of(server, _WRONG) as stranger:
        reply = stranger.request(method, path)
    assert reply.status_code == 401
    error = error_of(reply)
    assert error["code"] == "invalid_api_key"
    assert "sk-antiphon-****tail" in error["message"]
    assert "Wr0ng" not in reply.text


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (b"Authorization: Bearer\r\n", None),
        (b"Authorization: Bearer \r\n", None),
        (b"Authorization: Basic c2s6eA==\r\n", None),
        (b"Authorization: %s\r\n" % KEY.encode(), None),
        (b"Authorization: Token %s\r\n" % KEY.encode(), None),
        (b"X-Api-Key: %s\r\n" % KEY.encode(), None),
        (b"Api-Key: %s\r\n" % KEY.encode(), None),
        (b"Cookie: Authorization=Bearer %s\r\n" % KEY.encode(), None),
        (b"Proxy-Authorization: Bearer %s\r\n" % KEY.encode(), None),
        (b"Authorization: Bearer %sx\r\n" % KEY.encode(), "invalid_api_key"),
        (b"Authorization: Bearer %s\r\n" % KEY[:-1].encode(), "invalid_api_key"),
        (b"Authorization: Bearer %s\r\n" % KEY.upper().encode(), "invalid_api_key"),
        (b"Authorization: Bearer %s, Bearer x\r\n" % KEY.encode(), "invalid_api_key"),
        (b"Authorization: Bearer %s\r\n" % (b"x" * 10_000), "invalid_api_key"),
        (b"Authorization: Bearer \xff\xfe\r\n", "invalid_api_key"),
        (b"Authorization: Bearer ' OR 1=1 --\r\n", "invalid_api_key"),
        (
            b"Authorization: Bearer %s\r\nAuthorization: Bearer x\r\n" % KEY.encode(),
            "invalid_api_key",
        ),
    ],
)
def test_odd_credentials(fields: bytes, code: str | None, server: LiveServer) -> None:
    """R-27: 401 at once, before the body, and the key is not repeated."""
    with client_of(server) as client:
        sock = client_socket(server)
        with sock:
            sock.sendall(
                b"POST /v1/responses?api_key=%s HTTP/1.1\r\nHost: a\r\n" % KEY.encode()
                + b"Content-Type: application/json\r\nContent-Length: 1000000\r\n"
                + fields
                + b"\r\n"
            )
            (reply,) = replies(read(sock))
        assert reply.status == 401
        assert reply.json()["error"]["code"] == code
        assert KEY.encode() not in reply.body
        assert b"xxxxxxxx" not in reply.body
        assert client.get("/v1/models").status_code == 200


def client_socket(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def read(sock: socket.socket) -> bytes:
    """One answer; the rest of the request was never sent."""
    received = b""
    while b"}}" not in received:
        more = sock.recv(65536)
        if not more:
            break
        received += more
    return received


@pytest.mark.parametrize("field", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}"])
def test_the_scheme_has_no_case(field: str, server: LiveServer) -> None:
    with client_of(server, None) as client:
        reply = client.get("/v1/models", headers={"authorization": field.format(KEY)})
    assert reply.status_code == 200


# -- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*OPEN, "/v1/models", "/v1/responses", f"/v1/responses/{UNKNOWN}"])
@pytest.mark.parametrize("key", [KEY, None])
def test_every_answer_has_its_headers(path: str, key: str | None, server: LiveServer) -> None:
    """R-26, R-52, spec §6."""
    with client_of(server, key) as client:
        reply = client.get(path)
    assert re.fullmatch(r"req_[0-9a-f]{32}", reply.headers["x-request-id"])
    assert reply.headers["openai-version"] == "2020-10-01"
    assert reply.headers["openai-processing-ms"].isdecimal()
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers
    assert "set-cookie" not in reply.headers
    assert reply.status_code < 500


def test_a_stream_has_its_headers(client: httpx2.Client, upstream: ChatUpstream) -> None:
    reply = client.post("/v1/responses", json={"model": "m", "input": "Hi", "stream": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert b"\r" not in reply.content
    assert "\nid:" not in reply.text
    assert events(reply.text)[-1]["type"] == "response.completed"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a:99999"])
def test_the_host_field_changes_nothing(
    host: str, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-21: it is never repeated, and no address is built from it."""
    reply = client.post("/v1/responses", json={"model": "m", "input": "Hi"}, headers={"host": host})
    assert host not in reply.text + str(reply.headers)
    assert "location" not in reply.headers
    forged = {"x-forwarded-host": host, "x-forwarded-prefix": "/x", "forwarded": f"host={host}"}
    docs = client.get("/docs", headers=forged)
    assert host not in docs.text


# -- cross-origin --------------------------------------------------------------------------------


def cors_fields(reply: httpx2.Response) -> list[str]:
    return [name for name in reply.headers if name.startswith("access-control-")]


def test_cors_is_off(client: httpx2.Client) -> None:
    """R-26."""
    headers = {"origin": ORIGIN, "access-control-request-method": "POST"}
    for method, path in (("OPTIONS", "/v1/responses"), ("GET", "/v1/models")):
        reply = client.request(method, path, headers=headers)
        assert cors_fields(reply) == []
    assert client.options("/v1/responses", headers=headers).status_code == 405


def test_cors_by_setting(watched: LiveServer) -> None:
    headers = {"origin": ORIGIN, "access-control-request-method": "POST"}
    with client_of(watched, None) as browser:
        preflight = browser.options("/v1/responses", headers=headers)
        refused = browser.get("/v1/models", headers={"origin": ORIGIN})
        stranger = browser.options(
            "/v1/responses", headers={**headers, "origin": "https://evil.example"}
        )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in preflight.headers
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    exposed = refused.headers["access-control-expose-headers"].split(", ")
    ours = {"x-antiphon-ignored", "x-antiphon-truncated", "x-antiphon-token-count"}
    assert {"x-request-id", "idempotent-replayed", *ours} <= set(exposed)
    assert cors_fields(stranger) == []


def test_the_api_describes_itself(server: LiveServer) -> None:
    """To anybody, before a key."""
    with client_of(server, None) as stranger:
        page, first = stranger.get("/docs"), stranger.get("/openapi.json")
        again = stranger.get("/openapi.json")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'url: "openapi.json"' in page.text
    assert first.headers["content-type"] == "application/json"
    assert first.content == again.content
    described = first.json()["paths"]["/v1/responses/{response_id}/input_items"]["get"]
    assert described["description"].startswith("History and input of a response")
    limits = [one for one in described["parameters"] if one["name"] == "limit"]
    limit = limits[0]["schema"]
    assert (limit["default"], limit["minimum"], limit["maximum"]) == (20, 1, 100)


def test_what_settings_open_and_close(watched: LiveServer) -> None:
    with client_of(watched, None) as stranger:
        assert stranger.get("/docs").status_code == 404
        assert stranger.get("/openapi.json").status_code == 404
        metrics = stranger.get("/metrics")
    assert metrics.status_code == 200
    assert "antiphon" in metrics.text


# -- texts ---------------------------------------------------------------------------------------

#: What a message of ours never holds: paths, traces, modules, statements.
_INSIDE = re.compile(
    r"Traceback|\.py\b|site-packages|/home/|/usr/|/tmp/|/work/|SELECT |INSERT |sqlite|pydantic"
    r"|starlette|uvicorn|aiohttp|0x[0-9a-f]{8}",
    re.IGNORECASE,
)


def test_error_texts_tell_nothing_of_the_inside(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-129."""
    headers = {"content-type": "application/json"}
    told = [client.post("/v1/responses", content=bad.body, headers=headers) for bad in VALUES]
    told += [client.request(method, path) for method, path in GUARDED]
    told += [client.get(path) for path in ("/nothing", "/v1/responses/x", "/v1/responses")]
    upstream.script(Reply.json({"error": {"message": "no"}}, 500))
    told.append(client.post("/v1/responses", json={"model": "m", "input": "Hi"}))
    upstream.script(Reply.chat("Fine"))
    create(client)
    texts = [reply.text for reply in told if reply.status_code >= 400]
    assert len(texts) > 60
    assert [text for text in texts if _INSIDE.search(text)] == []


def test_metrics_name_nobody(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-138: no tenant, model, id or key in a label."""
    made = create(client, f"{MARKER}-model", user=MARKER, metadata={MARKER: MARKER})
    text = client.get("/metrics").text
    assert "antiphon" in text
    for word in (MARKER, made["id"], KEY, "first", "other"):
        assert f'"{word}' not in text


def test_the_log_holds_no_key_no_body_and_no_query(
    watched: LiveServer, upstream: ChatUpstream
) -> None:
    """R-24, R-130: at the most talkative level."""
    upstream.script(Reply.chat(MARKER))
    secret = "sk-antiphon-" + "S3cret" * 7
    with client_of(watched) as client:
        body: Json = {
            "model": "m",
            "input": MARKER,
            "instructions": MARKER,
            "metadata": {"k": MARKER},
        }
        made = create(client, **body)
        assert made["output_text"] == MARKER
        client.post("/v1/responses", json={**body, "stream": True})
        client.post("/v1/responses", json={**body, "temperature": MARKER})
        client.post("/v1/responses", content=MARKER.encode())
        client.get(f"/v1/responses/{made['id']}?{MARKER}={secret}")
        client.get(f"/v1/models/{secret}")
        client.get("/v1/responses/x%0d%0aINJECTED%1b[31m%e2%80%ae")
        client.get("/v1/models", headers={"x-client-request-id": f"{MARKER}", "cookie": secret})
    with client_of(watched, secret) as stranger:
        stranger.get("/v1/models")
    log = watched.log()
    assert f"/v1/responses/{made['id']}" in log, "there is an access log"
    for word in (MARKER, KEY, secret, "S3cretS3cret"):
        assert word not in log
    assert "\x1b" not in log
    assert "\u202e" not in log
    assert not any(line.startswith("INJECTED") for line in log.splitlines())
    lines = [line for line in log.splitlines() if line]
    assert [line for line in lines if not line.startswith("{")] == []
