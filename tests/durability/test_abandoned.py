"""A run that is given up before it has begun leaves nobody waiting (R-58)."""

import asyncio

import orjson

from antiphon.backends.routing import TableRouter
from antiphon.engine.endings import Retention
from antiphon.engine.jobs import JobOptions, Jobs
from antiphon.engine.mint import SystemMint
from antiphon.engine.plan import Planner
from antiphon.engine.progress import Progress
from antiphon.engine.sealing import Sealer
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.request import parse_request
from antiphon.protocol.response import new_response
from antiphon.store.base import ResponseRow
from antiphon.store.memory import MemoryStore
from antiphon.testing import ScriptedBackend


async def test_readers_learn_of_a_run_that_never_began() -> None:
    """A cancel can come between the claim of a job and the first step of its task."""
    store, backend, mint = MemoryStore(), ScriptedBackend(), SystemMint()
    planner = Planner(store, TableRouter([(backend, {"m": "m"})]), Sealer(store), {})
    jobs = Jobs(store, planner, Retention(None, None), JobOptions())
    request = parse_request(b'{"model": "m", "input": "Hi", "background": true}')
    response = new_response(request, id="resp_1", created_at=1, status="queued")
    row = ResponseRow("resp_1", "p", "queued", 1, None, None, orjson.dumps(response), b"[]")
    journal = jobs.journal(row, 0, is_job=True)
    machine = ResponseMachine(response, mint, MachineOptions())
    plan = await planner.plan(request, "p", mint)
    run = plan.run(machine, journal, 5.0, Progress())
    task = jobs.begin(run, journal)
    log = jobs.live("resp_1")
    assert log is journal.log
    reader = asyncio.create_task(log.news(5.0))
    jobs.abandon("resp_1")
    await asyncio.wait([task])
    assert task.cancelled()
    assert await asyncio.wait_for(reader, 0.5)
    assert log.closed
    assert jobs.live("resp_1") is None
    assert backend.prompts == []
