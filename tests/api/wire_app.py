"""A small app behind the real wire, run as a process of its own by the wire tests.

    python -m tests.api.wire_app LIMITS_JSON

It prints its port, then serves until it is ended. Routes:

- ``POST /echo?s`` waits s seconds, reads a JSON body, with the key, and answers its length
- ``GET /stream?n`` writes n × 64 KiB, ``GET /big`` 16 MiB at once
- ``GET /slow`` takes 0.3 s, ``GET /boom`` fails, ``GET /late`` fails in the middle of an answer
- ``GET /stop`` makes the server one that stops
- ``GET /count`` tells how many bodies were taken, how many connections are open, and the memory
"""

import asyncio
import json
import resource
import socket
import sys

import uvicorn
from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator, hash_key
from antiphon.api.body import read_body
from antiphon.api.errors import unknown_path, wrong_method
from antiphon.api.headers import Edge
from antiphon.api.limits import WireLimits
from antiphon.api.logbook import open_log
from antiphon.api.wire import guarded_protocol

KEY = "good-key-of-this-test"
BODY_LIMIT = 8 * 1024 * 1024


class WireApp:
    """The routes."""

    def __init__(self) -> None:
        self.taken = 0
        self.stopping = False
        self.server: uvicorn.Server | None = None
        self._auth = Authenticator({hash_key(KEY): "default"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        match scope["method"], scope["path"]:
            case "POST", "/echo":
                await self._auth.project(scope)
                await asyncio.sleep(float(scope["query_string"] or b"0"))
                body = await read_body(scope, receive, limit=BODY_LIMIT)
                self.taken += 1
                await answer(send, {"length": len(body), "path": scope["path"]})
            case "GET", "/stream":
                await stream(send, int(scope["query_string"] or b"1"))
            case "GET", "/big":
                await answer(send, "x" * 16 * 1024 * 1024)
            case "GET", "/slow":
                await asyncio.sleep(0.3)
                await answer(send, {"slow": True})
            case "GET", "/boom":
                raise ZeroDivisionError("secret sk-antiphon-abcdefgh /etc/passwd\x1b[31m")
            case "GET", "/late":
                await begin(send)
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise ZeroDivisionError
            case "GET", "/stop":
                self.stopping = True
                await answer(send, {})
            case "GET", "/count":
                await answer(send, self.count())
            case _, "/echo":
                raise wrong_method(scope)
            case _:
                raise unknown_path(scope)

    def count(self) -> dict[str, int]:
        """What the tests ask for."""
        connections = len(self.server.server_state.connections) if self.server else 0
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"taken": self.taken, "connections": connections, "rss_kb": memory}


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def begin(send: Send, *headers: tuple[bytes, bytes]) -> None:
    """The head of a 200."""
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def answer(send: Send, content: object) -> None:
    """A whole JSON answer."""
    body = json.dumps(content).encode()
    await begin(
        send,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    )
    await send({"type": "http.response.body", "body": body})


async def stream(send: Send, pieces: int) -> None:
    """`pieces` × 64 KiB."""
    await begin(send, (b"content-type", b"application/octet-stream"))
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def serve(limits: WireLimits) -> None:
    """Serve on a free port and print it."""
    app = WireApp()
    config = uvicorn.Config(
        Edge(app),
        http=guarded_protocol(limits, lambda: app.stopping),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    app.server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(listener.getsockname()[1], flush=True)
        await app.server.serve([listener])


if __name__ == "__main__":
    open_log("info", "json")
    asyncio.run(serve(WireLimits(**json.loads(sys.argv[1]))))
