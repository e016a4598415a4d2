"""The kill loop: a server that is killed again and again, and clients that never let go.

    python -m tests.durability.kill_loop --rounds 200 [--seed 7] [--folder DIR]

Rules
1. Everything that is random comes from one seed, but for the times that processes take.
2. A round: start, requests of all kinds, ``kill -9`` at a random moment, during the start too.
3. After the last start every response that anybody was told of ends within `RECOVERY` (R-65); then
   `verdict` looks at everything.
"""

import argparse
import asyncio
import contextlib
import random
import socket
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from tests.durability.verdict import TOOL_SERVER, Aftermath, judge
from tests.durability.watching import (
    GONE,
    RUNNING,
    Json,
    Witness,
    client_at,
    post,
    post_until_answered,
    read_to_the_end,
    send_and_cut,
)
from tests.live import LiveProgram, LiveServer, launch

#: Seconds from the last start to the end of all responses (R-65).
RECOVERY: Final = 20.0
_TOOLS: Final[list[Json]] = [
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
]
_TALK: Final = "[[reason=6]] [[tokens=40]] [[pace=12ms]]"
#: Share of rounds that are over before the server has begun.
_EARLY: Final = 0.2
#: Seconds that a server lives at most, from its launch and from its first answer.
_START: Final = 1.2
_LIFE: Final = 1.0


