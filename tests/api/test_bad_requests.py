"""Bad requests get 4xx in OpenAI's shape, and cost nobody else anything (must show 6).

R-01 to R-12, R-15, R-16. The upstream is never called, no answer takes 5 s. That nobody else has to
wait (R-118) is in `test_heavy_requests`.
"""

import httpx2
import pytest

from tests.api.bad_bodies import BODIES, RAW, Bad
from tests.api.talk import UNKNOWN, create, error_of
from tests.backends.upstream import ChatUpstream

JSON = {"content-type": "application/json"}


def test_there_are_hundreds_of_them() -> None:
    assert len(BODIES) >= 500
    assert len({bad.name for bad in BODIES}) == len(BODIES)


@pytest.mark.parametrize("bad", BODIES, ids=[bad.name for bad in BODIES])
def test_bad_body(bad: Bad, client: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-01 to R-08, R-10 to R-12."""
    reply = client.post("/v1/responses", content=bad.body, headers=JSON)
    assert reply.status_code == 400, reply.text
    error = error_of(reply)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == bad.param, error["message"]
    if bad.code is not None:
        assert error["code"] == bad.code, error["message"]
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.elapsed.total_seconds() < 5
    assert upstream.requests == []


@pytest.mark.parametrize("bad", RAW, ids=[bad.name for bad in RAW])
def test_bad_body_of_a_stream(bad: Bad, client: httpx2.Client, upstream: ChatUpstream) -> None:
    """What can be checked is checked before the first byte (design §5)."""
    headers = {**JSON, "accept": "text/event-stream"}
    body = bad.body.replace(b'{"model"', b'{"stream":true,"model"', 1)
    reply = client.post("/v1/responses", content=body, headers=headers)
    assert reply.status_code == 400, reply.text
    assert reply.headers["content-type"] == "application/json"
    error_of(reply)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 415, "unsupported_content_type"),
        ({"content-type": "text/plain"}, 415, "unsupported_content_type"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_content_type"),
        ({"content-type": "multipart/form-data; boundary=x"}, 415, "unsupported_content_type"),
        ({"content-type": "application/jsonp"}, 415, "unsupported_content_type"),
        ({"content-type": "application/json; charset=utf-16"}, 415, "unsupported_content_type"),
        ({**JSON, "content-encoding": "gzip"}, 415, "unsupported_media_type"),
        ({**JSON, "content-encoding": "br"}, 415, "unsupported_media_type"),
        ({**JSON, "content-encoding": "zstd, gzip"}, 415, "unsupported_media_type"),
        ({**JSON, "x-client-request-id": "x" * 513}, 400, None),
    ],
)
def test_bad_header(
    headers: dict[str, str],
    status: int,
    code: str | None,
    client: httpx2.Client,
    upstream: ChatUpstream,
) -> None:
    """R-15."""
    reply = client.post("/v1/responses", content=b'{"model":"m","input":"x"}', headers=headers)
    assert reply.status_code == status
    assert error_of(reply)["code"] == code
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=abc", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("order=x", "order"),
        ("order=", "order"),
        ("order=ASC", "order"),
        ("after=msg_unknown", "after"),
        ("after=%00", "after"),
        ("include[]=nonsense", "include[0]"),
        ("include[]=message.input_image.image_url&include[]=x", "include[1]"),
    ],
)
def test_bad_query_of_input_items(query: str, param: str, client: httpx2.Client) -> None:
    """R-02, R-04: also what stands in a query is checked and named."""
    made = create(client)
    reply = client.get(f"/v1/responses/{made['id']}/input_items?{query}")
    assert reply.status_code == 400, reply.text
    assert error_of(reply)["param"] == param


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=true", "stream"),
        ("stream=maybe", "stream"),
        ("starting_after=x", "starting_after"),
        ("starting_after=1.5", "starting_after"),
        ("include[]=nonsense", "include[0]"),
        ("include_obfuscation=7", "include_obfuscation"),
    ],
)
def test_bad_query_of_a_response(query: str, param: str, client: httpx2.Client) -> None:
    made = create(client)
    reply = client.get(f"/v1/responses/{made['id']}?{query}")
    assert reply.status_code == 400, reply.text
    assert error_of(reply)["param"] == param


_BAD_IDS = ["resp", "resp_a.b", "resp_%00", "resp_é", "msg_1", "%2e%2e", "resp_" + "x" * 2000, "'"]
_BY_ID = [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")]


@pytest.mark.parametrize("bad_id", _BAD_IDS)
@pytest.mark.parametrize(
    ("method", "suffix"),
    [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")],
)
def test_bad_id(method: str, suffix: str, bad_id: str, client: httpx2.Client) -> None:
    """Ids of another shape are 400 (spec §2.1)."""
    reply = client.request(method, f"/v1/responses/{bad_id}{suffix}")
    assert reply.status_code == 400, reply.text
    assert error_of(reply)["param"] == "response_id"


@pytest.mark.parametrize(
    ("method", "suffix"),
    [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")],
)
def test_unknown_id(method: str, suffix: str, client: httpx2.Client) -> None:
    reply = client.request(method, f"/v1/responses/{UNKNOWN}{suffix}")
    assert reply.status_code == 404
    error = error_of(reply)
    assert error["message"] == f"Response with id '{UNKNOWN}' not found."
    assert (error["param"], error["code"]) == (None, None)


def test_a_synchronous_response_cannot_be_cancelled(client: httpx2.Client) -> None:
    """R-58."""
    made = create(client)
    reply = client.post(f"/v1/responses/{made['id']}/cancel")
    assert reply.status_code == 400
    assert error_of(reply)["message"] == "Cannot cancel a synchronous response."


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/nothing", 404, "Invalid URL (GET /v1/nothing)"),
        ("GET", "/", 404, "Invalid URL (GET /)"),
        ("POST", "/v1/responses/", 404, "Invalid URL (POST /v1/responses/)"),
        ("DELETE", "/v1/responses", 405, "Not allowed to DELETE on /v1/responses."),
        ("PUT", "/v1/responses", 405, "Not allowed to PUT on /v1/responses."),
        ("PATCH", f"/v1/responses/{UNKNOWN}", 405, "Not allowed to PATCH on"),
        ("POST", "/v1/models", 405, "Not allowed to POST on /v1/models."),
        ("DELETE", "/health/live", 405, "Not allowed to DELETE on /health/live."),
    ],
)
def test_bad_url(method: str, path: str, status: int, message: str, client: httpx2.Client) -> None:
    """R-16: the router's errors are in OpenAI's envelope too."""
    reply = client.request(method, path)
    assert reply.status_code == status
    error = error_of(reply)
    assert error["message"].startswith(message)
    assert error["code"] == ("method_not_supported" if status == 405 else None)
    assert status != 405 or reply.headers["allow"]


def test_limits_themselves_are_fine(client: httpx2.Client) -> None:
    """R-14: a value at the limit is accepted."""
    metadata = {f"{index:064d}": "v" * 512 for index in range(16)}
    made = create(
        client,
        metadata=metadata,
        temperature=2,
        top_p=1,
        top_logprobs=20,
        max_output_tokens=16,
        safety_identifier="x" * 128,
        prompt_cache_key="x" * 64,
        tools=[{"type": "function", "name": f"{index:0128d}"} for index in range(128)],
    )
    assert made["metadata"] == metadata


def test_text_with_nul_is_kept(client: httpx2.Client) -> None:
    """R-11: in a text it is a character like others."""
    made = create(client, input="a\0b", instructions="\0")
    listed = client.get(f"/v1/responses/{made['id']}/input_items").json()["data"]
    assert listed[0]["content"][0]["text"] == "a\0b"
