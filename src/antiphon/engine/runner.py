"""Who runs what: requests become runs, runs become tasks (design §5).

Rules
1. Everything that can be checked is checked in `start`, before anything is stored or sent.
2. A task is kept until it ends; a run that nobody waits for any more is cancelled by `cancel`.
3. At shutdown `stopping` turns new requests away, `stop` ends what still runs with a terminal
   event, and `close` waits for the last rows.
"""

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Final

import orjson

from antiphon.backends.base import Prompt, Router
from antiphon.engine.log import EventLog
from antiphon.engine.metrics import IN_FLIGHT
from antiphon.engine.mint import SystemMint
from antiphon.engine.prompt import build_context
from antiphon.engine.run import Run
from antiphon.engine.support import check_support
from antiphon.errors import APIError, Overloaded
from antiphon.protocol.machine import MachineOptions, ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import new_response
from antiphon.protocol.schemas import AnswerSchema, schema_steps
from antiphon.store.base import Store

_DAY: Final = 86_400
#: Rows that recovery reads at a time.
_ROWS: Final = 100
#: Seconds of checking schemas after which others get their turn.
_TURN: Final = 0.01
#: Seconds after which a client may look for us again.
_RESTART: Final = 5


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of the engine."""

    #: Days that a stored response is kept; None: for ever.
    retention_days: int | None = 30
    #: Seconds that one run may take in all (R-44).
    run_timeout: float = 3600.0


class Engine:
    """Makes responses."""

    def __init__(self, store: Store, router: Router, options: EngineOptions) -> None:
        self.store = store
        self.router = router
        self._options = options
        self._tasks: dict[asyncio.Task[None], Run] = {}
        IN_FLIGHT.set_function(lambda: len(self._tasks))
        #: New requests are turned away: the server is shutting down (R-73).
        self.stopping = False

    async def start(self, request: CreateResponse, project: str) -> tuple[Run, asyncio.Task[None]]:
        """Check the request and set it going. An `APIError` means: nothing was stored or sent."""
        if self.stopping:
            raise Overloaded("The server is shutting down.", retry_after=_RESTART)
        ignored = check_support(request)
        model = request.model or ""
        backend, upstream_model = self.router.route(model)
        ignored += backend.check(request)
        answer_schema = await _in_turns(schema_steps(request, project))
        mint = SystemMint()
        context = await build_context(request, project, self.store, mint)
        stored = request.store is not False
        now = mint.now()
        response = new_response(
            request, id=mint.item_id("resp"), created_at=now, status="in_progress"
        )
        if "service_tier" in ignored:  # the answer says which tier it was (spec §1)
            response["service_tier"] = "auto"
        days = self._options.retention_days
        run = Run(
            id=response["id"],
            project=project,
            request=request,
            backend=backend,
            prompt=Prompt(request, upstream_model, context.items),
            input=orjson.dumps(context.input) if stored else b"",
            machine=ResponseMachine(response, mint, _machine_options(request)),
            log=EventLog(keep=bool(request.stream)),
            store=self.store if stored else None,
            expires_at=None if days is None else now + days * _DAY,
            answer_schema=answer_schema,
            ignored=list(dict.fromkeys(ignored)),
            timeout=self._options.run_timeout,
        )
        task = asyncio.create_task(run.run(), name=run.id)
        self._tasks[task] = run
        task.add_done_callback(self._tasks.pop)
        return run, task

    async def recover(self) -> int:
        """End what the server before this one left running when it died (R-69); how many.

        To be called before the first request. One server works on a store (docs/deploying.md).
        """
        ended = 0
        while rows := await self.store.unfinished(_ROWS):
            for row in rows:
                machine = ResponseMachine(orjson.loads(row.body), SystemMint(), MachineOptions())
                machine.fail(APIError("The server stopped while it was making this response."))
                await self.store.save(replace(row, status=machine.status, body=machine.body()))
            ended += len(rows)
        return ended

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget a response; if it runs here, stop it. Whether there was one (R-59)."""
        deleted = await self.store.delete(project, id)
        for task, run in self._tasks.items():
            if run.id == id and run.project == project:
                run.stop(task, APIError("The response was deleted.", should_retry=False))
        return deleted

    def stop(self) -> None:
        """End what still runs: clients get a terminal event, or a 503 (R-73)."""
        for task, run in self._tasks.items():
            run.stop(task, Overloaded("The server is shutting down.", should_retry=False))

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


def _machine_options(request: CreateResponse) -> MachineOptions:
    choice = request.tool_choice
    allowed: frozenset[str] | None = None
    if choice == "none":
        allowed = frozenset()
    elif isinstance(choice, dict) and choice["type"] == "allowed_tools":
        allowed = frozenset(tool["name"] for tool in choice["tools"] if "name" in tool)
    stream_options = request.stream_options or {}
    return MachineOptions(
        obfuscation=bool(request.stream) and stream_options.get("include_obfuscation") is not False,
        logprobs="message.output_text.logprobs" in (request.include or ()),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        allowed_tools=allowed,
    )