class KillLoop:
    """One folder, one port, one seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.port = _free_port()
        self.witnesses: list[Witness] = []
        self.client = client_at(f"http://127.0.0.1:{self.port}/v1")
        self.server: LiveProgram | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._count = 0

    # -- servers -----------------------------------------------------------------------------

    def start(self) -> LiveProgram:
        """A server on the folder; how often it may die over a job is different each time."""
        env = {
            "ANTIPHON_PORT": str(self.port),
            "ANTIPHON_LEASE": "1",
            "ANTIPHON_BACKGROUND_ATTEMPTS": str(self.random.choice([2, 50, 50])),
        }
        self.server = launch(self.folder, [TOOL_SERVER, "serve"], None, env)
        return self.server

    async def ready(self) -> LiveServer:
        """The server, once it listens."""
        assert self.server is not None
        base_url = await asyncio.to_thread(self.server.wait_for_url)
        root_url = base_url.removesuffix("/v1")
        return LiveServer(self.server.process, self.folder, base_url, root_url)

    async def round(self) -> None:
        """Start, talk, kill."""
        server = self.start()
        if self.random.random() < _EARLY:
            await asyncio.sleep(self.random.uniform(0, _START))
        else:
            await self.ready()
            until = time.monotonic() + self.random.uniform(0, _LIFE)
            for _ in range(self.random.randint(3, 8)):
                self._begin()
                await asyncio.sleep(max(0, self.random.uniform(0, 0.2)))
                if time.monotonic() > until:
                    break
            await asyncio.sleep(max(0, until - time.monotonic()))
        await asyncio.to_thread(server.kill)

    # -- clients -----------------------------------------------------------------------------

    def _begin(self) -> None:
        """One more client."""
        way = self.random.choice(
            [self._poll, self._stream, self._stream, self._keyed, self._cut, self._foreground]
        )
        self._spawn(way(self._witness()))

    def _witness(self) -> Witness:
        self._count += 1
        code = f"{self._count:05d}"
        arguments = f'{{"code": "{code}-%s", "seconds": {self.random.choice([0, 0.02, 0.2])}}}'
        calls = "".join(
            f"[[call={tool['type']} {arguments % number}]]"
            for number, tool in enumerate(self.random.sample(_TOOLS * 2, 3))
        )
        say = self.random.choice(
            ["Hi", _TALK, _TALK, calls + _TALK, calls + _TALK, "[[tokens=9]] [[fail=cut after=5]]"]
        )
        body: Json = {"model": "simulator", "input": say, "background": True, "tools": _TOOLS}
        if self.random.random() < 0.15:
            body["store"] = False
        witness = Witness(body)
        self.witnesses.append(witness)
        return witness

    async def _poll(self, witness: Witness) -> None:
        with contextlib.suppress(*GONE):
            await post(self.client, witness)
            await self._meddle(witness)

    async def _stream(self, witness: Witness) -> None:
        witness.body["stream"] = True
        with contextlib.suppress(*GONE):
            witness.ended = await post(self.client, witness)
        if witness.is_known():
            second = Witness(witness.body, ids=list(witness.ids))
            self.witnesses.append(second)
            self._spawn(read_to_the_end(self.client, second))
            await read_to_the_end(self.client, witness)

    async def _keyed(self, witness: Witness) -> None:
        """A background job that is asked for until it is known."""
        witness.key = f"key-{self._count}"
        await post_until_answered(self.client, witness)

    async def _cut(self, witness: Witness) -> None:
        """Nobody reads the answer; whether the job is there is found out by its key (R-62)."""
        witness.key = self.random.choice([None, f"key-{self._count}"])
        witness.body["stream"] = self.random.random() < 0.5
        await send_and_cut(self.port, witness, self.random.uniform(0, 0.02))
        if witness.key:
            witness.body["stream"] = bool(witness.body["stream"])
            await self._ask_again(witness)

    async def _ask_again(self, witness: Witness) -> None:
        if not witness.body["stream"]:
            await post_until_answered(self.client, witness)
            return
        with contextlib.suppress(*GONE):
            witness.ended = await post(self.client, witness)
        while not witness.is_known():
            await asyncio.sleep(0.05)
            with contextlib.suppress(*GONE):
                witness.ended = await post(self.client, witness)
        await read_to_the_end(self.client, witness)

    async def _foreground(self, witness: Witness) -> None:
        """It dies with its server, and its row says so (R-69)."""
        witness.body |= {"background": False, "stream": True, "store": True}
        with contextlib.suppress(*GONE):
            await post(self.client, witness)

    async def _meddle(self, witness: Witness) -> None:
        """Some are cancelled, some deleted; what was answered stays true (R-68)."""
        what = self.random.random()
        await asyncio.sleep(self.random.uniform(0, 0.3))
        if not witness.is_known():
            return
        if what < 0.2:
            reply = await self.client.post(f"/responses/{witness.id}/cancel")
            if reply.status_code == 200:
                witness.cancelled = orjson.loads(reply.content)
        elif what < 0.3:
            witness.deleted = True  # perhaps: from here on 404 is right
            reply = await self.client.delete(f"/responses/{witness.id}")
            assert reply.status_code in (200, 404, 503)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    # -- the end -----------------------------------------------------------------------------

    async def run(self, rounds: int) -> Aftermath:
        """All rounds and the last start, after which everything ends; that server is left running.

        Raises TimeoutError when a response does not end (R-65).
        """
        for number in range(1, rounds + 1):
            await self.round()
            if number % 20 == 0:
                print(f"round {number}: {len(self.witnesses)} clients", flush=True)
        self.start()
        began = time.monotonic()
        live = await self.ready()
        async with asyncio.timeout(RECOVERY):
            await self._all_ended()
            recovery = time.monotonic() - began
            while any(not task.done() for task in self._tasks):
                await asyncio.gather(*self._tasks)  # a reader may begin another
        for task in self._tasks:
            task.result()
        return Aftermath(live, self.witnesses, recovery)

    async def _all_ended(self) -> None:
        """Until GET says so for everyone who was told an id."""
        waiting = {id_ for witness in self.witnesses for id_ in witness.ids}
        while waiting:
            for response_id in list(waiting):
                reply = await self.client.get(f"/responses/{response_id}")
                assert reply.status_code in (200, 404), reply.text
                if reply.status_code == 404 or reply.json()["status"] not in RUNNING:
                    waiting.discard(response_id)
            await asyncio.sleep(0.05)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.aclose()
        if exc is not None and self.server is not None:
            await asyncio.to_thread(self.server.stop)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run(folder: Path, rounds: int, seed: int) -> Aftermath:
    """The loop in `folder`; whoever asks stops the server of the aftermath."""
    async with KillLoop(folder, seed) as loop:
        return await loop.run(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kill-loop-"))
    print(f"seed {options.seed}, folder {folder}", flush=True)
    aftermath = asyncio.run(run(folder, options.rounds, options.seed))
    try:
        print(judge(aftermath))
    finally:
        aftermath.server.stop()


if __name__ == "__main__":
    main()
