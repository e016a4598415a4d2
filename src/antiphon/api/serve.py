"""uvicorn, set up the one way in which the wire's promises hold.

Rules
1. No `Server` field; forwarded fields are not believed (R-25); uvicorn's own access log is off: it
   would print queries (R-130).
2. No WebSockets yet: such an upgrade is answered as the plain request that it also is.
"""

from math import ceil

import uvicorn
from starlette.types import ASGIApp

from antiphon.api.limits import WireLimits
from antiphon.api.wire import guarded_protocol


def server_config(
    app: ASGIApp, *, host: str, port: int, limits: WireLimits, grace: int = 30
) -> uvicorn.Config:
    """How to serve `app`; `grace` is the time in seconds that running requests get at the end."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=guarded_protocol(limits),
        ws="none",
        loop="auto",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=ceil(limits.keep_alive_timeout),
        timeout_graceful_shutdown=grace,
    )
