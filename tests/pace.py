"""How fast this machine is: limits in seconds are for one of the year 2025."""

import time


def pace() -> float:
    """How many times slower it is now than that one. At least 2: shared machines change their speed
    by that much from minute to minute."""
    return max(2.0, min(_spent() for _ in range(5)) / 0.03)


def _spent() -> float:
    start, total = time.process_time(), 0
    for number in range(300_000):
        total += number * number
    return time.process_time() - start
