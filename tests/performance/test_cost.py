"""What a request and a token cost, in opcodes and bytes of JSON: the same on every machine, busy
or not.

Rules
1. A limit is what was measured when it was set, and a tenth more. Who makes something cheaper sets
   it again; who needs more says in the commit why it earns its cost.
2. What else C does is not seen (`tests.performance.counted`): that is for scripts/bench.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final

import pytest

from tests.performance.counting import Cost, Counted, counted


@dataclass(frozen=True)
class Limit:
    """The most that something may take."""

    #: Of Python 3.11.
    opcodes: float
    #: Bytes that are read and written.
    json: float


#: Measured: 16,553 opcodes and 3,729 bytes; 385 and 100; 482 and 124.
PLAIN: Final = Limit(opcodes=18_000, json=4_100)
STREAM_TOKEN: Final = Limit(opcodes=424, json=110)
BACKGROUND_TOKEN: Final = Limit(opcodes=530, json=137)
#: How many times that a request may cost after `REQUESTS`, and a token of ten times as many.
LATER: Final = 1.05
#: Tokens of a stream.
TOKENS: Final = 200
REQUESTS: Final = 300
#: How often a request is counted, a stream, and a long one.
_TIMES, _STREAMS, _LONG = 20, 6, 3

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGUSR2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    with counted(tmp_path_factory.mktemp("counted")) as server:
        yield server


def plain() -> dict[str, Any]:
    """A stored request of the simplest kind."""
    return {"model": "plain", "input": "Say hello."}


def stream(tokens: int, background: bool) -> dict[str, Any]:
    """A streamed one that is answered with so many tokens, 20 in an HTTP chunk."""
    asked = {"model": f"burst-{tokens}", "input": "Say hello.", "stream": True}
    return {**asked, "background": background}


def hold(what: str, cost: Cost, limit: Limit) -> None:
    """It costs no more, or it is said which functions have the most."""
    ranked = sorted(cost.functions.items(), key=itemgetter(1), reverse=True)
    lines = [f"{opcodes:10,.1f}  {place}" for place, opcodes in ranked[:20]]
    assert cost.opcodes <= limit.opcodes, (
        f"{what} takes {cost.opcodes:,.0f} opcodes, at most {limit.opcodes:,.0f}. "
        + "\n".join(["Functions with the most:", *lines])
    )
    assert cost.json <= limit.json, (
        f"{what} reads and writes {cost.json:,.0f} bytes of JSON, at most {limit.json:,.0f}."
    )


def hold_later(what: str, cost: Cost, first: Cost) -> None:
    """It costs no more than the first did, or it is said which functions have the most more."""
    before = first.functions
    more = {place: opcodes - before.get(place, 0) for place, opcodes in cost.functions.items()}
    limit = Limit(first.opcodes * LATER, first.json * LATER)
    hold(f"{what} (functions: what came on top)", replace(cost, functions=more), limit)


def test_a_plain_request_costs_no_more_and_not_after_many_others(server: Counted) -> None:
    first = server.cost(plain(), _TIMES)
    hold("a plain request", first, PLAIN)
    for _ in range(REQUESTS):
        server.ask(plain())
    later = server.cost(plain(), _TIMES)
    hold_later(f"a plain request after {REQUESTS} others", later, first)


@pytest.mark.parametrize(
    ("what", "background", "limit"),
    [
        ("a token of a stream", False, STREAM_TOKEN),
        ("a token of a background stream", True, BACKGROUND_TOKEN),
    ],
    ids=["stream", "background"],
)
def test_a_token_costs_no_more_and_not_after_many_others(
    server: Counted, what: str, background: bool, limit: Limit
) -> None:
    short = server.cost(stream(TOKENS, background), _STREAMS, TOKENS)
    hold(what, short, limit)
    long = server.cost(stream(10 * TOKENS, background), _LONG, 10 * TOKENS)
    hold_later(f"{what} of {10 * TOKENS:,}", long, short)


def test_a_limit_that_is_passed_says_where_the_cost_is() -> None:
    cost = Cost(30.0, 90.0, {"run.py:1 run": 10.0, "emitter.py:7 emit": 20.0})
    hold("a token", cost, Limit(30, 90))
    with pytest.raises(AssertionError) as told:
        hold("a token", cost, Limit(29, 90))
    assert str(told.value).splitlines()[:3] == [
        "a token takes 30 opcodes, at most 29. Functions with the most:",
        "        20.0  emitter.py:7 emit",
        "        10.0  run.py:1 run",
    ]
    with pytest.raises(AssertionError, match="reads and writes 90 bytes of JSON, at most 89"):
        hold("a token", cost, Limit(30, 89))
    with pytest.raises(AssertionError) as told:
        hold_later("a token", cost, Cost(20.0, 90.0, {"emitter.py:7 emit": 20.0}))
    assert str(told.value).splitlines()[1] == "        10.0  run.py:1 run"
