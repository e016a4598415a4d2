"""Several backends for one model: who is asked, when, and for how long (R-40, R-50, R-51)."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import pytest

from antiphon.backends.base import Health, Media, Prompt
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.fallback import Fallback, Target
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    Overloaded,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import Delta, Finish, TextDelta
from antiphon.protocol.request import CreateResponse
from antiphon.testing import ScriptedBackend, Step
from tests.backends.asking import prompt
from tests.backends.upstream import ChatUpstream, Reply

HELLO: Sequence[Step] = [[], [TextDelta("Hello")], [Finish()]]


class Choosy(ScriptedBackend):
    """Refuses and drops what it is told to, and takes what it is told to."""

    refuses = False
    dropped: Sequence[str] = ()
    takes = Media()

    def check(self, request: CreateResponse, model: str) -> list[str]:
        super().check(request, model)
        if self.refuses:
            raise InvalidRequestError(self.name)
        return list(self.dropped)

    def media(self, model: str) -> Media:
        super().media(model)
        return self.takes


def fallback(*backends: ScriptedBackend, seconds: float = 5.0) -> Fallback:
    return Fallback([Target(one, f"at-{one.name}") for one in backends], seconds)


async def said(backend: Fallback, asked: Prompt | None = None) -> str:
    deltas: list[Delta] = []
    async with aclosing(backend.generate(asked or prompt())) as turn:
        async for some in turn:
            deltas += some
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


@pytest.mark.parametrize(
    "error",
    [UpstreamError(), UpstreamTimeout(), Overloaded(), RateLimitError(), ModelNotFound("m")],
)
async def test_the_next_one_answers(error: APIError) -> None:
    one, two = ScriptedBackend([error], name="one"), ScriptedBackend(HELLO, HELLO, name="two")
    backend = fallback(one, two)
    assert backend.name == "one"
    assert await said(backend) == "Hello"
    assert backend.name == "two"
    assert [asked.model for asked in (*one.prompts, *two.prompts)] == ["at-one", "at-two"]
    assert await said(backend) == "Hello", "who answered last is asked first"
    assert len(one.prompts) == 1
    assert one.closed == 1


@pytest.mark.parametrize("error", [InvalidRequestError(), ContextLengthExceeded()])
async def test_what_the_client_did_wrong_is_no_reason(error: APIError) -> None:
    one, two = ScriptedBackend([error], name="one"), ScriptedBackend(HELLO, name="two")
    with pytest.raises(type(error)):
        await said(fallback(one, two))
    assert two.prompts == []


@pytest.mark.parametrize("first", [[], [TextDelta("Hel")]])
async def test_who_has_begun_goes_on_or_fails(first: list[Delta]) -> None:
    """Tokens may have been spent: nothing is said twice."""
    one = ScriptedBackend([first, UpstreamError(should_retry=False)], name="one")
    two = ScriptedBackend(HELLO, name="two")
    with pytest.raises(UpstreamError):
        await said(fallback(one, two))
    assert two.prompts == []


async def test_the_last_failure_is_told() -> None:
    backends = [ScriptedBackend([error], name="x") for error in (UpstreamError(), Overloaded())]
    with pytest.raises(Overloaded):
        await said(fallback(*backends))


def _holding(part: dict[str, str]) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [part]}]}


_PDF: Final = frozenset({"application/pdf"})
_ALL: Final = Media(_PDF | {"text/plain"}, made=True, tools=frozenset({"web_search"}))
_FORM: Final = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
_ADDRESS: Final = {"type": "input_image", "image_url": "http://a/b.png"}
_INLINE: Final = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
_FILE: Final = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;,"}
_MADE: Final = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA"}
#: What somebody takes less, and a request that has it.
_LESSER: Final[list[tuple[dict[str, Any], dict[str, Any]]]] = [
    ({"image_urls": False}, _holding(_ADDRESS)),
    ({"plain_http": False}, _holding(_ADDRESS)),
    ({"made": False}, {"input": [_MADE]}),
    ({"files": frozenset()}, _holding(_FILE)),
    ({"schemas": False}, {"text": {"format": _FORM}}),
    ({"tools": frozenset()}, {"tools": [{"type": "web_search"}]}),
]


def _three() -> tuple[Choosy, Choosy, Choosy]:
    one, two, three = Choosy([UpstreamError()]), Choosy(HELLO, name="two"), Choosy(HELLO, name="3")
    one.dropped = two.dropped = ["user"]
    one.takes = replace(_ALL, files=_PDF)
    two.takes = three.takes = _ALL
    return one, two, three


@pytest.mark.parametrize("lesser", [{"refuses": True}, {"dropped": ["user", "reasoning.effort"]}])
async def test_only_who_can_do_the_same_stands_in(lesser: dict[str, Any]) -> None:
    one, two, three = _three()
    for name, value in lesser.items():
        setattr(two, name, value)
    backend = fallback(one, two, three)
    assert await said(backend) == "Hello"
    assert (two.prompts, backend.name) == ([], "3")


@pytest.mark.parametrize(("less", "request_"), _LESSER, ids=str)
async def test_who_takes_less_stands_in_for_what_does_not_need_it(
    less: dict[str, Any], request_: dict[str, Any]
) -> None:
    one, two, three = _three()
    two.takes = replace(_ALL, **less)
    backend = fallback(one, two, three)
    assert await said(backend, prompt(**request_)) == "Hello"
    assert (two.prompts, backend.name) == ([], "3")
    one, two, three = _three()
    two.takes = replace(_ALL, **less)
    backend = fallback(one, two, three)
    assert await said(backend, prompt(**_holding(_INLINE))) == "Hello"
    assert backend.name == "two"


class Forgetful(Choosy):
    """Takes a history that it would refuse as a request: it reads that something was there."""

    def check(self, request: CreateResponse, model: str) -> list[str]:
        if len(request.input) > 1:
            raise InvalidRequestError(self.name)
        return super().check(request, model)


async def test_what_stands_in_a_history_is_no_refusal() -> None:
    """Alone, the first one would be asked too. Who refuses the history does not stand in."""
    one, two = Forgetful([UpstreamError()], HELLO, name="one"), Forgetful(name="two")
    asked = prompt()
    asked.items = asked.items * 2
    backend = fallback(one, two)
    with pytest.raises(UpstreamError):
        await said(backend, asked)
    assert await said(backend, asked) == "Hello"
    assert two.prompts == []


def test_who_refuses_the_request_is_not_asked() -> None:
    one, two = Choosy(name="one"), Choosy(name="two")
    one.refuses, two.dropped, two.takes = True, ["user"], Media(image_urls=False)
    backend = fallback(one, two)
    assert backend.check(prompt().request, "m") == ["user"]
    assert (backend.name, backend.media("m")) == ("two", two.takes)
    two.refuses = True
    with pytest.raises(InvalidRequestError, match="two"):
        fallback(two, one).check(prompt().request, "m")


async def test_all_of_them_have_one_deadline() -> None:
    """And each but the last half of what is left."""
    slow = [ScriptedBackend([30, *HELLO], name=f"slow-{n}") for n in range(3)]
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        await said(fallback(*slow, seconds=0.4))
    assert 0.35 < time.monotonic() - began < 1.0
    assert [len(one.prompts) for one in slow] == [1, 1, 1]
    assert [one.closed for one in slow] == [1, 1, 1]


async def test_time_after_the_beginning_does_not_count() -> None:
    one = ScriptedBackend([[], 0.3, *HELLO[1:]], name="one")
    assert await said(fallback(one, ScriptedBackend(name="two"), seconds=0.2)) == "Hello"


async def test_who_leaves_closes_the_call() -> None:
    one = ScriptedBackend([[], 30], name="one")
    task = asyncio.create_task(said(fallback(one, ScriptedBackend(name="two"))))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    assert one.closed == 1


async def test_tokens_and_windows_are_those_of_the_first() -> None:
    one = ScriptedBackend(name="one", tokens=5, context_window=7)
    two = ScriptedBackend(name="two", tokens=6, context_window=8)
    backend = fallback(one, two)
    assert (await backend.count(prompt()), await backend.window("m")) == (5, 7)
    assert await backend.models() == []
    await backend.aclose()


async def test_a_backend_knows_that_it_was_late(upstream: ChatUpstream) -> None:
    """R-50: it rests after some time, although it never had all of its own."""
    upstream.script(Reply(raw=True, body=["stall"]))
    config = UpstreamConfig("one", upstream.base_url, breaker=BreakerSettings(failures=1))
    one = ChatCompletions(config)
    two = ScriptedBackend(HELLO, name="two")
    backend = Fallback([Target(one, "m"), Target(two, "m")], 4.0)
    assert await said(backend) == "Hello"
    assert one.health() == Health(True, {**one.health().outcomes, "late": 1})
    await one.aclose()
