"""Containers and their files: one suite, run on each store (R-29, R-104, R-110)."""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from antiphon.store import container_statements
from antiphon.store.base import (
    MOST_CONTAINER_FILES,
    Claim,
    ContainerFile,
    ContainerRow,
    Fence,
    NotPut,
    Put,
    Source,
    Store,
    Window,
)
from antiphon.store.base.containers import CONTAINER_MEMORY
from antiphon.store.sql import SqliteStore
from antiphon.store.sql_containers import SqliteContainers
from antiphon.store.steps import Questions
from tests.store.rows import NOW

#: When a container that nobody uses is over.
OVER = NOW + 20 * 60
ROOM = 1_000

_T = TypeVar("_T")


def box(*, project: str = "alpha", name: str = "box", minutes: int = 20) -> ContainerRow:
    return ContainerRow(f"cntr_{secrets.token_hex(16)}", project, name, NOW, NOW, minutes)


def file(
    of: ContainerRow, name: str = "a.txt", size: int = 10, source: Source = "user", changed: int = 0
) -> ContainerFile:
    id_, blob = f"cfile_{secrets.token_hex(16)}", f"cblob_{secrets.token_hex(16)}"
    return ContainerFile(id_, of.id, f"/mnt/data/{name}", NOW, size, source, changed, blob)


async def made(store: Store, **about: str) -> ContainerRow:
    row = box(**about)  # type: ignore[arg-type]
    assert await store.containers.add(row, 100)
    return row


async def put(store: Store, new: ContainerFile, now: int = NOW) -> Put | NotPut:
    return await store.containers.put("alpha", new, ROOM, now)


async def filled(store: Store, row: ContainerRow, *names: str) -> list[ContainerFile]:
    files = [file(row, name) for name in names]
    for one in files:
        assert await put(store, one) == Put(one, None)
    return files


async def ids(
    store: Store, window: Window, *, name: str | None = None, now: int = NOW
) -> tuple[list[str], bool]:
    page = await store.containers.listed("alpha", window, name, now)
    assert page is not None
    return [row.id for row in page[0]], page[1]


class Late:
    """Something happens between the answer to a question and what is made of it."""

    def __init__(self, readers: Questions, then: Callable[[], Awaitable[object]]) -> None:
        self._readers = readers
        self._then = then

    async def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        answer = await self._readers.ask(question)
        await self._then()
        return answer


# -- containers ----------------------------------------------------------------------------------


async def test_a_container_is_there_until_it_is_deleted(store: Store) -> None:
    row = box()
    row = replace(row, memory_limit="4g", expires_minutes=5)
    assert await store.containers.add(row, 3)
    assert await store.containers.get("alpha", row.id) == row
    assert await store.containers.delete("alpha", row.id) == []
    assert await store.containers.delete("alpha", row.id) is None
    assert await store.containers.get("alpha", row.id) is None


async def test_another_projects_container_is_unknown(store: Store) -> None:
    """R-29: whatever is asked or said of it, and nothing of it changes."""
    row = await made(store)
    (inside,) = await filled(store, row, "a.txt")
    theirs = store.containers
    assert await theirs.get("beta", row.id) is None
    assert await theirs.touch("beta", row.id, NOW + 9) is None
    assert await theirs.claim("beta", row.id, "one", NOW + 9, NOW + 10) is None
    assert await theirs.listed("beta", Window(9), None, NOW) == ([], False)
    assert await theirs.listed("beta", Window(9, after=row.id), None, NOW) is None
    assert await theirs.put("beta", file(row, "b.txt"), ROOM, NOW) == "gone"
    assert await theirs.file("beta", row.id, inside.id) is None
    assert await theirs.files("beta", row.id, Window(9, after=inside.id)) is None
    assert await theirs.all_files("beta", row.id) == []
    assert await theirs.remove("beta", row.id, inside.id) is None
    assert await theirs.size("beta", row.id) == 0
    assert await theirs.delete("beta", row.id) is None
    assert await theirs.get("alpha", row.id) == row
    assert await theirs.all_files("alpha", row.id) == [inside]


