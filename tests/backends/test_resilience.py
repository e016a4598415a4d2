"""Retries and the circuit breaker: whose failure it is decides (R-39, R-40, R-50)."""

import pytest

from antiphon.backends.resilience import BreakerSettings, CircuitBreaker, backoff, retry_after
from antiphon.errors import Overloaded


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(BreakerSettings(failures=2, cool_down=10.0), clock)


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.admit()
    breaker.failed()
    with pytest.raises(Overloaded) as caught:
        breaker.admit()
    assert caught.value.retry_after == 10.0
    assert caught.value.status == 503


def test_an_answer_does_not_forgive_a_failure_but_a_whole_one_does(breaker: CircuitBreaker) -> None:
    """A backend that accepts and then stalls is opened too (R-50)."""
    breaker.failed()
    breaker.accepted()
    breaker.failed()
    with pytest.raises(Overloaded):
        breaker.admit()


def test_one_probe_after_the_cool_down(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed()
    breaker.failed()
    clock.now = 9.9
    with pytest.raises(Overloaded):
        breaker.admit()
    clock.now = 10.0
    breaker.admit()
    with pytest.raises(Overloaded):
        breaker.admit()
    breaker.accepted()
    breaker.release(is_probe=True)
    breaker.admit()
    breaker.admit()


def test_a_failed_probe_opens_it_again(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed()
    breaker.failed()
    clock.now = 10.0
    breaker.admit()
    breaker.failed()
    breaker.release(is_probe=True)
    with pytest.raises(Overloaded):
        breaker.admit()
    clock.now = 20.0
    breaker.admit()


def test_a_probe_that_was_cancelled_makes_room_for_another(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.failed()
    breaker.failed()
    clock.now = 10.0
    breaker.admit()
    breaker.release(is_probe=True)
    breaker.admit()


def test_only_the_end_of_the_probe_makes_room(breaker: CircuitBreaker, clock: Clock) -> None:
    """A call from before the breaker opened may end while the probe runs."""
    assert breaker.admit() is False
    breaker.failed()
    breaker.failed()
    clock.now = 10.0
    assert breaker.admit() is True
    breaker.release(is_probe=False)
    with pytest.raises(Overloaded):
        breaker.admit()
    breaker.release(is_probe=True)
    assert breaker.admit() is True


def test_after_the_probe_one_failure_is_enough(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed()
    breaker.failed()
    clock.now = 10.0
    breaker.admit()
    breaker.accepted()
    breaker.release(is_probe=True)
    breaker.failed()
    with pytest.raises(Overloaded):
        breaker.admit()


def test_backoff_grows_and_is_jittered() -> None:
    """R-39, R-40."""
    first, second = ({backoff(n) for _ in range(50)} for n in (1, 2))
    assert len(first) > 1
    assert all(0.1 <= wait <= 0.4 for wait in first)
    assert all(0.2 <= wait <= 0.8 for wait in second)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "99999999999999999999"}, 3600.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon\r\nx: y"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_and_sanitised(headers: dict[str, str], seconds: float | None) -> None:
    """R-39, R-24."""
    assert retry_after(headers, now=60.0) == seconds
