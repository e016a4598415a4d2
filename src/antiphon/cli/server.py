"""uvicorn's server with our start and our end.

Rules (R-73)
1. The first SIGTERM or SIGINT: not ready and no new requests from that moment, no new connections
   a tenth of a second later; what runs may end within the grace period and is then ended. Exit
   status 0.
2. The second one, of either kind: what has been committed stays, everything else is dropped. Exit
   status 128 + signal, within two seconds even when something hangs.
3. One intention may come as two signals (``timeout`` sends one to its child and one to the group,
   which the child is in): within `ECHO` of the first all are the first.
"""

import asyncio
import contextlib
import gc
import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final, Literal, TypeAlias

import structlog
import uvicorn

from antiphon import __version__
from antiphon.api.logbook import close_log
from antiphon.app import Antiphon
from antiphon.cli.common import refused
from antiphon.store.base import Store

#: Seconds for terminal events and rows after the grace period.
LAST_WORDS: Final = 5
#: Seconds in which another signal means no more than the first.
ECHO: Final = 0.5
#: Seconds that what was cancelled then has to say so.
_LAST_MOMENT: Final = 1.0
#: Seconds that a forced end waits for the store, and for the log.
_STORE: Final = 1.0
_LOG: Final = 0.5
#: New objects after which the collector looks at the young ones: a request makes some hundreds that
#: live until its end, and 64 requests at once are looked at in vain.
_YOUNG: Final = 20_000

#: Is told the address and the port.
Announce: TypeAlias = Callable[[str, int], Awaitable[None]]

_log = structlog.get_logger(__name__)


class Signals:
    """Which of the signals that come is which."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._forced = False

    def __call__(self) -> Literal["first", "second", None]:
        """One has come; None: it says nothing new."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            return "first"
        if self._forced or now - self._first < ECHO:
            return None
        self._forced = True
        return "second"


class Server(uvicorn.Server):
    """Says where it listens, once it really does."""

    def __init__(self, config: uvicorn.Config, antiphon: Antiphon, announce: Announce) -> None:
        """`announce`: once it listens."""
        super().__init__(config)
        self._antiphon = antiphon
        self._announce = announce
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came = Signals()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        which = self._came()
        if which == "first":
            self._antiphon.engine.stopping = True
            super().handle_exit(sig, frame)
        elif which == "second":
            force(sig, self._loop, self._antiphon.store)

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, then say so."""
        self._loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        except SystemExit:
            if self._antiphon.store_error is not None:
                raise refused(self._antiphon.store_error) from None
            raise
        if self.started:
            # What the start has made lives as long as the process: the collector need not look at
            # it again and again, which would hold every request up.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_YOUNG)
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            await self._announce(host, port)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Put jobs back into the queue, let what runs end, stop it when the grace is over.

        An orderly end is exit status 0: uvicorn would raise the signal once more.
        """
        engine = self._antiphon.engine
        engine.stopping = True
        # At the same time: the queue may be slow to take jobs back, and nobody shall connect.
        draining = asyncio.create_task(engine.drain())
        self._antiphon.sockets.stop()
        grace = self._antiphon.settings.shutdown_grace
        timer = asyncio.get_running_loop().call_later(grace, engine.stop)
        await super().shutdown(sockets)
        timer.cancel()
        await draining
        state = self.server_state
        if state.tasks:  # a writer waits for a reader that takes nothing: without it, for ever
            await asyncio.wait(state.tasks, timeout=_LAST_MOMENT)
            for connection in list(state.connections):
                connection.transport.abort()
        self._captured_signals.clear()


def force(sig: int, loop: asyncio.AbstractEventLoop | None, store: Store) -> None:
    """End this process now, with status 128 + `sig`. To be called when a signal comes: the rest is
    done by a thread, which needs no event loop that still turns."""

    def leave() -> None:
        if loop is not None and loop.is_running():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(store.close(), loop).result(_STORE)
        _log.warning("ended_by_a_second_signal", signal=signal.Signals(sig).name)
        close_log(patience=_LOG)
        os._exit(128 + sig)

    threading.Thread(target=leave, name="forced-end", daemon=True).start()


def banner(antiphon: Antiphon, host: str, port: int, model: str = "simulator") -> None:
    """Print where it listens, and how to try it with `model`; the first key, if one was made."""
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    backends = ", ".join(backend.name for backend in antiphon.router.backends)
    key = antiphon.first_key or "$OPENAI_API_KEY"
    print(f"Antiphon {__version__} at {base_url} (backends: {backends})")
    if antiphon.first_key:
        print(
            f"\n  No API key was configured, so this start made one. It is shown only now:\n\n"
            f"    {antiphon.first_key}\n\n"
            "  Give it to clients as OPENAI_API_KEY. More: `antiphon keys create`.\n"
        )
    body = shlex.quote(json.dumps({"model": model, "input": "Hello!"}, ensure_ascii=False))
    print(
        f'Try it:\n  curl {base_url}/responses -H "Authorization: Bearer {key}" '
        f"-H 'Content-Type: application/json' -d {body}",
        flush=True,
    )
