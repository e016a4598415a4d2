"""From a request to a plan: everything is checked before anything is stored or sent.

Rules
1. What is wrong with a request is an `APIError` here, and nowhere later.
2. A background job is planned twice: when it is accepted, and by whoever makes it.
3. A prompt template comes first: everything else is asked of what it and the request say together.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from antiphon.backends.base import Backend, Prompt, Router
from antiphon.engine.album import Album
from antiphon.engine.approvals import Approvals, Decision, read_decisions
from antiphon.engine.attachments import Asker, Attachments, media_of
from antiphon.engine.calls import Calls, ToolLimits
from antiphon.engine.carry import Carrier, foreign_seals
from antiphon.engine.history import read_past
from antiphon.engine.journal import Journal
from antiphon.engine.progress import Progress
from antiphon.engine.prompt import Context, build_context, named_items, own_items
from antiphon.engine.prompted import telling
from antiphon.engine.recent import Recent
from antiphon.engine.run import Run, Work
from antiphon.engine.sealing import Kind, Sealer
from antiphon.engine.secrets import revealed
from antiphon.engine.support import check_support, check_tools
from antiphon.engine.toolbox import Toolbox
from antiphon.engine.view import View, threshold
from antiphon.engine.window import Window
from antiphon.errors import InvalidRequestError, PromptNotFound
from antiphon.protocol.ids import Mint
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.schemas import AnswerSchema, schema_steps
from antiphon.protocol.templates import Applied, apply_template, wanted_version
from antiphon.protocol.validation import echo
from antiphon.store.base import Store
from antiphon.tools.base import OpenTool, Scope, Tool

#: Seconds of checking schemas after which others get their turn.
_TURN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job: the id of its response, and the request's own input as it was stored."""

    id: str
    input: list[Item]


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
    calls: Calls
    sealer: Sealer
    response_id: str
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
            calls=self.calls,
            work=self.work,
            answer_schema=self.answer_schema,
            progress=progress,
            ignored=self.ignored,
            told_before=self.context.told_before,
        )

    def machine_options(self) -> MachineOptions:
        """What the request asks of the event stream."""
        request = self.request
        include, reasoning = request.include or (), request.reasoning or {}
        stream_options = request.stream_options or {}
        obfuscated = stream_options.get("include_obfuscation") is not False
        format_ = (request.text or {}).get("format") or {}
        options = MachineOptions(
            obfuscation=bool(request.stream) and obfuscated,
            logprobs="message.output_text.logprobs" in include,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            sources=self.calls.scope.sources if self.calls.toolbox.opened else None,
            linked=format_.get("type", "text") == "text",
            summarise=bool(reasoning.get("summary") or reasoning.get("generate_summary")),
            seal=self._seal("reasoning"),
            # Who stores nothing has to send it back (spec §9).
            sealed=request.store is False or "reasoning.encrypted_content" in include,
        )
        return self.calls.toolbox.options(options)

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
    limits: ToolLimits = field(default_factory=ToolLimits)
    #: None: there are no files here, and a part that needs one is refused by the backend.
    attachments: Attachments | None = None

    async def plan(
        self,
        request: CreateResponse,
        project: str,
        mint: Mint,
        *,
        accepted: Accepted | None = None,
        recent: Recent | None = None,
        generate: bool = True,
    ) -> Plan:
        """Raises `APIError`. `accepted`: the job, if one is planned for the second time."""
        await self.sealer.refresh()
        applied = await self._applied(request, project)
        request, front = applied.request, applied.front
        if accepted is not None:
            request = await revealed(request, project, self.sealer)
        ignored = check_support(request) + foreign_seals(request)
        backend, model = self.router.route(request.model or "", _kin(request))
        theirs = backend.media(model).tools
        ignored += await check_tools(request, project, self.tools, theirs)
        response_id = mint.item_id("resp") if accepted is None else accepted.id
        scope = self._scope(request, project, response_id)
        toolbox = Toolbox(request, self._opened(request, scope, theirs), theirs)
        ignored += _check_backend(backend, model, toolbox.checked_request(), front)
        answer_schema = await _in_turns(schema_steps(request, project))
        backend = telling(backend, model, request, answer_schema)
        if accepted is not None:
            request = request.model_copy(update={"input": accepted.input})
        past = await read_past(request, project, self.store, recent)
        own = await own_items(request, project, self.store, mint, past)
        scope.named.extend(named_items(applied.request.input, own, past))
        carrier = Carrier(self.sealer, project, all_reasoning=_all_turns(request))
        decisions = await read_decisions(own, past, project, self.store, response_id)
        _check_servers(request, decisions)
        context = await build_context(own, past, carrier, sent=accepted is None)
        toolbox.refresh(context.shown)
        # That of the one that has taken the request (`Fallback.check`).
        asker = Asker(project, backend.media(model), mint.now())
        items, album = await self._filled(request, front, context, asker)
        size = await backend.window(model)
        compact_at = threshold(request, size)
        ignored += _without_effect(request, compact_at)
        start = Prompt(toolbox.seen_request(first=True), model, items)
        window = Window(backend, size, request.truncation == "auto", len(front))
        view = View(start, window, carrier, compact_at, album)
        return Plan(
            request,
            project,
            backend,
            list(dict.fromkeys(ignored)),
            answer_schema,
            context,
            view,
            Calls(toolbox, scope, Approvals(self.sealer, self.store), self.limits, decisions),
            self.sealer,
            response_id,
            _work(request, generate=generate),
        )

    async def _filled(
        self, request: CreateResponse, front: list[Item], context: Context, asker: Asker
    ) -> tuple[list[Item], Album | None]:
        """What the model sees, with the contents of files; and with images that were made here, and
        the album with these, if it is shown any."""
        items = front + context.shown
        if self.attachments is None:
            return items, None
        items = await self.attachments.fill(items, _sent(request, front), asker)
        if not asker.media.made:
            return items, None
        album = self.attachments.album(asker)
        return await album.fill(items), album

    def _scope(self, request: CreateResponse, project: str, response_id: str) -> Scope:
        is_stored = request.store is not False
        return Scope(
            project,
            frozenset(request.include or ()),
            self.limits.most_text,
            response_id=response_id if is_stored else None,
            conversation_id=request.conversation_id if is_stored else None,
        )

    def _opened(
        self, request: CreateResponse, scope: Scope, theirs: frozenset[str]
    ) -> dict[int, OpenTool]:
        """The tools of a request that this server runs, by their places."""
        return {
            place: self.tools[tool["type"]].open(tool, scope)
            for place, tool in enumerate(request.tools or ())
            if tool["type"] in self.tools.keys() - theirs
        }

    async def _applied(self, request: CreateResponse, project: str) -> Applied:
        """The request together with its prompt template."""
        asked = request.prompt
        if asked is None:
            return Applied(request, [])
        found = await self.store.prompts.version(project, asked["id"], wanted_version(asked))
        if found is None:
            raise PromptNotFound(asked["id"], asked.get("version"), param="prompt")
        return apply_template(request, found.template, found.version)


