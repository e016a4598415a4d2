"""Files and uploads: one suite, run on each store (R-29, R-102, R-104)."""

import asyncio
import secrets
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.store import file_statements
from antiphon.store.base import MOST_PARTS, FileListing, FileRow, PartRow, Store, UploadRow
from antiphon.store.base.files import MOST_PENDING, UPLOAD_MEMORY
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW


def file(
    *,
    project: str = "alpha",
    created_at: int = NOW,
    expires_at: int | None = None,
    size: int = 10,
    purpose: str = "user_data",
) -> FileRow:
    id_ = f"file-{secrets.token_hex(16)}"
    return FileRow(id_, project, created_at, expires_at, size, "a.txt", purpose)


def upload(*, project: str = "alpha", size: int = 10, expires_at: int = NOW + 3600) -> UploadRow:
    id_ = f"upload_{secrets.token_hex(16)}"
    return UploadRow(id_, project, NOW, expires_at, size, "b.txt", "batch", 3600)


def part(of: UploadRow, size: int = 5, created_at: int = NOW) -> PartRow:
    return PartRow(f"part_{secrets.token_hex(16)}", of.id, of.project, created_at, size)


async def listed(store: Store, project: str = "alpha", now: int = NOW, **wanted: str) -> list[str]:
    page = await store.files.listed(project, FileListing(**wanted), now)  # type: ignore[arg-type]
    assert page is not None
    return [row.id for row in page[0]]


async def test_a_file_is_there_until_it_is_deleted(store: Store) -> None:
    row = file(expires_at=NOW + 10)
    assert await store.files.add(row)
    assert await store.files.get("alpha", row.id, NOW) == row
    with pytest.raises(ValueError, match="exists"):
        await store.files.add(row)
    assert await store.files.delete("alpha", row.id)
    assert not await store.files.delete("alpha", row.id)
    assert await store.files.get("alpha", row.id, NOW) is None


async def test_another_projects_file_is_unknown(store: Store) -> None:
    """R-29."""
    row = file()
    await store.files.add(row)
    assert await store.files.get("beta", row.id, NOW) is None
    assert not await store.files.delete("beta", row.id)
    assert await listed(store, "beta") == []
    assert await store.files.listed("beta", FileListing(after=row.id), NOW) is None
    assert await store.files.used("beta") == 0
    assert await store.files.get("alpha", row.id, NOW) == row


async def test_an_expired_file_is_unknown_before_it_is_swept(store: Store) -> None:
    rows = [file(expires_at=NOW + wait) for wait in (3, 1, 2)]
    for row in rows:
        await store.files.add(row)
    assert await store.files.get("alpha", rows[1].id, NOW) == rows[1]
    assert await store.files.get("alpha", rows[1].id, NOW + 1) is None
    assert await listed(store, now=NOW + 2) == [rows[0].id]
    assert await store.files.listed("alpha", FileListing(after=rows[1].id), NOW + 1) is None
    assert await store.files.expired(NOW, 9) == []
    assert await store.files.expired(NOW + 2, 9) == [
        ("alpha", row.id) for row in (rows[1], rows[2])
    ]
    assert await store.files.expired(NOW + 3, 1) == [("alpha", rows[1].id)]
    assert await store.files.known([rows[1].id]) == {rows[1].id}
    assert await store.files.delete("alpha", rows[1].id)


async def test_files_are_listed_in_pages(store: Store) -> None:
    rows = [file(created_at=NOW + wait) for wait in (0, 5, 5, 1)]
    for row in rows:
        await store.files.add(row)
    newest = [rows[2].id, rows[1].id, rows[3].id, rows[0].id]
    assert await listed(store) == newest
    assert await listed(store, order="asc") == newest[::-1]
    assert await listed(store, after=newest[0]) == newest[1:]
    assert await listed(store, after=newest[2], order="asc") == newest[1::-1]
    page = await store.files.listed("alpha", FileListing(limit=3), NOW)
    assert page is not None
    assert ([row.id for row in page[0]], page[1]) == (newest[:3], True)
    page = await store.files.listed("alpha", FileListing(limit=1, after=newest[2]), NOW)
    assert page == ([rows[0]], False)
    assert await store.files.listed("alpha", FileListing(after="file-0"), NOW) is None


