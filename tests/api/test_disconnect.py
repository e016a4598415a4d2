"""Clients that leave: the upstream call ends and the row is finalised (R-53 to R-59, R-73)."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

import httpx2
import orjson
import pytest

from tests.api.raw import eventually
from tests.api.talk import client_of, create
from tests.api.watch import open_files, resident_mib
from tests.backends.upstream import DONE, ChatUpstream, Reply, Step, chunk, sse
from tests.live import KEY, LiveServer, serve

HELLO = sse(chunk(content="Hello"))
ENDLESS: list[Step] = [HELLO, "stall"]
#: Seconds in which the upstream must see that nobody listens any more (R-53).
SOON = 1.0


@contextlib.contextmanager
def asking(server: LiveServer, **body: object) -> Iterator[socket.socket]:
    """A request whose answer is not read; the end of the block is a reset of the connection."""
    payload = orjson.dumps({"model": "m", "input": "Hi", **body})
    head = (
        f"POST /v1/responses HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(head.encode() + payload)
        yield sock
        # Reset instead of an orderly end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = sock.recv(65536)
        assert data, f"the server closed after {received!r}"
        received += data
    return received


def response_id(received: bytes) -> str:
    found = re.search(rb'"id":"(resp_[0-9a-f]+)"', received)
    assert found, received
    return found[1].decode()


def asked(upstream: ChatUpstream) -> bool:
    return eventually(lambda: len(upstream.requests) == 1)


def status_of(client: httpx2.Client, id_: str) -> str:
    status: str = client.get(f"/v1/responses/{id_}").json()["status"]
    return status


def test_leaving_a_stream(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-53: upstream closed at once; the row says `cancelled` and keeps what was said."""
    upstream.script(Reply(body=ENDLESS))
    with asking(server, stream=True) as sock:
        made = response_id(read_until(sock, b"Hello"))
        assert status_of(client, made) == "in_progress"
        left = time.monotonic()
    assert upstream.requests[0].left.wait(SOON)
    assert time.monotonic() - left < SOON
    assert eventually(lambda: status_of(client, made) == "cancelled")
    stored = client.get(f"/v1/responses/{made}").json()
    assert stored["output_text"] == "Hello"
    assert stored["output"][0]["status"] == "incomplete"
    assert (stored["error"], stored["completed_at"]) == (None, None)


def test_leaving_an_unstored_stream(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(body=ENDLESS))
    with asking(server, stream=True, store=False) as sock:
        made = response_id(read_until(sock, b"Hello"))
    assert upstream.requests[0].left.wait(SOON)
    assert client.get(f"/v1/responses/{made}").status_code == 404


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    "body",
    [["stall"], [HELLO, "stall"], [HELLO, 0.05, HELLO, "stall"]],
    ids=["before the first token", "after it", "in the middle"],
)
@pytest.mark.parametrize("store", [True, False], ids=["stored", "unstored"])
def test_leaving_early(
    server: LiveServer, upstream: ChatUpstream, body: list[Step], stream: bool, store: bool
) -> None:
    """R-54: nobody has read a byte of the answer."""
    upstream.script(Reply(body=body))
    with asking(server, stream=stream, store=store):
        assert asked(upstream)
    assert upstream.requests[0].left.wait(SOON)


def test_leaving_before_the_upstream_has_answered(
    server: LiveServer, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(raw=True, body=["stall"]))
    with asking(server):
        assert asked(upstream)
    assert upstream.requests[0].left.wait(SOON)


def test_an_orderly_end_is_leaving_too(server: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=ENDLESS))
    with asking(server, stream=True) as sock:
        read_until(sock, b"Hello")
        sock.shutdown(socket.SHUT_RDWR)
        assert upstream.requests[0].left.wait(SOON)


