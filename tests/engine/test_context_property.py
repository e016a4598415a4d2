"""What reaches the backend is what the specification says, for any history (must show 3).

`context_spec` says what a model must see; here histories are made at random and sent through the
engine: chains and their branches, conversations, templates, references, items that come again,
compactions of ours and of others, calls in parallel, sealed thoughts, windows of any size.
"""

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.upstream import UpstreamConfig
from antiphon.engine.made import Admitted, Foreground
from antiphon.errors import ContextLengthExceeded, InvalidRequestError
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import parse_request
from antiphon.store.base import RUNNING, Store
from antiphon.store.memory import MemoryStore
from antiphon.store.sql import SqliteStore
from tests.backends.upstream import DONE, ChatUpstream, Reply, Request, chunk, sse
from tests.engine import context_spec as spec
from tests.engine.context_draw import Asking, Draw, script
from tests.engine.context_spec import History, Said
from tests.engine.context_world import (
    Recorder,
    World,
    faces,
    seen,
    text,
    tokens,
    world_on,
)

Json = dict[str, Any]
Check = Callable[[World, st.DataObject], Coroutine[Any, Any, None]]

# -- what comes of a request ---------------------------------------------------------------------


async def ask(world: World, asking: Asking, *, background: bool) -> tuple[str, Json]:
    """Send it; the id and the body of the response. Raises `APIError`."""
    fields = {"model": "m", "input": asking.sent, "background": background}
    body = orjson.dumps({**fields, **asking.where, **asking.parameters})
    made = await world.engine.start(parse_request(body), world.project, body)
    if isinstance(made, Foreground):
        await made.task
        return made.run.id, orjson.loads(made.run.body)
    assert isinstance(made, Admitted)
    async with asyncio.timeout(10):
        while await world.store.runs.status(made.id) in RUNNING:
            await world.store.runs.wait(5)
    row = await world.store.get(world.project, made.id)
    assert row is not None
    return made.id, orjson.loads(row.body)


async def take(world: World, asking: Asking, shown: History, id_: str, body: Json) -> History:
    """Remember what was stored; the request's own items with their ids."""
    row = await world.store.get(world.project, id_)
    assert row is not None
    items: list[Item] = orjson.loads(row.input)
    assert len(items) == len(asking.own)
    named = {said.label: said for said in shown if said.kind == "output"}
    own = [
        replace(said, id=item["id"], call_id=item.get("call_id"))
        for said, item in zip(asking.own, items, strict=True)
    ]
    assert all(said.call_id == named.get(said.label, said).call_id for said in own)
    answer = asking.answer
    if asking.is_compaction:
        summary = Said("message", asking.own[-1].label, role="assistant")
        known = spec.paired(spec.carried(asking.past + own, all_turns=asking.all_turns))
        assert known is not None
        _, inside = spec.compacted(known, summary)
        answer = [world.say("compaction", inside=tuple(inside))]
    output = [
        replace(said, id=item["id"]) for said, item in zip(answer, body["output"], strict=True)
    ]
    for said, item in zip(own + output, items + body["output"], strict=True):
        if said.id is not None and said.id != "fake" and said.kind != "trigger":
            world.stored[said.id] = said
            world.wires[said.id] = item
    place = asking.where.get("conversation")
    # A response has its own items; those of its conversation are the conversation's.
    world.chains[id_] = [*([] if place else asking.past), *own, *output]
    if place and body["status"] != "failed":
        world.conversations[place] = [*asking.past, *own, *output]
    return own


def expected_prompts(asking: Asking, shown: History) -> list[History]:
    """What the model is shown, one after the other, until it takes it or nothing more may go."""
    if not asking.auto or asking.most is None:
        return [shown]
    tries = [shown]
    while len(asking.front) + len(tries[-1]) > asking.most:
        if spec.turns_that_may_go(tries[-1]) == 0:
            break
        tries.append(spec.halved(tries[-1], 1))
    return tries


def check_window(asking: Asking, shown: History, counted: list[Prompt]) -> History | None:
    """What fits; None: it is refused. Whether it was found as it should."""
    assert asking.size is not None
    front, room = asking.front, asking.size - asking.size // 8
    whole = tokens(front + shown)
    if not asking.auto:
        return None if whole >= asking.size else shown
    if whole <= room:
        return shown
    most = spec.turns_that_may_go(shown)
    candidates = [faces(front + spec.dropped(shown, turns)) for turns in range(most + 1)]
    asked = [candidates.index(seen(prompt)) for prompt in counted]
    assert spec.may_have_gone(shown, asked, lambda kept: tokens(front + kept), room)
    left = spec.dropped(shown, asked[-1])
    return None if tokens(front + left) >= asking.size else left


def check_truncated(shown: History, left: History, ids: dict[str, str | None], body: Json) -> None:
    """What the response says of it (decision 0006); `ids` are those of the request's own items."""
    if len(left) == len(shown):
        assert "truncated" not in body
        return
    first = next((said for said in left if said.is_user), None)
    told = body["truncated"]
    assert told["items"] == len(shown) - len(left)
    assert first is not None
    assert told["first_kept_id"] == ids.get(first.label, first.id)


