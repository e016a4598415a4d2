"""Short ways to play the loop of hosted tools on a scripted backend."""

from collections.abc import Sequence
from typing import Any

import orjson

from antiphon.engine.calls import ToolLimits
from antiphon.engine.runner import EngineOptions
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.response import Usage
from antiphon.testing import Step, assert_valid_log
from tests.engine.bench import Bench

Json = dict[str, Any]
PYTHON: Json = {"type": "code_interpreter", "container": {"type": "auto"}}
FUNCTION: Json = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
ANSWER: Sequence[Step] = [[TextDelta("Done."), UsageReport(Usage(20, 0, 3, 0)), Finish()]]


def calls(*codes: str, more: Sequence[ToolCallDelta] = ()) -> Sequence[Step]:
    """A turn that calls Python with each of these, and makes other calls behind them."""
    made = [
        ToolCallDelta(n, orjson.dumps({"code": code}).decode(), "code_interpreter")
        for n, code in enumerate(codes)
    ]
    return [[*made, *more, UsageReport(Usage(10, 0, 5, 0)), Finish()]]


def limited(**limits: Any) -> EngineOptions:
    return EngineOptions(tools=ToolLimits(**limits))


def kinds(final: Json) -> list[str]:
    return [item["type"] for item in final["output"]]


def statuses(final: Json) -> list[str]:
    return [item["status"] for item in final["output"]]


async def play(
    bench: Bench, *, tools: Sequence[Json] = (PYTHON,), **fields: Any
) -> tuple[Json, list[Json]]:
    """The final Response and all events."""
    await bench.engine.open()
    _, events = await bench.events(tools=list(tools), **fields)
    await bench.engine.close()
    return assert_valid_log(events), events


def told(bench: Bench, turn: int = -1) -> list[str]:
    """The outputs of functions that the model saw."""
    items = bench.backend.prompts[turn].items
    return [item["output"] for item in items if item["type"] == "function_call_output"]
