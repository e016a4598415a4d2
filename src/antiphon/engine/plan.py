"""From a request to a plan: everything is checked before anything is stored or sent.

Rules
1. What is wrong with a request is an `APIError` here, and nowhere later.
2. A background job is planned twice: when it is accepted, and by whoever makes it.
3. A prompt template comes first: everything else is asked of what it and the request say together.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from antiphon.backends.base import Backend, Prompt, Router
from antiphon.engine.carry import Carrier, foreign_seals
from antiphon.engine.history import read_past
from antiphon.engine.journal import Journal
from antiphon.engine.progress import Progress
from antiphon.engine.prompt import Context, build_context, own_items
from antiphon.engine.recent import Recent
from antiphon.engine.run import Run, Work
from antiphon.engine.sealing import Kind, Sealer
from antiphon.engine.support import check_support
from antiphon.engine.view import View, threshold
from antiphon.engine.window import Window
from antiphon.errors import InvalidRequestError, PromptNotFound
from antiphon.protocol.ids import Mint
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine import MachineOptions, ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.schemas import AnswerSchema, schema_steps
from antiphon.protocol.templates import Applied, apply_template, wanted_version
from antiphon.store.base import Store
from antiphon.tools.base import Tool

#: Seconds of checking schemas after which others get their turn.
_TURN: Final = 0.01


@dataclass(slots=True)
class Plan:
    """What a request comes to."""

    request: CreateResponse
    project: str
    backend: Backend
    #: Parameters that will not be honoured.
    ignored: list[str]
    answer_schema: AnswerSchema | None
    context: Context
    view: View
    #: Name of the function → the hosted tool and the request's `tool`.
    tools: Mapping[str, tuple[Tool, dict[str, Any]]]
    sealer: Sealer
    work: Work = "answer"

    @property
    def front(self) -> list[Item]:
        """The messages of the request's prompt template."""
        return self.view.start.items[: self.view.window.fixed]

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
            view=self.view,
            machine=machine,
            journal=journal,
            timeout=timeout,
            seal=self._seal("compaction"),
            work=self.work,
            answer_schema=self.answer_schema,
            tools=self.tools,
            progress=progress,
            ignored=self.ignored,
        )

    def machine_options(self) -> MachineOptions:
        """What the request asks of the event stream."""
        request = self.request
        include, reasoning = request.include or (), request.reasoning or {}
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
            logprobs="message.output_text.logprobs" in include,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            allowed_tools=allowed,
            hosted=frozenset(self.tools),
            summarise=bool(reasoning.get("summary") or reasoning.get("generate_summary")),
            seal=self._seal("reasoning"),
            # Who stores nothing has to send it back (spec §9).
            sealed=request.store is False or "reasoning.encrypted_content" in include,
        )

    def _seal(self, kind: Kind) -> Callable[[dict[str, Any]], str]:
        return lambda payload: self.sealer.seal(kind, self.project, payload)


@dataclass(frozen=True, slots=True)
class Planner:
    """Checks requests against what this server has."""

    store: Store
    router: Router
    sealer: Sealer
    #: `type` of a request's tool → the hosted tool.
    tools: Mapping[str, Tool]

    async def plan(
        self,
        request: CreateResponse,
        project: str,
        mint: Mint,
        *,
        stored: list[Item] | None = None,
        recent: Recent | None = None,
        generate: bool = True,
    ) -> Plan:
        """Raises `APIError`. `stored`: the request's input as it was stored, if it was."""
        await self.sealer.refresh()
        applied = await self._applied(request, project)
        request, front = applied.request, applied.front
        ignored = check_support(request, self.tools) + foreign_seals(request)
        backend, model = self.router.route(request.model or "")
        hosted = {
            self.tools[tool["type"]].name: (self.tools[tool["type"]], tool)
            for tool in request.tools or ()
            if tool["type"] in self.tools
        }
        described = _described(request, hosted)
        if front:
            _check_front(backend, described, front)
        ignored += backend.check(described)
        answer_schema = await _in_turns(schema_steps(request, project))
        if stored is not None:
            request = request.model_copy(update={"input": stored})
        past = await read_past(request, project, self.store, recent)
        own = await own_items(request, project, self.store, mint, past)
        all_turns = (request.reasoning or {}).get("context") == "all_turns"
        carrier = Carrier(self.sealer, project, all_reasoning=all_turns)
        context = await build_context(own, past, carrier, sent=stored is None)
        size = await backend.window(model)
        compact_at = threshold(request, size)
        if request.context_management and compact_at is None:
            ignored.append("context_management")
        view = View(
            Prompt(described, model, front + context.shown),
            Window(backend, size, request.truncation == "auto", len(front)),
            carrier,
            compact_at,
        )
        return Plan(
            request,
            project,
            backend,
            list(dict.fromkeys(ignored)),
            answer_schema,
            context,
            view,
            hosted,
            self.sealer,
            _work(request, generate=generate),
        )

    async def _applied(self, request: CreateResponse, project: str) -> Applied:
        """The request together with its prompt template."""
        asked = request.prompt
        if asked is None:
            return Applied(request, [])
        found = await self.store.prompts.version(project, asked["id"], wanted_version(asked))
        if found is None:
            raise PromptNotFound(asked["id"], asked.get("version"), param="prompt")
        return apply_template(request, found.template, found.version)


def _check_front(backend: Backend, request: CreateResponse, front: list[Item]) -> None:
    """Raise `InvalidRequestError` for what of a template the backend cannot carry."""
    try:
        backend.check(request.model_copy(update={"input": front}))
    except InvalidRequestError as error:
        raise InvalidRequestError(error.message, param="prompt", code=error.code) from None


def _work(request: CreateResponse, *, generate: bool) -> Work:
    if not generate:
        return "nothing"
    asked = request.input and request.input[-1]["type"] == "compaction_trigger"
    return "compaction" if asked else "answer"


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
