"""Names for the way out (`egress.py`, rule 4): a module of its own, because its base class brings
aiohttp with it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

#: Names that are looked up at once. One that hangs takes its place for longer than its request.
LOOK_UPS: Final = 64


class Resolver(AbstractResolver):
    """``getaddrinfo``, each name on a daemon thread."""

    def __init__(
        self, look_up: Callable[[str, int], list[ResolveResult]] | None = None, most: int = LOOK_UPS
    ) -> None:
        """`look_up`: the addresses of a name for a port; it may block, and raise OSError."""
        self._look_up = look_up or _addresses
        self._most = most
        #: What is being looked up; who asks for the same meanwhile gets the same answer.
        self._running: dict[tuple[str, int], asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002
    ) -> list[ResolveResult]:
        """All addresses, whatever `family` is. Raises OSError, also when too many names are being
        looked up."""
        running = self._running.get((host, port))
        if running is None:
            if len(self._running) >= self._most:
                raise OSError("too many names are being looked up")
            running = self._start(host, port)
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Nothing is open: threads end when they have their answer."""

    def _start(self, host: str, port: int) -> asyncio.Future[list[ResolveResult]]:
        loop = asyncio.get_running_loop()
        running: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def end(found: list[ResolveResult] | OSError) -> None:
            del self._running[host, port]
            if running.cancelled():
                return
            if isinstance(found, OSError):
                running.set_exception(found)
                running.exception()  # perhaps nobody waits any more
            else:
                running.set_result(found)

        def work() -> None:
            try:
                found: list[ResolveResult] | OSError = self._look_up(host, port)
            except OSError as error:
                found = error
            except ValueError as error:  # a name that cannot be encoded
                found = OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end, found)

        threading.Thread(target=work, name="name-look-up", daemon=True).start()
        self._running[host, port] = running
        return running


def _addresses(host: str, port: int) -> list[ResolveResult]:
    """The addresses of a name that can be reached without naming an interface. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    results = [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST,
        )
        for family, _, protocol, _, address in found
        if len(address) < 4 or not address[3]
    ]
    if not results:  # aiohttp takes for granted that there is one
        raise OSError("no address that can be reached")
    return results
