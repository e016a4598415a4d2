"""A reader that never reads (reliability R-117): what it costs, and that it is dropped."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.api.raw import eventually, next_reply
from tests.api.talk import client_of
from tests.api.watch import resident_mib
from tests.backends.upstream import DONE, ChatUpstream, Reply, chunk, sse
from tests.live import CHAT_TOML, KEY, LiveServer, serve
from tests.pace import pace

READERS: Final = 16
#: Seconds: all of them have to start and be measured within it.
SEND_TIMEOUT: Final = 6.0 * pace()
#: Far more than the kernel holds for a reader.
TOKENS: Final = 100_000


@pytest.fixture
def fast() -> Iterator[ChatUpstream]:
    """An upstream that says 100,000 tokens as fast as they are taken."""
    burst = sse(chunk(content="word ")) * 200
    with ChatUpstream() as upstream:
        upstream.script(
            Reply(body=[*[burst] * (TOKENS // 200), sse(chunk(finish="stop")), DONE]),
        )
        yield upstream


def stalled(live: LiveServer, **body: Any) -> socket.socket:
    """A client with small buffers that asks for a stream and reads only its first bytes."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", live.port))
    content = orjson.dumps({"stream": True, **body})
    head = (
        "POST /v1/responses HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    sock.sendall(head.encode() + content)
    return sock


def in_flight(live: LiveServer) -> float:
    with client_of(live) as client:
        lines = client.get("/metrics").text.splitlines()
    line = next(line for line in lines if line.startswith("antiphon_responses_in_flight "))
    return float(line.split()[1])


def settled(live: LiveServer) -> float:
    """Resident MiB, once it no longer changes."""
    last = 0.0
    for _ in range(20):
        now = resident_mib(live)
        if abs(now - last) < 0.2:
            break
        last = now
        time.sleep(0.4)
    return now


@pytest.mark.parametrize(("model", "most"), [("simulator", 2.0), ("m", 4.0)])
def test_stalled_readers_cost_little_and_are_dropped(
    tmp_path: Path, fast: ChatUpstream, model: str, most: float
) -> None:
    """At most `most` MiB each in our process; after the send timeout they are gone, and so is the
    work for them."""
    toml = CHAT_TOML.format(base_url=fast.base_url)
    env = {"ANTIPHON_SEND_TIMEOUT": str(SEND_TIMEOUT)}
    text = f"[[tokens={TOKENS}]]" if model == "simulator" else "Hi"
    with serve(tmp_path, toml, env) as live, ExitStack() as readers:
        with stalled(live, model=model, input="Hi", stream=False, max_output_tokens=20) as warm:
            assert next_reply(warm).status == 200
        before = settled(live)
        began = time.monotonic()
        for _ in range(READERS):
            sock = readers.enter_context(stalled(live, model=model, input=text))
            assert b"200 OK" in sock.recv(100)
        assert in_flight(live) == READERS
        cost = (settled(live) - before) / READERS
        print(f"{model}: {cost:.2f} MiB for each reader")
        assert cost < most
        assert time.monotonic() - began < SEND_TIMEOUT, "it must be measured while they wait"
        assert in_flight(live) == READERS
        assert eventually(lambda: in_flight(live) == 0, within=SEND_TIMEOUT + 10)
        left = [request.left for request in fast.requests[1:]] if model == "m" else []
        assert all(gone.wait(5) for gone in left)


def test_a_stalled_reader_of_a_background_response_does_not_slow_it(tmp_path: Path) -> None:
    """The run ends, others read it, and the reader is dropped without harm."""
    env = {"ANTIPHON_SEND_TIMEOUT": "1"}
    with serve(tmp_path, None, env) as live, client_of(live) as client:
        body = {"model": "simulator", "input": "[[tokens=20000]]", "background": True}
        with stalled(live, **body) as sock:
            first = b""
            while b'"id":"' not in first:
                first += sock.recv(4096)
            response_id = first.split(b'"id":"')[1].split(b'"')[0].decode()
            url = f"/v1/responses/{response_id}"
            assert eventually(lambda: client.get(url).json()["status"] == "completed", within=15)
            replayed = client.get(url, params={"stream": True})
            assert replayed.text.endswith("data: [DONE]\n\n")
        assert client.get(url).json()["status"] == "completed"
