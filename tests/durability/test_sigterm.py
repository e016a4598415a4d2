"""SIGTERM under fifty running streams: none is cut, every one has an end or can be resumed
(issue 2/8, must show 6; R-73)."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from antiphon.testing import assert_valid_log
from tests.api.talk import client_of
from tests.durability.verdict import assert_kept_its_word, assert_sound, final_log
from tests.durability.watching import Json, Witness, client_at, post, read_on, read_to_the_end
from tests.live import serve

#: Seconds.
GRACE: Final = 2.0
#: Longer than the grace period, and well within it.
LONG: Final = "[[tokens=65]] [[pace=50ms]]"
SHORT: Final = "[[tokens=25]] [[pace=40ms]]"


def witnesses(count: int, **more: object) -> list[Witness]:
    """Half of them long, half of them short."""
    body: Json = {"model": "simulator", "stream": True, **more}
    return [Witness({**body, "input": SHORT if n % 2 else LONG}) for n in range(count)]


def last_event(witness: Witness) -> Json:
    event: Json = orjson.loads(witness.seen[max(witness.seen)])
    return event


async def under_sigterm(
    folder: Path, front: Sequence[Witness], back: Sequence[Witness], second: Sequence[Witness]
) -> None:
    """Everybody reads; the server is asked to leave. A cut connection raises here."""
    with serve(folder, env={"ANTIPHON_SHUTDOWN_GRACE": str(GRACE)}) as live:
        async with client_at(live.base_url) as client:
            reading = [asyncio.create_task(post(client, one)) for one in [*front, *back]]
            for _ in range(500):
                await asyncio.sleep(0.02)
                if all(witness.is_known() for witness in [*front, *back]):
                    break
            for one, other in zip(second, back, strict=True):
                one.learn(other.id)
                reading.append(asyncio.create_task(read_on(client, one, -1)))
            await asyncio.sleep(0.4)
            live.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            ended = await asyncio.gather(*reading)
            assert time.monotonic() - began < GRACE + 3
        assert await asyncio.to_thread(live.process.wait, 10) == 0
        assert "Traceback" not in live.log()
    for witness, end in zip([*front, *back, *second], ended, strict=True):
        witness.ended = end


async def resume(base_url: str, back: Sequence[Witness]) -> None:
    """All read on where they were."""
    async with client_at(base_url) as client, asyncio.timeout(20):
        await asyncio.gather(*(read_to_the_end(client, witness) for witness in back))


def test_fifty_streams(tmp_path: Path) -> None:
    front, back = witnesses(25), witnesses(25, background=True)
    second = [Witness(witness.body) for witness in back]
    asyncio.run(under_sigterm(tmp_path, front, back, second))
    for witness in front:
        assert witness.ended
        assert_valid_log([orjson.loads(event) for _, event in sorted(witness.seen.items())])
    ends = Counter(last_event(witness)["type"] for witness in front)
    assert ends == {"response.completed": 12, "response.failed": 13}
    # Background responses went back into the queue: their streams ended without a terminal event.
    assert not any(witness.ended for witness in [*back, *second])
    with serve(tmp_path, env={"ANTIPHON_BACKGROUND_RUNS": "30"}) as live:
        asyncio.run(resume(live.base_url, [*back, *second]))
        with client_of(live) as client:
            for witness in [*back, *second]:
                log = final_log(client, witness.id)
                assert_kept_its_word(witness, log)
                assert last_event(witness)["type"] == "response.completed"
    assert_sound(tmp_path)
