"""A process dies after any of its commits: the model is told the same (R-66, decision 0007)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.backends.base import Deltas, Prompt
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta
from antiphon.protocol.items.base import told_of
from antiphon.store.base import Batch, Ending, Lease, Snapshot
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns
from antiphon.testing import ScriptedBackend, ScriptedTool, Step, assert_valid_log
from antiphon.tools.base import Call, CallItem, Outcome
from tests.engine.bench import Bench, OneBackend, bury
from tests.engine.tooling import PYTHON, calls, told

#: Three calls, and one that is no item.
TURN: Sequence[Step] = [
    [TextDelta("I look.")],
    0.01,
    *calls("0", "1", "2", more=[ToolCallDelta(3, "{}", "shell")]),
]
CITES: Sequence[Step] = [[TextDelta("Done【1】【2】【3】."), Finish()]]
#: More commits than the whole run has.
MOST = 20


class Mortal(MemoryRuns):
    """The first owner dies after `left` commits: its next one never happens."""

    def __init__(self, store: MemoryStore, left: int) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, lambda: 1_000_000.0)
        self.left = left
        self.first = ""
        self.dead = asyncio.Event()

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        await self._live(lease)
        return await super().append(lease, events, snapshot)

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        await self._live(lease)
        return await super().finish(lease, events, ending)

    async def _live(self, lease: Lease) -> None:
        self.first = self.first or lease.owner
        if lease.owner == self.first:
            if not self.left:
                self.dead.set()
                await asyncio.Event().wait()
            self.left -= 1
        await asyncio.sleep(0.004)  # a slow disk


class MortalStore(MemoryStore):
    def __init__(self, left: int) -> None:
        super().__init__()
        self.runs: Mortal = Mortal(self, left)


class Telling(ScriptedTool):
    """Tells the model what its items do not show, and where it is from."""

    def __init__(self, *delays: float) -> None:
        super().__init__()
        self._delays = delays

    async def run(self, call: Call, item: CallItem) -> Outcome:
        code = call.read()["code"]
        item.emit("code_interpreter_call.interpreting")
        await asyncio.sleep(self._delays[int(code)])
        self.scopes[-1].sources.page(f"https://{code}.example", code)
        return Outcome({"outputs": None}, told=f"told {code}")


class Model(ScriptedBackend):
    """Calls, and answers when it has been told."""

    async def generate(self, prompt: Prompt) -> Deltas:
        called = any(item["type"] == "code_interpreter_call" for item in prompt.items)
        self._turns = [CITES if called else TURN]
        async for deltas in super().generate(prompt):
            yield deltas


def bench(store: MortalStore, *delays: float) -> Bench:
    made = Bench(store=store, tools={"code_interpreter": Telling(*delays)})
    assert isinstance(made.engine.router, OneBackend)
    made.backend = made.engine.router.backend = Model()
    return made


@pytest.mark.parametrize("delays", [(0.03, 0.03, 0.03), (0.05, 0.051, 0.052)])
async def test_what_the_model_was_told_survives(delays: Sequence[float]) -> None:
    deaths = 0
    for commits in range(MOST):
        store = MortalStore(commits)
        first, second = bench(store, *delays), bench(store, 0, 0, 0)
        async with first.working():
            made = await first.admit(tools=[PYTHON, {"type": "shell"}])
            dead = asyncio.create_task(store.runs.dead.wait())
            ended = asyncio.create_task(first.ended(made.id))
            await asyncio.wait({dead, ended}, return_when=asyncio.FIRST_COMPLETED)
            dead.cancel()
            ended.cancel()
            if not store.runs.dead.is_set():
                break
            deaths += 1
            async with second.working():
                await bury(first)
                final = assert_valid_log(await second.follow(made.id))
        check(final, second, f"after {commits} commits")
    assert 8 <= deaths < MOST


def check(final: dict[str, Any], second: Bench, when: str) -> None:
    """Nothing that the model knew is lost."""
    seen = [item for item in second.backend.prompts[-1].items if "code" in item]
    assert [told_of(item) for item in seen] == ["told 0", "told 1", "told 2"], when
    assert len(told(second)) == 1, when
    assert final["status"] == "completed"
    part = final["output"][-1]["content"][0]
    assert {note["url"] for note in part["annotations"]} == {
        f"https://{code}.example" for code in range(3)
    }, when
