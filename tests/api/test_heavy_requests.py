"""Heavy requests are answered at once, and nobody else waits for them (must show 6).

R-07, R-09, R-13, R-118. Each body is sent up to eight times: a block of the event loop comes back,
a hiccup of a busy machine does not. What `longest_wait` says of large bodies is weaker than R-118.
"""

import httpx2
import pytest

from tests.api.bad_bodies import BODIES
from tests.api.heavy_bodies import HEAVY, Heavy, longest_wait
from tests.api.talk import error_of
from tests.api.watch import Waiting
from tests.backends.upstream import ChatUpstream
from tests.live import LiveServer
from tests.pace import pace

JSON = {"content-type": "application/json"}
#: Seconds (R-118).
LONGEST_WAIT = 0.1 * pace()
_TRIES = 8


@pytest.mark.parametrize("heavy", HEAVY, ids=[heavy.name for heavy in HEAVY])
def test_heavy_body(
    heavy: Heavy, server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    body = heavy.make()
    waits = []
    for _ in range(_TRIES):
        with Waiting(server) as others:
            reply = client.post("/v1/responses", content=body, headers=JSON)
        assert reply.status_code in heavy.statuses, reply.text[:500]
        assert reply.elapsed.total_seconds() < 30  # it does not hang
        if reply.status_code != 200:
            assert len(error_of(reply)["message"]) < 2_000
            assert reply.status_code == 502 or upstream.requests == []
        waits.append(others.worst)
        if others.worst < longest_wait(body):
            break
    print(f"{heavy.name}: {min(waits) * 1000:.0f} ms")
    assert min(waits) < longest_wait(body)


def test_nobody_waits_for_the_bad_bodies(server: LiveServer, client: httpx2.Client) -> None:
    waits = []
    for _ in range(_TRIES):
        with Waiting(server) as others:
            for bad in BODIES:
                client.post("/v1/responses", content=bad.body, headers=JSON)
        assert len(others.times) > 30
        waits.append(others.worst)
        if others.worst < LONGEST_WAIT:
            break
    print(f"bad bodies: {min(waits) * 1000:.0f} ms")
    assert min(waits) < LONGEST_WAIT


def test_the_log_has_no_trace_of_them(server: LiveServer) -> None:
    """R-119: a client's mistake is no event for the operator."""
    assert "Traceback" not in server.log()
    assert "unhandled" not in server.log()