async def test_who_uses_a_container_keeps_it(store: Store) -> None:
    """R-110: it is over when nobody has used it for so long, and then for good."""
    row = await made(store)
    later = replace(row, last_active_at=OVER - 1)
    assert await store.containers.touch("alpha", row.id, OVER - 1) == later
    assert await store.containers.touch("alpha", row.id, NOW) == later, "never back"
    over = OVER - 1 + 20 * 60
    assert not later.is_expired(over - 1)
    assert later.is_expired(over)
    for say in (
        store.containers.touch("alpha", row.id, over),
        store.containers.claim("alpha", row.id, "one", over, over),
        put(store, file(row), over),
    ):
        assert await say in (later, None, "gone")
    assert await store.containers.get("alpha", row.id) == later
    assert await store.containers.all_files("alpha", row.id) == []
    assert await store.containers.touch("alpha", "cntr_0", NOW) is None


async def test_one_process_runs_code_in_a_container(store: Store) -> None:
    """R-110: it says so for a while; who asks meanwhile learns that, and whose it was."""
    row = await made(store)
    claim, hold = store.containers.claim, store.containers.hold
    assert await claim("alpha", row.id, "one", NOW + 1, NOW + 9) == Claim(None, used=False)
    held = replace(row, owner="one", busy_until=NOW + 9, last_active_at=NOW + 1)
    assert await store.containers.get("alpha", row.id) == held
    assert await claim("alpha", row.id, "two", NOW + 8, NOW + 20) == Claim("one", False, busy=True)
    assert await claim("alpha", row.id, "one", NOW + 8, NOW + 10) == Claim("one", used=False)
    assert await hold("alpha", row.id, "one", NOW + 9, NOW + 14)
    assert not await hold("alpha", row.id, "two", NOW + 9, NOW + 99)
    assert not await hold("beta", row.id, "one", NOW + 9, NOW + 99)
    assert await claim("alpha", row.id, "two", NOW + 13, NOW + 20) == Claim("one", False, busy=True)
    assert await hold("alpha", row.id, "one", NOW + 13, NOW + 13)
    assert await claim("alpha", row.id, "two", NOW + 13, NOW + 20) == Claim("one", used=True)
    assert await claim("alpha", row.id, "one", NOW + 20, NOW + 30) == Claim("two", used=True)
    assert await claim("alpha", "cntr_0", "one", NOW, NOW) is None


async def test_containers_are_listed_in_pages(store: Store) -> None:
    rows = [(await made(store, name="ab"[n % 2])).id for n in range(5)]
    await made(store, project="beta")
    newest = rows[::-1]
    assert await ids(store, Window(9)) == (newest, False)
    assert await ids(store, Window(2)) == (newest[:2], True)
    assert await ids(store, Window(3, after=newest[1])) == (newest[2:], False)
    assert await ids(store, Window(9, newest_first=False)) == (rows, False)
    assert await ids(store, Window(1, newest_first=False, after=rows[0])) == ([rows[1]], True)
    assert await ids(store, Window(9), name="b") == ([rows[3], rows[1]], False)
    assert await ids(store, Window(9, after=rows[3]), name="b") == ([rows[1]], False)
    assert await ids(store, Window(9), name="c") == ([], False)
    assert await store.containers.listed("alpha", Window(9, after="cntr_0"), None, NOW) is None


async def test_expired_containers_are_not_listed(store: Store) -> None:
    """One that expired between two pages still says where the next one begins."""
    brief, lasting = box(minutes=1), box()
    for row in (lasting, brief):
        await store.containers.add(row, 3)
    assert await ids(store, Window(9), now=NOW + 59) == ([brief.id, lasting.id], False)
    assert await ids(store, Window(9), now=NOW + 60) == ([lasting.id], False)
    assert await ids(store, Window(9, after=brief.id), now=NOW + 60) == ([lasting.id], False)
    assert await ids(store, Window(9), now=OVER) == ([], False)


async def test_a_project_has_so_many_containers(store: Store) -> None:
    """R-102: whoever comes at the same time; what is deleted or expired makes room."""
    rows = [box(minutes=n + 1) for n in range(5)]
    added = await asyncio.gather(*(store.containers.add(row, 3) for row in rows))
    assert added == [True, True, True, False, False]
    assert await store.containers.get("alpha", rows[3].id) is None
    assert await store.containers.add(box(project="beta"), 3)
    await store.containers.delete("alpha", rows[2].id)
    assert await store.containers.add(box(), 3)
    assert not await store.containers.add(box(), 3)
    assert not await store.containers.add(replace(box(), created_at=NOW + 59), 3)
    assert await store.containers.add(replace(box(), created_at=NOW + 60), 3)


