"""Places that projects share (src/antiphon/turns.py): R-58, R-118."""

import asyncio

import pytest

from antiphon.turns import Turns


class Crowd:
    """Who had a place, in order. Each keeps it until `leave`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._leaving: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.came: list[str] = []

    async def come(self, *names: str) -> None:
        """Each wants a place; the first letter is the project."""
        for name in names:
            self._leaving[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._stay(name))
        await settle()

    async def leave(self, name: str) -> None:
        self._leaving[name].set()
        await settle()

    async def _stay(self, name: str) -> None:
        async with self._turns.turn(name[0]):
            self.came.append(name)
            await self._leaving[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_projects_take_turns() -> None:
    crowd = Crowd(Turns(2))
    await crowd.come("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert crowd.came == ["a1", "a2"], "who is alone has all places"
    for name in ("a1", "a2", "b1", "c1", "a3", "b2", "a4"):
        await crowd.leave(name)
    assert crowd.came == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_a_project_has_no_more_than_its_share() -> None:
    crowd = Crowd(Turns(4, each=2))
    await crowd.come("a1", "a2", "a3", "b1")
    assert crowd.came == ["a1", "a2", "b1"]
    await crowd.leave("b1")
    assert crowd.came == ["a1", "a2", "b1"]
    await crowd.leave("a1")
    assert crowd.came[-1] == "a3"


@pytest.mark.parametrize("late", [False, True])
async def test_who_gives_up_takes_no_place(*, late: bool) -> None:
    """Also when the place comes at the moment at which its task is cancelled."""
    crowd = Crowd(Turns(1))
    await crowd.come("a1", "a2", "a3")
    if late:
        crowd._leaving["a1"].set()
        await asyncio.sleep(0)  # a1 is awake, a2 is not yet
        crowd.tasks["a2"].cancel()
    else:
        crowd.tasks["a2"].cancel()
        await settle()
        await crowd.leave("a1")
    await settle()
    assert crowd.came == ["a1", "a3"]
    crowd.tasks["a3"].cancel()
    await settle()
    await crowd.come("b1")
    assert crowd.came[-1] == "b1"
    assert crowd._turns._waiting == {}
