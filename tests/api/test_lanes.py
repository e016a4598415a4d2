"""The lanes of a WebSocket, without one (spec §2.6)."""

import asyncio

import pytest

from antiphon.api.lanes import LaneLimits, Lanes
from antiphon.errors import InvalidRequestError, RateLimitError
from antiphon.protocol.socket import Create


async def test_what_is_refused_for_want_of_room_costs_no_lane() -> None:
    """A name is one that has run, or waits."""
    done = asyncio.Event()

    async def turn(_: Create, size: int) -> None:
        assert size == 1
        await done.wait()

    limits = LaneLimits(most_named=2, most_running=1, most_waiting=1)
    async with asyncio.TaskGroup() as group:
        lanes = Lanes(group, turn, lambda: None, limits)
        lanes.add(Create({}, "", None), 1)
        for _ in range(3):  # nothing has begun yet: the first one waits
            with pytest.raises(RateLimitError):
                lanes.add(Create({}, "refused", None), 1)
        await asyncio.sleep(0)
        done.set()
        await asyncio.sleep(0.01)
        for name in ("a", "b"):
            lanes.add(Create({}, name, None), 1)
            await asyncio.sleep(0.01)
        with pytest.raises(InvalidRequestError) as caught:
            lanes.add(Create({}, "c", None), 1)
        assert caught.value.code == "websocket_stream_limit_reached"
