"""``/v1/chat/completions`` and ``/v1/embeddings``, passed on (R-42, R-53)."""

import socket
import threading
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from tests.api.raw import eventually
from tests.api.talk import client_of
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.live import KEY, LiveServer, serve

CHAT = "/v1/chat/completions"
OTHER_LIMIT = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
TOO_LONG = {"code": "context_length_exceeded"}
#: More than is held back.
HALF: list[Any] = [b'{"id":' + b" " * 100_000, "cut"]


@pytest.fixture
def sdk(server: LiveServer) -> Any:
    return openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0)


def whole(text: str) -> Reply:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "real"}
    return Reply.json({**answer, "choices": [choice], "strange": {"kept": True}})


def test_chat(sdk: Any, upstream: ChatUpstream) -> None:
    upstream.script(whole("Hello"))
    answer = sdk.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}], seed=7, extra_body={"top_k": 3}
    )
    assert answer.choices[0].message.content == "Hello"
    assert answer.to_dict()["strange"] == {"kept": True}
    (request,) = upstream.requests
    assert request.path == CHAT
    assert request.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "seed": 7,
        "top_k": 3,
    }
    assert KEY not in str(request.headers)


def test_chat_streamed(sdk: Any, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat("Hel", "lo"))
    stream = sdk.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    texts = [part.choices[0].delta.content or "" for part in stream if part.choices]
    assert "".join(texts) == "Hello"


def test_half_an_answer_is_no_whole_one_in_http_1_0_either(
    server: LiveServer, upstream: ChatUpstream
) -> None:
    """It has no chunks, and ends with its connection."""
    upstream.script(Reply(200, HALF, {"content-type": "application/json"}))
    head = f"POST {CHAT} HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n"
    fields = "Content-Type: application/json\r\nContent-Length: 27\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(f'{head}{fields}{{"model":"m","messages":[]}}'.encode())
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: sock.recv(4096), b""))


@pytest.mark.parametrize("stream", [False, True])
def test_a_web_page_is_no_answer(
    client: httpx2.Client, upstream: ChatUpstream, stream: bool
) -> None:
    """R-46: the SDK would take it for text, a browser for a page of ours."""
    page = Reply(200, [b"<html>log in</html>"], {"content-type": "text/html; charset=utf-8"})
    upstream.script(page)
    reply = client.post(CHAT, json={"model": "m", "messages": [], "stream": stream})
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "server_error"