# -- files ---------------------------------------------------------------------------------------


async def test_a_file_keeps_its_id_while_its_bytes_change(store: Store) -> None:
    row = await made(store)
    (first,) = await filled(store, row, "a.txt")
    second = replace(file(row, "a.txt", 20, "assistant", 2**53), created_at=NOW + 5)
    now = replace(second, id=first.id, created_at=NOW)
    assert await put(store, second, NOW + 5) == Put(now, first.blob)
    assert await store.containers.file("alpha", row.id, first.id) == now
    assert await store.containers.file("alpha", row.id, second.id) is None
    assert await store.containers.all_files("alpha", row.id) == [now]
    assert await store.containers.size("alpha", row.id) == 20
    used = await store.containers.get("alpha", row.id)
    assert used == replace(row, last_active_at=NOW + 5)
    assert await store.containers.remove("alpha", row.id, first.id) == second.blob
    assert await store.containers.remove("alpha", row.id, first.id) is None
    assert await store.containers.all_files("alpha", row.id) == []


async def test_what_code_made_is_put_over_what_it_had(store: Store) -> None:
    """Nothing else, and only while its process has the container."""
    row = await made(store)
    assert await store.containers.claim("alpha", row.id, "one", NOW, NOW + 6) is not None

    async def kept(new: ContainerFile, owner: str, blob: str | None) -> Put | NotPut:
        return await store.containers.put("alpha", new, ROOM, NOW, Fence(owner, blob))

    first, second = file(row), file(row)
    assert await kept(first, "two", None) == "taken"
    assert await kept(first, "one", None) == Put(first, None)
    assert await kept(second, "one", None) == "replaced"
    assert await kept(second, "one", second.blob) == "replaced"
    assert isinstance(await kept(second, "one", first.blob), Put)
    assert isinstance(await kept(file(row, "b.txt"), "one", "blob of a file that went"), Put)
    (there, _) = await store.containers.all_files("alpha", row.id)
    assert await store.containers.remove("alpha", row.id, there.id, first.blob) is None
    assert await store.containers.remove("alpha", row.id, there.id, second.blob) == second.blob


async def test_what_a_container_was_given_is_known(store: Store) -> None:
    """As long as it is there, by its own project."""
    row, other = await made(store), await made(store)
    assert await store.containers.given("alpha", row.id) == set()
    await store.containers.give("alpha", row.id, ["file-1", "file-2"])
    await store.containers.give("alpha", row.id, ["file-2", "file-3"])
    await store.containers.give("beta", row.id, ["file-4"])
    assert await store.containers.given("alpha", row.id) == {"file-1", "file-2", "file-3"}
    assert await store.containers.given("beta", row.id) == set()
    assert await store.containers.given("alpha", other.id) == set()
    await store.containers.delete("alpha", row.id)
    assert await store.containers.given("alpha", row.id) == set()


async def test_files_are_those_of_one_container(store: Store) -> None:
    one, two = await made(store), await made(store)
    (inside,) = await filled(store, one, "a.txt")
    (other,) = await filled(store, two, "a.txt")
    assert await store.containers.file("alpha", two.id, inside.id) is None
    assert await store.containers.remove("alpha", two.id, inside.id) is None
    assert await store.containers.files("alpha", two.id, Window(9, after=inside.id)) is None
    assert await store.containers.delete("alpha", one.id) == [inside.blob]
    assert await store.containers.all_files("alpha", two.id) == [other]


async def test_files_are_listed_in_pages(store: Store) -> None:
    row = await made(store)
    files = await filled(store, row, *"abc")
    listed = store.containers.files
    assert await listed("alpha", row.id, Window(9)) == (files[::-1], False)
    assert await listed("alpha", row.id, Window(2)) == (files[:0:-1], True)
    assert await listed("alpha", row.id, Window(2, after=files[1].id)) == ([files[0]], False)
    oldest = Window(1, newest_first=False, after=files[0].id)
    assert await listed("alpha", row.id, oldest) == ([files[1]], True)
    assert await listed("alpha", row.id, Window(9, after="cfile_0")) is None
    assert await store.containers.all_files("alpha", row.id) == files


