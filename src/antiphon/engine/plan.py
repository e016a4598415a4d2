"""From a request to a plan: everything is checked before anything is stored or sent.

Rules
1. What is wrong with a request is an `APIError` here, and nowhere later.
2. A background job is planned twice: when it is accepted, and by whoever makes it.
"""

import asyncio
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from antiphon.backends.base import Backend, Prompt, Router
from antiphon.engine.journal import Journal
from antiphon.engine.progress import Progress
from antiphon.engine.prompt import Context, build_context
from antiphon.engine.run import Run
from antiphon.engine.support import check_support
from antiphon.protocol.ids import Mint
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine import MachineOptions, ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.schemas import AnswerSchema, schema_steps
from antiphon.store.base import Store
from antiphon.tools.base import Tool

#: Seconds of checking schemas after which others get their turn.
_TURN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request comes to."""

    request: CreateResponse
    project: str
    backend: Backend
    #: The model's name at the upstream.
    model: str
    #: Parameters that will not be honoured.
    ignored: list[str]
    answer_schema: AnswerSchema | None
    context: Context
    #: Name of the function → the hosted tool and the request's `tool`.
    tools: Mapping[str, tuple[Tool, dict[str, Any]]]

    def prompt(self) -> Prompt:
        """What the first turn of the model sees."""
        return Prompt(_described(self.request, self.tools), self.model, self.context.items)

    def run(
        self,
        machine: ResponseMachine,
        journal: Journal,
        timeout: float,
        progress: Progress | None = None,
    ) -> Run:
        """The run that makes it, in `timeout` seconds; `progress`: where a job goes on from."""
        return Run(
            id=machine.response["id"],
            project=self.project,
            backend=self.backend,
            prompt=self.prompt(),
            machine=machine,
            journal=journal,
            timeout=timeout,
            answer_schema=self.answer_schema,
            tools=self.tools,
            progress=progress,
            ignored=self.ignored,
        )

    def machine_options(self) -> MachineOptions:
        """What the request asks of the event stream."""
        request = self.request
        choice = request.tool_choice
        allowed: frozenset[str] | None = None
        if choice == "none":
            allowed = frozenset()
        elif isinstance(choice, dict) and choice["type"] == "allowed_tools":
            allowed = frozenset(tool["name"] for tool in choice["tools"] if "name" in tool)
        stream_options = request.stream_options or {}
        obfuscated = stream_options.get("include_obfuscation") is not False
        return MachineOptions(
            obfuscation=bool(request.stream) and obfuscated,
            logprobs="message.output_text.logprobs" in (request.include or ()),
            parallel_tool_calls=request.parallel_tool_calls is not False,
            allowed_tools=allowed,
            hosted=frozenset(self.tools),
        )


@dataclass(frozen=True, slots=True)
class Planner:
    """Checks requests against what this server has."""

    store: Store
    router: Router
    #: `type` of a request's tool → the hosted tool.
    tools: Mapping[str, Tool]

    async def plan(
        self,
        request: CreateResponse,
        project: str,
        mint: Mint,
        own_items: list[Item] | None = None,
    ) -> Plan:
        """Raises `APIError`. `own_items`: the request's input as it was stored, if it was."""
        ignored = check_support(request, self.tools)
        backend, model = self.router.route(request.model or "")
        hosted = {
            self.tools[tool["type"]].name: (self.tools[tool["type"]], tool)
            for tool in request.tools or ()
            if tool["type"] in self.tools
        }
        ignored += backend.check(_described(request, hosted))
        answer_schema = await _in_turns(schema_steps(request, project))
        if own_items is not None:
            request = request.model_copy(update={"input": own_items})
        context = await build_context(request, project, self.store, mint)
        return Plan(
            request,
            project,
            backend,
            model,
            list(dict.fromkeys(ignored)),
            answer_schema,
            context,
            hosted,
        )


def _described(
    request: CreateResponse, hosted: Mapping[str, tuple[Tool, dict[str, Any]]]
) -> CreateResponse:
    """The request as a model sees it: functions stand for hosted tools."""
    if not hosted:
        return request
    standing_in = {id(asked): tool.describe(asked) for tool, asked in hosted.values()}
    tools = [standing_in.get(id(tool), tool) for tool in request.tools or ()]
    return request.model_copy(update={"tools": tools})


async def _in_turns(
    steps: Generator[None, None, AnswerSchema | None],
) -> AnswerSchema | None:
    """The outcome of `steps`, between which others get their turn when they take long (R-118)."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _TURN
    try:
        while True:
            next(steps)
            if loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + _TURN
    except StopIteration as end:
        outcome: AnswerSchema | None = end.value
        return outcome