def _without_effect(request: CreateResponse, compact_at: int | None) -> list[str]:
    """A wish for compactions, when nobody knows when."""
    return ["context_management"] if request.context_management and compact_at is None else []


def _kin(request: CreateResponse) -> str | None:
    """What its requests have in common: they should meet the same cache of a model."""
    return request.prompt_cache_key or request.conversation_id


def _sent(request: CreateResponse, front: list[Item]) -> dict[int, str]:
    """Where parts with files stand in the request, by `media_of`."""
    sent = {key: "prompt" for item in front for key, _ in media_of(item)}
    for place, item in enumerate(request.input):
        sent |= {key: f"input[{place}].{name}" for key, name in media_of(item)}
    return sent


def _check_backend(
    backend: Backend, model: str, request: CreateResponse, front: list[Item]
) -> list[str]:
    """What the backend drops. Raises `InvalidRequestError` for what of the request, or of its
    template, the backend cannot carry."""
    if front:
        try:
            backend.check(request.model_copy(update={"input": front}), model)
        except InvalidRequestError as error:
            raise InvalidRequestError(error.message, param="prompt", code=error.code) from None
    return backend.check(request, model)


def _all_turns(request: CreateResponse) -> bool:
    return (request.reasoning or {}).get("context") == "all_turns"


def _work(request: CreateResponse, *, generate: bool) -> Work:
    if not generate:
        return "nothing"
    asked = request.input and request.input[-1]["type"] == "compaction_trigger"
    return "compaction" if asked else "answer"


def _check_servers(request: CreateResponse, decisions: list[Decision]) -> None:
    """Raise `InvalidRequestError` for an approved call whose server is not there."""
    labels = {tool.get("server_label") for tool in request.tools or () if tool["type"] == "mcp"}
    for decision in decisions:
        label = decision.request["server_label"]
        if decision.approve and label not in labels:
            raise InvalidRequestError(
                f"MCP server '{echo(label)}' of approval request '{echo(decision.request['id'])}' "
                "not found in 'tools' parameter.",
                param="tools",
            )


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