async def test_a_container_has_so_much_room(store: Store) -> None:
    """R-102: whoever comes at the same time; what is replaced does not count."""
    row = await made(store)
    new = [file(row, str(n), 300) for n in range(5)]
    told = await asyncio.gather(*(put(store, one) for one in new))
    assert [isinstance(one, Put) for one in told] == [True] * 3 + [False] * 2
    assert told[3:] == ["no_room"] * 2
    assert await store.containers.size("alpha", row.id) == 900
    assert await store.containers.size("alpha", row.id, "/mnt/data/0") == 600
    assert isinstance(await put(store, file(row, "0", 400)), Put)
    assert await put(store, file(row, "0", 401)) == "no_room"
    assert await put(store, file(row, "9", 1)) == "no_room"
    assert isinstance(await put(store, file(row, "9", 0)), Put)


async def test_a_container_has_so_many_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_CONTAINER_FILES == 1_000
    monkeypatch.setattr("antiphon.store.sql_containers.MOST_CONTAINER_FILES", 2)
    row = await made(store)
    await filled(store, row, "a", "b")
    assert await put(store, file(row, "c")) == "too_many"
    assert isinstance(await put(store, file(row, "b")), Put)


# -- the sweep -----------------------------------------------------------------------------------


async def test_expired_containers_are_cleared_in_steps(store: Store) -> None:
    """R-104, R-110: files first; the row a day later, so that it is told from an unknown one."""
    row, kept = await made(store), await made(store)
    blobs = {one.blob for one in await filled(store, row, *"abc")}
    (other,) = await filled(store, kept, "a")
    await store.containers.touch("alpha", kept.id, OVER - 1)
    assert await store.containers.expire(OVER - 1, 2) == ([], 0)
    first, _ = await store.containers.expire(OVER, 2)
    rest, _ = await store.containers.expire(OVER, 2)
    assert (len(first), {*first, *rest}) == (2, blobs)
    forgotten = OVER + CONTAINER_MEMORY
    assert await store.containers.expire(forgotten - 1, 9) == ([other.blob], 0)
    assert await store.containers.get("alpha", row.id) == row
    assert await store.containers.expire(forgotten, 9) == ([], 1)
    assert await store.containers.get("alpha", row.id) is None
    assert await store.containers.get("alpha", kept.id) is not None


async def test_rows_go_in_steps_too(store: Store) -> None:
    for _ in range(3):
        await made(store)
    forgotten = OVER + CONTAINER_MEMORY
    assert [(await store.containers.expire(forgotten, 2))[1] for _ in range(3)] == [2, 1, 0]


async def test_what_is_used_while_it_is_swept_stays(store: Store) -> None:
    """Clocks of processes differ."""
    row = await made(store)
    files = await filled(store, row, "a")
    rows = store.containers
    assert isinstance(rows, SqliteContainers)
    late = Late(rows._readers, lambda: rows.touch("alpha", row.id, OVER - 1))
    assert await SqliteContainers(rows._writer, late).expire(OVER, 9) == ([], 0)
    assert await rows.all_files("alpha", row.id) == files


async def test_what_a_file_has_is_known(store: Store) -> None:
    """R-104."""
    row = await made(store)
    (inside,) = await filled(store, row, "a")
    blobs = [inside.blob, inside.id, "cblob_1", 'file"2', "'"]
    assert await store.containers.known(blobs) == {inside.blob}
    assert await store.containers.known([]) == set()


async def test_many_containers_are_quick_to_ask(tmp_path: Path) -> None:
    """What is asked with each request, and by the sweep, is found by an index."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await store.open()
    await store.close()
    values = {"project": "alpha", "now": 2, "since": 1, "name": None, "place": 3, "limit": 4}
    named = {"path": "p", "id": "c", "file_id": "f", "number": 1, "until": 1, "blobs": "[]"}
    with closing(sqlite3.connect(tmp_path / "antiphon.db")) as connection:
        for statement in (
            *(container_statements.COUNT, container_statements.PAGES[True]),
            *(container_statements.EXTENT, container_statements.FILE_PAGES[False]),
            *(container_statements.STALE, container_statements.DROP_STALE),
            *(container_statements.FORGET, container_statements.REMOVE_ALL),
        ):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", {**values, **named})
            assert [step for *_, step in plan if step.startswith("SCAN")] == [], statement