def test_a_client_that_has_all_does_not_cancel(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-57: the first terminal state stays."""
    with asking(server, stream=True) as sock:
        made = response_id(read_until(sock, b"data: [DONE]"))
    time.sleep(0.05)
    assert status_of(client, made) == "completed"


def test_sixty_abrupt_disconnects_leave_nothing(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-55, R-56: no upstream call, no file descriptor, no memory."""
    upstream.script(Reply(body=[HELLO * 20, "stall"]))
    files, memory = open_files(server), resident_mib(server)
    for number in range(60):
        known = len(upstream.requests)
        with asking(server, stream=number % 2 == 0) as sock:
            if number % 3 == 0:
                assert eventually(lambda: len(upstream.requests) > known)  # noqa: B023
            elif number % 2 == 0:
                sock.recv(100)
    assert eventually(lambda: all(request.left.is_set() for request in upstream.requests), 10)
    assert eventually(lambda: abs(open_files(server) - files) <= 30, 10)
    assert resident_mib(server) - memory < 20
    upstream.script(Reply.chat("Fine"))
    assert create(client)["output_text"] == "Fine"


def test_sixty_left_streams_are_all_finalised(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-53: nothing stays `in_progress`."""
    upstream.script(Reply(body=ENDLESS))
    made = []
    with contextlib.ExitStack() as crowd:
        for _ in range(60):
            sock = crowd.enter_context(asking(server, stream=True))
            made.append(response_id(read_until(sock, b"Hello")))
    assert eventually(lambda: {status_of(client, id_) for id_ in made} == {"cancelled"})
    assert all(request.left.is_set() for request in upstream.requests)


def test_deleting_a_running_stream(
    server: LiveServer, client: httpx2.Client, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-59: cancelled and gone; what the run still writes is dropped."""
    upstream.script(Reply(body=ENDLESS))
    with asking(server, stream=True) as sock:
        made = response_id(read_until(sock, b"Hello"))
        assert other.delete(f"/v1/responses/{made}").status_code == 404
        assert not upstream.requests[0].left.is_set()
        reply = client.delete(f"/v1/responses/{made}")
        assert reply.json() == {"id": made, "object": "response", "deleted": True}
        assert upstream.requests[0].left.wait(SOON)
        # The stream ends: its client must not wait for ever.
        read_until(sock, b"\r\n0\r\n\r\n")
    for _ in range(5):
        assert client.get(f"/v1/responses/{made}").status_code == 404
        time.sleep(0.05)
    assert client.delete(f"/v1/responses/{made}").status_code == 404
    chained = {"model": "m", "input": "Hi", "previous_response_id": made}
    assert client.post("/v1/responses", json=chained).status_code == 400


def test_a_running_response_cannot_be_continued(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Spec §1: the parent is not finished: 400."""
    upstream.script(Reply(body=ENDLESS))
    with asking(server, stream=True) as sock:
        made = response_id(read_until(sock, b"Hello"))
        body = {"model": "m", "input": "Hi", "previous_response_id": made}
        with client_of(server, timeout=3) as impatient:
            reply = impatient.post("/v1/responses", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "previous_response_id"


def test_ending_the_server_ends_the_runs(
    upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R-73: a stream that runs at SIGTERM has an end; the next start shows it as finished."""
    folder = tmp_path_factory.mktemp("stopped")
    toml = (
        '[[backends]]\nname = "up"\nkind = "chat_completions"\nmodels = ["m"]\n'
        f'base_url = "{upstream.base_url}"\n'
    )
    upstream.script(Reply(body=ENDLESS))
    env = {"ANTIPHON_SHUTDOWN_GRACE": "0.5"}
    with serve(folder, toml, env) as live, asking(live, stream=True) as sock:
        made = response_id(read_until(sock, b"Hello"))
        live.process.terminate()
        assert live.process.wait(10) == 0
        assert upstream.requests[0].left.wait(SOON)
    with serve(folder, toml, env) as live, client_of(live) as client:
        assert status_of(client, made) in ("cancelled", "failed")


def test_a_slow_reader_slows_the_upstream_down(server: LiveServer, upstream: ChatUpstream) -> None:
    """R-117: what nobody reads is not kept in memory."""
    words: list[Step] = [sse(chunk(content="x" * 10_000)) * 10] * 600  # 60 MB
    upstream.script(Reply(body=[*words, sse(chunk(finish="stop")), DONE]))
    before = resident_mib(server)
    with asking(server, stream=True, store=False) as sock:
        read_until(sock, b"response.output_text.delta")
        time.sleep(1)
        assert resident_mib(server) - before < 40
    assert upstream.requests[0].left.wait(SOON)