async def one_request(world: World, asking: Asking, *, background: bool) -> None:
    """Send a request; hold what reached the backend to what should."""
    backend = world.backend
    backend.prompts, backend.counted, backend.script = [], [], script(asking)
    backend.context_window, backend.most = asking.size, asking.most
    shown = spec.paired(asking.shown())
    if shown is None:
        with pytest.raises(InvalidRequestError, match=r"No tool (call|output) found"):
            await ask(world, asking, background=background)
        assert backend.prompts == []
        return
    if asking.is_compaction:
        id_, body = await ask(world, asking, background=background)
        summary = Said("message", asking.own[-1].label, role="assistant")
        told, _ = spec.compacted(shown, summary)
        assert seen(backend.prompts[0])[:-1] == faces(asking.front + told)
        await take(world, asking, shown, id_, body)
        return
    try:
        id_, body = await ask(world, asking, background=background)
    except ContextLengthExceeded:
        assert asking.size is not None
        assert check_window(asking, shown, backend.counted) is None
        assert backend.prompts == []
        return
    if asking.size is None:
        tries = expected_prompts(asking, shown)
    else:
        left = check_window(asking, shown, backend.counted[: _once(backend, background)])
        assert left is not None
        tries = [left]
    assert [seen(prompt) for prompt in backend.prompts] == [
        faces(asking.front + left) for left in tries
    ]
    of_template = "of the template" if asking.front else None
    wanted = asking.parameters.get("instructions", of_template)
    assert {prompt.request.instructions for prompt in backend.prompts} == {wanted}
    if asking.most is not None and len(asking.front) + len(tries[-1]) > asking.most:
        assert body["error"]["code"] == "context_length_exceeded"
        asking.answer = []
    own = await take(world, asking, shown, id_, body)
    check_truncated(shown, tries[-1], {said.label: said.id for said in own}, body)


def _once(backend: Recorder, background: bool) -> int:
    """A job is counted twice: when it is accepted, and when it is made."""
    return len(backend.counted) // 2 if background else len(backend.counted)


# -- over HTTP -----------------------------------------------------------------------------------

REFUSAL: Final = {"error": {"code": "context_length_exceeded", "message": "too long"}}


def chat_reply(asking: Asking) -> Reply:
    """The answer as chat completions stream it."""
    chunks: list[Json] = []
    calls = 0
    for said in asking.answer:
        if said.kind == "message":
            chunks.append(chunk(content=text(said.label)))
        else:
            arguments = orjson.dumps({"x": text(said.label)}).decode()
            called = {"name": "f", "arguments": arguments}
            call = {"index": calls, "id": said.call_id, "type": "function", "function": called}
            chunks.append(chunk(tool_calls=[call]))
            calls += 1
    chunks.append(chunk(finish="tool_calls" if calls else "stop"))
    return Reply(body=[*map(sse, chunks), DONE])


def labels_in(request: Request) -> list[str]:
    """The labels in the messages of a chat request, in order."""
    return re.findall(r"#(\d+)#", orjson.dumps(request.json["messages"]).decode())


async def over_http(world: World, upstream: ChatUpstream, data: st.DataObject) -> None:
    await world.begin()
    draw = Draw(data, world)
    for _ in range(data.draw(st.integers(1, 4), label="requests")):
        asking = draw.tidy()
        shown = spec.paired(asking.shown())
        assert shown is not None
        tries = [shown]
        while spec.turns_that_may_go(tries[-1]) and draw.often(1, 3):
            tries.append(spec.halved(shown, len(tries)))
        upstream.script(*[Reply.json(REFUSAL, 400)] * (len(tries) - 1), chat_reply(asking))
        upstream.requests.clear()
        id_, body = await ask(world, asking, background=False)
        assert [labels_in(request) for request in upstream.requests] == [
            [said.label for said in asking.front + left] for left in tries
        ]
        wanted = asking.parameters.get("instructions", "of the template" if asking.front else None)
        first = upstream.requests[0].json["messages"][0]
        assert wanted is None or first["content"].startswith(wanted)
        own = await take(world, asking, shown, id_, body)
        check_truncated(shown, tries[-1], {said.label: said.id for said in own}, body)


async def scenario(world: World, data: st.DataObject) -> None:
    await world.begin()
    draw = Draw(data, world)
    for _ in range(data.draw(st.integers(1, 6), label="requests")):
        asking = draw.request()
        await one_request(world, asking, background=draw.often(1, 5))


def make_store(kind: str, folder: Path) -> Store:
    if kind == "memory":
        return MemoryStore()
    return SqliteStore(f"sqlite+aiosqlite:///{folder / 'antiphon.db'}")


def run_examples(examples: int, holding: AbstractAsyncContextManager[World], check: Check) -> None:
    """One world for all examples, each with a project of its own."""
    with asyncio.Runner() as runner:
        world = runner.run(holding.__aenter__())

        @settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            # The same examples each time; ANTIPHON_TEST_RANDOM=1 looks for others.
            derandomize="ANTIPHON_TEST_RANDOM" not in os.environ,
            database=None,
            report_multiple_bugs=False,
        )
        @given(st.data())
        def holds(data: st.DataObject) -> None:
            runner.run(check(world, data))

        holds()
        runner.run(holding.__aexit__(None, None, None))


@pytest.mark.parametrize(("kind", "examples"), [("memory", 200), ("sqlite", 60)])
def test_the_backend_sees_what_the_specification_says(
    kind: str, examples: int, tmp_path: Path
) -> None:
    backend = Recorder()
    run_examples(examples, world_on(make_store(kind, tmp_path), backend, backend), scenario)


def test_a_chat_upstream_gets_what_the_specification_says() -> None:
    with ChatUpstream() as upstream:
        backend = ChatCompletions(UpstreamConfig("up", upstream.base_url))
        holding = world_on(MemoryStore(), Recorder(), backend)
        run_examples(50, holding, lambda world, data: over_http(world, upstream, data))
