"""What goes by itself: expired files and uploads, and blobs without a row (R-104)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from antiphon.engine.orphans import Orphans
from antiphon.engine.uploads import LIFETIME
from antiphon.store.base.files import UPLOAD_MEMORY
from tests.blobs.putting import pieces, put
from tests.engine.filing import Troubled, World, opened, said_of_stuck


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


async def test_expired_files_go_in_steps(world: World) -> None:
    for _ in range(3):
        await world.add(lifetime=10)
    kept = await world.add()
    sweeper = Orphans(
        world.rows, world.store.containers, world.store.images, world.blobs, world.clock
    )
    assert await sweeper.sweep(2) == 0
    world.clock.now += 10
    assert [await sweeper.sweep(2) for _ in range(3)] == [2, 1, 0]
    assert await world.ids() == {kept.id}
    assert await world.rows.used("alpha") == 1


async def test_a_sweep_passes_what_it_cannot_remove(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: one line says so, the rows are gone, and the blobs are orphans."""
    rows = [await world.add(lifetime=10) for _ in range(6)]
    trouble = Troubled(world, monkeypatch)
    trouble.ids = {row.id for row in rows[:4]}
    world.clock.now += 10
    with capture_logs() as logs:
        sweeper = Orphans(
            world.rows, world.store.containers, world.store.images, world.blobs, world.clock
        )
        assert [await sweeper.sweep(9) for _ in range(2)] == [6, 0]
    assert said_of_stuck(logs) == [(4, rows[0].id)]
    assert await world.ids() == trouble.ids
    with capture_logs() as logs:
        assert [await world.orphans.collect() for _ in range(3)] == [0, 0, 0]
    assert [count for count, _ in said_of_stuck(logs)] == [4, 4]
    assert not [entry for entry in logs if entry["event"] == "orphan_removed"]
    trouble.ids = frozenset()
    assert await world.orphans.collect() == 4


async def test_a_place_that_is_broken_is_not_asked_500_times(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some in a row say so, among others that work they do not."""
    trouble = Troubled(world, monkeypatch)
    sweeper = Orphans(
        world.rows, world.store.containers, world.store.images, world.blobs, world.clock
    )
    for stuck, tried in ((30, 10), (15, 30)):
        rows = [await world.add(lifetime=10) for _ in range(30)]
        trouble.ids = {row.id for row in rows[:: 30 // stuck]}
        trouble.tried.clear()
        world.clock.now += 10
        with capture_logs() as logs:
            assert await sweeper.sweep(99) == 30
        assert (len(trouble.tried), said_of_stuck(logs)) == (tried, [(stuck, rows[0].id)])


async def test_uploads_are_forgotten_in_steps(world: World) -> None:
    """The sweep says that there may be more."""
    for _ in range(5):
        await world.begin()
    world.clock.now += LIFETIME + UPLOAD_MEMORY
    sweeper = Orphans(
        world.rows, world.store.containers, world.store.images, world.blobs, world.clock
    )
    assert [await sweeper.sweep(2) for _ in range(4)] == [2, 2, 1, 0]


async def test_orphans_go_in_the_second_round(world: World) -> None:
    """R-104: files and parts of pending uploads stay."""
    row = await world.add()
    upload = await world.begin()
    part = await world.part(upload, b"ab")
    for number in range(1_200):
        await put(world.blobs, f"file-{number}", b"")
    young = Orphans(world.rows, world.store.containers, world.store.images, world.blobs)
    assert [await young.collect() for _ in range(3)] == [0, 0, 0]
    assert [await world.orphans.collect() for _ in range(3)] == [0, 1_200, 0]
    assert await world.ids() == {row.id, part}


async def test_a_blob_that_gets_its_row_late_is_no_orphan(world: World) -> None:
    """A large object of S3 is as old as its first byte."""
    async with world.files.arriving("alpha") as arrival:
        await arrival.take(pieces(b"x"))
        assert await world.orphans.collect() == 0
        row = await world.files.add("alpha", arrival, "a.txt", "user_data", None)
    assert await world.orphans.collect() == 0
    assert await world.ids() == {row.id}


async def test_a_sweep_beside_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes do it; nothing is said twice."""
    row = await world.add(lifetime=10)
    world.clock.now += 10
    found = await world.rows.expired(int(world.clock.now), 5)
    await world.rows.delete("alpha", row.id)

    async def stale(*_: int) -> list[tuple[str, str]]:
        return found

    monkeypatch.setattr(world.rows, "expired", stale)
    assert (
        await Orphans(
            world.rows, world.store.containers, world.store.images, world.blobs, world.clock
        ).sweep(5)
        == 1
    )
    assert await world.ids() == {row.id}
