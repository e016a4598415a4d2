"""How many run at once, and what the others hear (reliability R-115, R-138)."""

import asyncio
import time

import pytest

from antiphon.engine.admission import Admission
from antiphon.engine.metrics import REGISTRY, watch_loop
from antiphon.errors import APIError, Overloaded, RateLimitError


def shed(scope: str) -> float:
    return REGISTRY.get_sample_value("antiphon_requests_shed_total", {"scope": scope}) or 0


def refused(admission: Admission, project: str) -> APIError:
    with pytest.raises(APIError) as caught:
        admission.enter(project)
    return caught.value


def test_a_project_that_is_full_leaves_the_others_alone() -> None:
    admission = Admission(10, 2)
    before = shed("project")
    places = [admission.enter("a"), admission.enter("a")]
    error = refused(admission, "a")
    assert isinstance(error, RateLimitError)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert int(error.headers()["retry-after"]) >= 1
    admission.enter("b").leave()
    places.pop().leave()
    admission.enter("a").leave()
    assert shed("project") == before + 1


def test_a_server_that_is_full_says_so() -> None:
    admission = Admission(2, 2)
    before = shed("server")
    first, second = admission.enter("a"), admission.enter("b")
    error = refused(admission, "c")
    assert isinstance(error, Overloaded)
    assert (error.status, error.code) == (503, "server_is_overloaded")
    assert int(error.headers()["retry-after"]) >= 1
    second.leave()
    admission.enter("c").leave()
    assert shed("server") == before + 1
    assert admission.total == 1
    first.leave()
    assert admission.total == 0


def test_a_project_hears_of_its_own_limit_first() -> None:
    """429 says whose fault it is: another project's client must not be told to slow down."""
    admission = Admission(2, 2)
    places = [admission.enter("a"), admission.enter("a")]
    assert refused(admission, "a").status == 429
    assert refused(admission, "b").status == 503
    assert len(places) == admission.total


def test_a_place_is_given_back_once() -> None:
    admission = Admission(2, 2)
    place = admission.enter("a")
    with admission.enter("a"):
        assert admission.total == 2
    place.leave()
    place.leave()
    assert admission.total == 0
    for _ in range(2):
        admission.enter("a")


def test_a_failure_gives_its_place_back() -> None:
    admission = Admission(1, 1)
    with pytest.raises(ZeroDivisionError), admission.enter("a"):
        raise ZeroDivisionError
    assert admission.total == 0


def test_those_turned_away_come_back_at_different_times() -> None:
    admission = Admission(1, 1)
    place = admission.enter("a")
    times = {refused(admission, "a").retry_after for _ in range(90)}
    assert len(times) == 9
    assert all(seconds is not None and 1 <= seconds <= 4 for seconds in times)
    place.leave()


async def test_a_loop_that_stands_still_is_seen() -> None:
    """R-138."""

    def late() -> float:
        return REGISTRY.get_sample_value("antiphon_loop_lag_seconds_sum") or 0

    watch = asyncio.create_task(watch_loop(0.01))
    await asyncio.sleep(0.05)
    before = late()
    asyncio.get_running_loop().call_soon(time.sleep, 0.2)
    await asyncio.sleep(0.3)
    assert late() - before > 0.1
    watch.cancel()