async def test_files_are_listed_by_purpose(store: Store) -> None:
    one, two = file(purpose="batch"), file()
    for row in (one, two):
        await store.files.add(row)
    assert await listed(store, purpose="batch") == [one.id]
    assert await listed(store, purpose="vision") == []


async def test_a_project_has_so_many_bytes(store: Store) -> None:
    """R-102: whoever comes at the same time; parts count, and become the file."""
    made = await asyncio.gather(*(store.files.add(file(size=30), 100) for _ in range(5)))
    assert sorted(made) == [False, False, True, True, True]
    assert await store.files.used("alpha") == 90
    assert await store.files.add(file(project="beta", size=100), 100)
    begun = upload(size=20)
    await store.files.begin(begun)
    assert await store.files.add_part(part(begun, 10), 100) == "added"
    assert await store.files.add_part(part(begun, 1), 100) == "no_room"
    assert await store.files.used("alpha") == 100
    assert not await store.files.add(file(size=1), 100)
    assert await store.files.add(file(size=0), 100)
    await store.files.complete(begun, file(size=10))
    assert await store.files.used("alpha") == 100


async def test_an_upload_takes_parts_until_it_is_complete(store: Store) -> None:
    begun = upload()
    await store.files.begin(begun)
    assert await store.files.upload("alpha", begun.id) == begun
    parts = [part(begun), part(begun)]
    for one in parts:
        assert await store.files.add_part(one) == "added"
    assert await store.files.add_part(part(begun, 1)) == "too_large"
    assert await store.files.parts("alpha", begun.id) == {one.id: 5 for one in parts}
    made = file()
    gone = await store.files.complete(replace(begun, parts_key="key"), made)
    assert gone is not None
    assert set(gone) == {one.id for one in parts}
    assert await store.files.get("alpha", made.id, NOW) == made
    done = replace(begun, status="completed", file_id=made.id, parts_key="key")
    assert await store.files.upload("alpha", begun.id) == done
    assert await store.files.parts("alpha", begun.id) == {}
    assert await store.files.add_part(part(begun, 0)) == "ended"
    assert await store.files.complete(begun, file()) is None
    assert await store.files.cancel("alpha", begun.id, NOW) is None
    assert len(await listed(store)) == 1


async def test_of_many_who_complete_it_one_does(store: Store) -> None:
    begun = upload()
    await store.files.begin(begun)
    answers = await asyncio.gather(*(store.files.complete(begun, file()) for _ in range(9)))
    assert [answer for answer in answers if answer is not None] == [[]]
    assert len(await listed(store)) == 1


async def test_a_cancelled_upload_takes_nothing(store: Store) -> None:
    begun = upload()
    await store.files.begin(begun)
    one = part(begun)
    await store.files.add_part(one)
    assert await store.files.cancel("beta", begun.id, NOW) is None
    assert await store.files.cancel("alpha", begun.id, NOW) == [one.id]
    assert await store.files.cancel("alpha", begun.id, NOW) is None
    assert await store.files.add_part(part(begun)) == "ended"
    assert await store.files.complete(begun, file()) is None
    assert await store.files.used("alpha") == 0


async def test_another_projects_upload_is_unknown(store: Store) -> None:
    """R-29."""
    begun = upload()
    await store.files.begin(begun)
    await store.files.add_part(part(begun))
    assert await store.files.upload("beta", begun.id) is None
    assert await store.files.parts("beta", begun.id) == {}
    assert await store.files.add_part(replace(part(begun), project="beta")) == "ended"
    assert await store.files.complete(replace(begun, project="beta"), file()) is None


