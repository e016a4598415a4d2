"""How the way out looks names up (src/antiphon/egress_names.py): reliability R-73, R-89."""

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading

import pytest
from aiohttp.abc import ResolveResult
from yarl import URL

from antiphon.egress import Egress, Limits, Policy, SendError
from antiphon.egress_names import Resolver
from tests.receiver import Receiver

BODY = b"{}"
#: A second loopback address: it plays the public one.
FRIEND = "127.0.0.2"


class NameServer:
    """Knows that every name is `FRIEND`, and says so only when told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def look_up(self, host: str, port: int) -> list[ResolveResult]:
        self.asked.append(host)
        assert self.go.wait(30)
        if host == "none.example":
            raise socket.gaierror(socket.EAI_NONAME, "none")
        return [
            ResolveResult(hostname=host, host=FRIEND, port=port, family=2, proto=6, flags=4),
        ]


async def ask(egress: Egress, host: str, port: int = 80) -> str:
    """The kind of the end: its status or its reason."""
    try:
        async with egress.request(
            "POST", URL(f"http://{host}:{port}/"), {}, BODY, Limits(1.0, connect=0.2)
        ) as answer:
            return str(answer.status)
    except SendError as error:
        return str(error)


async def test_names_that_hang_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-89: the rest of the server looks names up on the few threads of the loop."""
    names, real = NameServer(), socket.getaddrinfo

    def getaddrinfo(host: str, *more: object, **named: object) -> object:
        if host.endswith(".example"):
            names.look_up(host, 80)
        return real("localhost", 80)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    egress = Egress(Policy())
    asking = [asyncio.create_task(ask(egress, f"{number}.example")) for number in range(40)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert len(names.asked) == 40
    assert all("Timeout" in end for end in await asyncio.gather(*asking))
    names.go.set()
    await egress.close()


def test_a_name_that_hangs_does_not_hold_up_the_end() -> None:
    """R-73: a thread of the loop would be waited for."""
    program = """
        import asyncio, socket, time
        from yarl import URL
        from antiphon.egress import Egress, Limits, Policy, SendError

        socket.getaddrinfo = lambda *_, **__: time.sleep(60)

        async def main():
            egress = Egress(Policy())
            try:
                url = URL("http://a.example/")
                async with egress.request("POST", url, {}, b"", Limits(1, 0.1)):
                    pass
            except SendError as error:
                print(error)
            await egress.close()

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Timeout" in done.stdout


async def test_so_many_names_are_looked_up_at_once_and_no_more() -> None:
    names = NameServer()
    egress = Egress(Policy([FRIEND]), Resolver(names.look_up, most=2))
    with Receiver(host=FRIEND) as friend:
        ends = await asyncio.gather(*(ask(egress, "a.example", friend.port) for _ in range(5)))
        assert all("Timeout" in end for end in ends)
        assert names.asked == ["a.example"], "who asks the same waits for the same answer"
        assert "Timeout" in await ask(egress, "none.example", friend.port)
        assert "too many names" in await ask(egress, "c.example", friend.port)
        names.go.set()
        for _ in range(200):
            await asyncio.sleep(0.01)
            if (end := await ask(egress, "c.example", friend.port)) == "200":
                break
            assert "too many names" in end
        assert "none" in await ask(egress, "none.example", friend.port)
        assert len(friend.got) == 1
    await egress.close()


async def test_a_name_that_leads_nowhere_is_an_error_like_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only behind an interface of this machine (a zone), which is no address for a socket."""
    scoped = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, 2))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [scoped])
    egress = Egress(Policy())
    assert "no address" in await ask(egress, "link.example")
    await egress.close()