def test_embeddings(sdk: Any, upstream: ChatUpstream) -> None:
    row = {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    upstream.script(Reply.json({"object": "list", "data": [row], "model": "m", "usage": usage}))
    answer = sdk.embeddings.create(model="m", input="x", encoding_format="float")
    assert answer.data[0].embedding == [0.5, -1.0]
    assert upstream.requests[0].path == "/v1/embeddings"


def test_an_error_with_status_200_is_in_our_words(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-42, R-46; all that is no answer: tests/backends/test_passage.py."""
    error = {"error": {"message": "SECRET"}}
    upstream.script(Reply.json(error))
    answer = client.post("/v1/embeddings", json={"model": "m", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_error")
    assert "SECRET" not in answer.text
    said = sse(chunk(content="Hel"))
    upstream.script(Reply(200, [said, sse(error), said], {"content-type": "text/event-stream"}))
    answer = client.post(CHAT, json={"model": "m", "messages": [], "stream": True})
    assert (answer.status_code, answer.text.count("data: ")) == (200, 2)
    first, last = answer.text.strip().split("\n\n")
    assert first == said.decode().strip()
    assert orjson.loads(last.removeprefix("data: "))["error"]["code"] == "server_error"
    assert "SECRET" not in answer.text


def test_who_answers_is_said(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(whole("Hello"))
    reply = client.post(CHAT, json={"model": "m", "messages": []})
    assert reply.headers["x-antiphon-backend"] == "upstream"
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
def test_what_is_refused(server: LiveServer, client: httpx2.Client, path: str) -> None:
    for body, param, code in (
        ({}, "model", "missing_required_parameter"),
        ({"model": 3}, "model", "invalid_type"),
        ({"model": "simulator"}, "model", "unsupported_value"),
        ([], None, "invalid_type"),
    ):
        reply = client.post(path, json=body)
        error = reply.json()["error"]
        assert (reply.status_code, error["param"], error["code"]) == (400, param, code)
    assert client.post(path, content=b"{").status_code == 415
    assert client.get(path).status_code == 405
    with client_of(server, key=None) as nobody:
        assert nobody.post(path, json={"model": "m"}).status_code == 401


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.json({"error": {"message": "SECRET"}}, 401), 502),
        (Reply.json({"error": {"message": "SECRET"}}, 500), 502),
        (Reply.json({"error": {"message": "SECRET", "param": "temperature"}}, 400), 400),
        (Reply.json({"error": {"message": "SECRET"}}, 404), 400),
        (Reply.json({"error": {"message": "SECRET"}}, 429, retry_after="7"), 429),
    ],
)
def test_errors_are_in_our_words(
    client: httpx2.Client, upstream: ChatUpstream, reply: Reply, status: int
) -> None:
    upstream.script(reply)
    answer = client.post(CHAT, json={"model": "m", "messages": []})
    assert answer.status_code == status
    assert "SECRET" not in answer.text
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


@pytest.mark.parametrize(
    ("path", "error", "expected"),
    [
        (CHAT, {"param": "max_tokens"}, ("max_tokens", "unsupported_parameter")),
        (CHAT, {"param": "messages[0].content"}, ("messages", "unsupported_parameter")),
        (CHAT, {"param": "max_completion_tokens"}, (None, None)),
        (CHAT, {"param": "max_tokens", "message": OTHER_LIMIT}, (None, None)),
        (CHAT, {"code": "content_filter", "param": "messages"}, ("messages", None)),
        (CHAT, TOO_LONG, ("messages", "context_length_exceeded")),
        ("/v1/embeddings", TOO_LONG, ("input", "context_length_exceeded")),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_parameters_have_the_names_that_were_sent(
    client: httpx2.Client,
    upstream: ChatUpstream,
    path: str,
    error: dict[str, str],
    expected: tuple[str | None, str | None],
    status: int,
) -> None:
    """R-02: not those of `/v1/responses`."""
    upstream.script(Reply.json({"error": {"message": "SECRET", "code": "400", **error}}, status))
    said = {"max_tokens": 5, "messages": []} if path == CHAT else {"input": "x"}
    answer = client.post(path, json={"model": "m", **said})
    told = answer.json()["error"]
    assert (answer.status_code, (told["param"], told["code"])) == (400, expected)


def test_a_stream_that_breaks_ends_with_an_error(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(body=[sse(chunk(content="Hel")), "cut"]))
    reply = client.post(CHAT, json={"model": "m", "messages": [], "stream": True})
    assert '"content":"Hel"' in reply.text
    assert reply.text.endswith("\n\n")
    assert '"server_error"' in reply.text.split("data: ")[-1]


def test_an_answer_that_breaks_is_cut(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(Reply(200, HALF, {"content-type": "application/json"}))
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post(CHAT, json={"model": "m", "messages": []})


def test_who_leaves_is_no_longer_worked_for(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=[sse(chunk(content="Hel")), "stall"]))
    body = {"model": "m", "messages": [], "stream": True}
    with client.stream("POST", CHAT, json=body) as reply:
        next(reply.iter_bytes())
    assert upstream.requests[0].left.wait(2)
    upstream.requests.clear()
    upstream.script(Reply(body=["stall"]))
    with pytest.raises(httpx2.ReadTimeout):
        client.post(CHAT, json=body, timeout=0.5)
    assert eventually(lambda: bool(upstream.requests), 2)
    assert isinstance(upstream.requests[0].left, threading.Event)
    assert upstream.requests[0].left.wait(2)


def test_a_long_answer_that_is_not_streamed(tmp_path: Path) -> None:
    """Its first byte comes when all is said: the limit for first bytes is none for it."""
    body = orjson.dumps({"choices": []})
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with ChatUpstream() as upstream:
        upstream.script(Reply(body=[2.0, head % len(body) + body], raw=True))
        toml = f"""
            [[backends]]
            name = "slow"
            kind = "chat_completions"
            base_url = "{upstream.base_url}"
            first_byte_timeout = 1
        """
        with serve(tmp_path, toml) as live, client_of(live) as client:
            asked = {"model": "m", "messages": []}
            assert client.post(CHAT, json=asked).json() == {"choices": []}
            assert client.post(CHAT, json={**asked, "stream": True}).status_code == 504