async def test_an_upload_has_so_many_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-121."""
    assert MOST_PARTS == 10_000
    monkeypatch.setattr("antiphon.store.sql_files.MOST_PARTS", 2)
    begun = upload()
    await store.files.begin(begun)
    told = [await store.files.add_part(part(begun, 1)) for _ in range(3)]
    assert told == ["added", "added", "too_many"]


async def test_expired_uploads_are_cleared_in_steps(store: Store) -> None:
    begun, late = upload(), upload(expires_at=NOW + 9999)
    parts = [part(begun, 1) for _ in range(3)]
    for row in (begun, late):
        await store.files.begin(row)
    for one in [*parts, part(late)]:
        await store.files.add_part(one)
    over = begun.expires_at
    assert await store.files.end_uploads(over - 1, 9) == ([], 0)
    assert await store.files.add_part(part(begun, 1, created_at=over)) == "ended"
    assert await store.files.complete(begun, file(created_at=over)) is None
    first, _ = await store.files.end_uploads(over, 2)
    rest, _ = await store.files.end_uploads(over, 2)
    assert (len(first), len(rest)) == (2, 1)
    assert {*first, *rest} == {one.id for one in parts}
    assert await store.files.upload("alpha", begun.id) == begun
    _, forgotten = await store.files.end_uploads(over + UPLOAD_MEMORY, 2)
    assert forgotten == 1
    assert await store.files.upload("alpha", begun.id) is None
    assert await store.files.upload("alpha", late.id) == late


async def test_a_project_has_so_many_pending_uploads(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-102: whoever begins at the same time; what is over makes room."""
    assert MOST_PENDING == 1_000
    monkeypatch.setattr("antiphon.store.sql_files.MOST_PENDING", 3)
    rows = [upload() for _ in range(5)]
    begun = await asyncio.gather(*(store.files.begin(row) for row in rows))
    assert sorted(begun) == [False, False, True, True, True]
    there = [row for row, was_begun in zip(rows, begun, strict=True) if was_begun]
    (refused, _) = [row for row, was_begun in zip(rows, begun, strict=True) if not was_begun]
    assert await store.files.upload("alpha", refused.id) is None
    assert await store.files.begin(upload(project="beta"))
    for end in (
        store.files.cancel("alpha", there[0].id, NOW),
        store.files.complete(there[1], file()),
    ):
        assert not await store.files.begin(upload())
        await end
        assert await store.files.begin(upload(expires_at=NOW + 1))
    assert not await store.files.begin(upload())
    later = replace(upload(expires_at=NOW + 9999), created_at=NOW + 1)
    assert await store.files.begin(later)


async def test_what_has_a_row_is_known(store: Store) -> None:
    """R-104."""
    row, begun = file(project="beta"), upload()
    one = part(begun)
    await store.files.add(row)
    await store.files.begin(begun)
    await store.files.add_part(one)
    ids = [row.id, one.id, begun.id, "file-1", 'file"2', "'"]
    assert await store.files.known(ids) == {row.id, one.id}
    assert await store.files.known([]) == set()


async def test_files_are_there_after_a_restart(tmp_path: Path) -> None:
    url, row = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}", file()
    for _ in range(2):
        store = SqliteStore(url)
        await store.open()
        if await store.files.get("alpha", row.id, NOW) is None:
            await store.files.add(row)
        await store.close()
    with closing(sqlite3.connect(tmp_path / "antiphon.db")) as connection:
        assert connection.execute("SELECT id FROM files").fetchall() == [(row.id,)]


async def test_large_projects_are_quick_to_ask(tmp_path: Path) -> None:
    """What a project has in all comes from an index alone, and a page costs what it shows."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await store.open()
    with closing(sqlite3.connect(tmp_path / "antiphon.db")) as connection, connection:
        connection.execute(
            "INSERT INTO files (id, project, created_at, bytes, filename, purpose)"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            " SELECT 'file-' || i, 'alpha', i, 7, 'a.txt', 'user_data' FROM n"
        )
        values = {"project": "alpha"}
        plan = connection.execute(f"EXPLAIN QUERY PLAN {file_statements.USED}", values).fetchall()
        assert "USING COVERING INDEX files_by_size" in str(plan)
    began = time.monotonic()
    assert await store.files.used("alpha") == 700_000
    assert len(await _page(store, "file-50000")) == 20
    assert time.monotonic() - began < 0.5
    await store.close()


async def _page(store: Store, after: str) -> list[FileRow]:
    page = await store.files.listed("alpha", FileListing(after=after, limit=20), NOW)
    assert page is not None
    return page[0]
