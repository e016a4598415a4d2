"""Waits are limited one by one; the time between them does not count (R-44)."""

import asyncio
import math

from antiphon.backends.idle import IdleTimer


async def expirations(limit: float, *steps: tuple[bool, float], total: float = math.inf) -> int:
    """How often it expires over steps of (waiting?, seconds)."""
    calls: list[None] = []
    until = asyncio.get_running_loop().time() + total
    with IdleTimer(limit, lambda: calls.append(None), until) as timer:
        for waiting, seconds in steps:
            if waiting:
                timer.begin()
            await asyncio.sleep(seconds)
            timer.end()
    await asyncio.sleep(limit * 1.5)
    return len(calls)


async def test_a_long_wait_expires_once() -> None:
    assert await expirations(0.05, (True, 0.2)) == 1


async def test_short_waits_and_long_breaks_do_not() -> None:
    assert await expirations(0.1, *[(True, 0.02)] * 8, (False, 0.25)) == 0


async def test_a_wait_after_a_long_break_is_limited() -> None:
    assert await expirations(0.05, (False, 0.12), (True, 0.15)) == 1


async def test_the_limit_can_become_shorter() -> None:
    expired = asyncio.Event()
    with IdleTimer(60.0, expired.set) as timer:
        timer.allow(0.05)
        timer.begin()
        await asyncio.wait_for(expired.wait(), 1)
        assert timer.expired


async def test_short_waits_have_an_end_together() -> None:
    assert await expirations(0.5, *[(True, 0.02)] * 10, total=0.1) == 1


async def test_so_have_long_breaks() -> None:
    assert await expirations(0.5, (False, 0.2), total=0.1) == 1


async def test_the_end_is_no_later_for_a_new_limit() -> None:
    expired = asyncio.Event()
    now = asyncio.get_running_loop().time()
    with IdleTimer(30.0, expired.set, now + 0.1) as timer:
        timer.allow(60.0)
        timer.begin()
        await asyncio.wait_for(expired.wait(), 20)
        assert timer.expired
