"""The figures of several processes as those of one (R-138)."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from antiphon.api.figures import Figures, SharedFigures


class Counting:
    """A process, with one metric of each kind."""

    def __init__(self, folder: Path, number: int) -> None:
        registry = CollectorRegistry()
        self.ended = Counter("ended", "Responses.", ["status"], registry=registry)
        self.running = Gauge("running", "Responses.", registry=registry)
        self.queued = Gauge("antiphon_queue_length", "Responses.", registry=registry)
        self.lag = Histogram("lag", "Seconds.", buckets=(0.1, 1.0), registry=registry)
        self.alone = Figures([registry])
        self.figures = SharedFigures([registry], folder, number)

    async def seen(self) -> dict[str, float]:
        """All samples, as this process tells them."""
        text = (await self.figures.text()).decode()
        return {
            sample.name
            + "".join(f" {key}={value}" for key, value in sample.labels.items()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def both(tmp_path: Path) -> tuple[Counting, Counting]:
    return Counting(tmp_path, 1), Counting(tmp_path, 2)


async def test_one_alone_is_told_as_if_there_were_no_others(
    both: tuple[Counting, Counting],
) -> None:
    one, _ = both
    one.ended.labels("completed").inc(3)
    one.lag.observe(0.5)
    assert sorted((await one.figures.text()).splitlines()) == sorted(
        (await one.alone.text()).splitlines()
    )


async def test_they_are_added_up(both: tuple[Counting, Counting]) -> None:
    one, other = both
    one.ended.labels("completed").inc(3)
    one.ended.labels("failed").inc()
    other.ended.labels("completed").inc(4)
    for counting, running, lag in ((one, 1, 0.05), (other, 2, 0.5)):
        counting.running.set(running)
        counting.lag.observe(lag)
    await other.seen()
    seen = await one.seen()
    assert seen["ended_total status=completed"] == 7
    assert seen["ended_total status=failed"] == 1
    assert seen["running"] == 3
    assert (seen["lag_bucket le=0.1"], seen["lag_bucket le=1.0"], seen["lag_count"]) == (1, 2, 2)
    assert seen["lag_sum"] == pytest.approx(0.55)
    assert await other.seen() == seen


async def test_what_all_see_is_not_added_up(both: tuple[Counting, Counting]) -> None:
    for counting, length in zip(both, (5, 3), strict=True):
        counting.queued.set(length)
        await counting.seen()
    assert (await both[1].seen())["antiphon_queue_length"] == 5


async def test_who_comes_in_the_place_of_another_goes_on_counting(
    both: tuple[Counting, Counting], tmp_path: Path
) -> None:
    """Counters never go back, however many there were; what the dead one had in hand is over."""
    one, other = both
    one.ended.labels("completed").inc(3)
    one.running.set(9)
    began = (await one.seen())["ended_created status=completed"]
    assert (await other.seen())["ended_total status=completed"] == 3
    for expected in (4, 5):
        successor = Counting(tmp_path, 1)
        successor.ended.labels("completed").inc()
        seen = await successor.seen()
        assert seen["ended_total status=completed"] == expected
        assert seen["ended_created status=completed"] == began
        assert seen["running"] == 0
        assert await other.seen() == seen


async def test_who_cannot_write_answers_all_the_same(tmp_path: Path) -> None:
    """Disks are full when somebody wants to see figures."""
    folder = tmp_path / "folder"
    folder.mkdir()
    one, other = Counting(folder, 1), Counting(folder, 2)
    one.ended.labels("completed").inc(3)
    await one.seen()
    other.ended.labels("completed").inc(4)
    (folder / "2.new").mkdir()
    assert (await other.seen())["ended_total status=completed"] == 7
    (folder / "2.new").rmdir()
    await other.seen()
    assert (await one.seen())["ended_total status=completed"] == 7
