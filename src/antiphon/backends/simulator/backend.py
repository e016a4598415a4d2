"""The embedded model: deterministic, in process, no network. It is honest about being a simulator.

Rules
1. What it says is made in `simulator.script`; this file plays it: batches, pace, limits, failures.
2. The same prompt gives the same deltas; the clock only matters to `pace` and `wait`.
3. Output comes in batches of at most 64 tokens, well under 1 ms of work, with a turn of the event
   loop between them: many long answers at once keep nobody waiting (R-118).
4. Usage is an estimate: a quarter of the characters in, the simulated tokens out. `count` says the
   same number.
5. Its context window is the configured one, without end if there is none; it is not enforced here.

The directives are in docs/simulator.md.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final

from antiphon.backends.base import Deltas, Health, Media, Model, Prompt
from antiphon.backends.simulator.faults import FAULTS
from antiphon.backends.simulator.script import Script, count_input
from antiphon.backends.windows import NO_WINDOWS, configured_window
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    FinishReason,
    ReasoningDelta,
    SummaryDelta,
    UsageReport,
)
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage

_BATCH: Final = 64
_THOUGHTS: Final = (ReasoningDelta, SummaryDelta)


class Simulator:
    """A `Backend` that any model name may lead to."""

    def __init__(self, name: str = "simulator", windows: Mapping[str, int] = NO_WINDOWS) -> None:
        """`windows`: model name or wildcard → tokens."""
        self.name = name
        self._windows = windows

    def check(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002
        """Parameters that would matter to a real model and were sent."""
        text, reasoning = request.text or {}, request.reasoning or {}
        tier = request.service_tier
        sent = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "text.verbosity": text.get("verbosity"),
            "reasoning.effort": reasoning.get("effort"),
            "reasoning.summary": _concise(reasoning),
            "reasoning.mode": reasoning.get("mode"),
            "user": request.user,
            "safety_identifier": request.safety_identifier,
            "prompt_cache_key": request.prompt_cache_key,
            "prompt_cache_retention": request.prompt_cache_retention,
            "service_tier": None if tier in ("auto", "default") else tier,
        }
        return [name for name, value in sent.items() if value is not None]

    def media(self, model: str) -> Media:  # noqa: ARG002
        """See `Backend.media`: it reads, and sees nothing."""
        return Media()

    async def generate(self, prompt: Prompt) -> Deltas:
        """One turn; see `Backend.generate`."""
        script = Script(prompt)
        directives = script.directives
        model = prompt.request.model or prompt.model
        fault, fault_at = _fault(directives.fail)
        if fault is not None and fault_at == 0:
            await asyncio.sleep(directives.wait)
            raise FAULTS[fault].before(model)
        if directives.wait:
            yield []
            await asyncio.sleep(directives.wait)
        size = min(directives.chunk or (1 if directives.pace else _BATCH), _BATCH)
        rest = script.deltas()
        limit = prompt.request.max_output_tokens
        said = itertools.islice(rest, _least(limit, fault_at))
        count, reasoning = 0, 0
        while batch := list(itertools.islice(said, size)):
            if count:
                await asyncio.sleep(directives.pace)
            count += len(batch)
            reasoning += sum(type(delta) in _THOUGHTS for delta in batch)
            yield batch
        if fault is not None and count != limit:
            raise FAULTS[fault].after(model)
        reason: FinishReason = directives.finish if next(rest, None) is None else "length"
        end: list[Delta] = [Finish(reason)]
        if directives.usage:
            usage = Usage(count_input(prompt), 0, count, reasoning)
            end.insert(0, UsageReport(usage))
        yield end

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`: what its usage will say."""
        return count_input(prompt)

    async def window(self, model: str) -> int | None:
        """See `Backend.window`: from the configuration."""
        return configured_window(self._windows, model)

    async def models(self) -> list[Model]:
        """The one model that is listed."""
        return [Model("simulator", "antiphon-simulator")]

    def health(self) -> Health:
        """See `Backend.health`."""
        return Health()

    async def aclose(self) -> None:
        """Nothing to release."""


def _concise(reasoning: dict[str, Any]) -> str | None:
    """The summary that was asked for, if nobody makes it: raw reasoning is shown as it is."""
    asked: str | None = reasoning.get("summary") or reasoning.get("generate_summary")
    return asked if asked == "concise" else None


def _fault(asked: tuple[str, int | None] | None) -> tuple[str | None, int | None]:
    """The fault and the tokens before it."""
    if asked is None:
        return None, None
    name, after = asked
    return name, FAULTS[name].tokens if after is None else after


def _least(one: int | None, two: int | None) -> int | None:
    return one if two is None else two if one is None else min(one, two)
