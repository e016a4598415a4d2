"""Lists of stored responses: one suite, run on each store; then what SQLite does for them."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from antiphon.protocol.emitter import Frame
from antiphon.store import listing_statements, sql_listing
from antiphon.store.base import Batch, Lease, Listing, ResponseRow, Store
from antiphon.store.memory import MemoryStore
from antiphon.store.sql import SqliteStore
from tests.store.rows import DAY, NOW, Clock, admit, ending, response

Order = Literal["asc", "desc"]


def noted(text: str = "hi", *, at: int = NOW, **more: Any) -> ResponseRow:
    """A response with metadata; `metadata` None: without any."""
    metadata = more.pop("metadata", {"user": "ada"})
    encoded = None if metadata is None else orjson.dumps(metadata).decode()
    fields = {name: more.pop(name) for name in ("kept", "owner", "attempt") if name in more}
    row = response(text, **more)
    return replace(row, created_at=at, metadata=encoded, **fields)


async def saved(store: Store, *rows: ResponseRow) -> list[ResponseRow]:
    for row in rows:
        assert await store.save(row)
    return list(rows)


async def found(store: Store, project: str, listing: Listing) -> list[bytes] | None:
    page = await store.listed(project, listing)
    return None if page is None else page.bodies


async def listed(store: Store, project: str = "alpha", **metadata: str) -> list[bytes]:
    """The newest with this metadata."""
    page = await found(store, project, Listing(metadata, limit=100))
    assert page is not None
    return page


def bodies(*rows: ResponseRow) -> list[bytes]:
    return [row.body for row in rows]


async def test_the_newest_come_first_unless_asked_otherwise(store: Store) -> None:
    one, two, three = await saved(store, *(noted(t, at=NOW + n) for n, t in enumerate("abc")))
    for metadata in ({}, {"user": "ada"}):
        newest = await found(store, "alpha", Listing(metadata))
        assert newest == bodies(three, two, one)
        assert await found(store, "alpha", Listing(metadata, order="asc")) == bodies(
            one, two, three
        )


@pytest.mark.parametrize("metadata", [{}, {"user": "ada"}, {"user": "ada", "env": "prod"}])
async def test_within_a_second_they_are_listed_as_they_came(
    store: Store, metadata: dict[str, str]
) -> None:
    """Also those that change later, and also behind one without that metadata."""
    everything = {"user": "ada", "env": "prod"}
    running = noted("0", status="in_progress", owner="one", metadata=everything)
    rows = await saved(store, running, *(noted(t, metadata=everything) for t in "123"))
    (bare,) = await saved(store, noted("bare", metadata=None))
    rows += await saved(store, *(noted(t, metadata=everything) for t in "4567"))
    await saved(store, noted("new", at=NOW + 1, metadata=everything))
    await saved(store, noted("old", at=NOW - 1, metadata=everything))
    rows[0] = replace(running, status="completed", body=b'{"output":[]}')
    await saved(store, rows[0])

    async def behind(row: ResponseRow, order: Order) -> list[bytes]:
        page = await found(store, "alpha", Listing(metadata, row.id, 4, order))
        assert page is not None
        return [body for body in page if body != bare.body]

    assert await behind(bare, "asc") == bodies(*rows[4:])
    assert await behind(bare, "desc") == bodies(*rows[3::-1])
    assert (await behind(rows[4], "asc"))[:3] == bodies(*rows[5:])
    assert (await behind(rows[3], "desc"))[:3] == bodies(*rows[2::-1])


async def test_all_pairs_must_match(store: Store) -> None:
    """Must build: filtered by metadata."""
    both = noted("both", metadata={"user": "ada", "env": "prod", "empty": ""})
    user = noted("user", metadata={"user": "ada", "env": "test"})
    none = noted("none", metadata=None)
    await saved(store, both, user, none)
    assert await listed(store, user="ada", env="prod") == bodies(both)
    assert await listed(store, env="prod", user="ada", empty="") == bodies(both)
    assert set(await listed(store, user="ada")) == set(bodies(both, user))
    assert set(await listed(store)) == set(bodies(both, user, none))
    for miss in (
        {"user": "ad"},
        {"User": "ada"},
        {"user": "ada", "env": ""},
        {"prod": "env"},
    ):
        assert await listed(store, **miss) == []


async def test_a_value_counts_under_its_own_key_only(store: Store) -> None:
    await saved(store, noted(metadata={"user": "ada", "boss": "bob"}))
    await saved(store, *(noted(metadata={"user": "bob"}) for _ in range(3)))
    assert await listed(store, user="bob", boss="bob") == []
    await saved(store, noted(metadata={"user": "eve", "boss": "ada"}))
    assert await listed(store, user="ada", boss="ada") == []


@pytest.mark.parametrize("text", ["", "%", "a'b\"c", "é\u0000x", "]", "1", "null", "🎈" * 64])
async def test_a_pair_is_what_it_is_character_by_character(store: Store, text: str) -> None:
    row = noted(metadata={text: text + text})
    await saved(store, row, noted("other", metadata={text: text + "x", "y": text}))
    assert await found(store, "alpha", Listing({text: text + text})) == bodies(row)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("metadata", [{}, {"user": "ada"}, {"user": "ada", "env": "prod"}])
async def test_pages_follow_each_other_without_gap(
    store: Store, metadata: dict[str, str], order: Order
) -> None:
    """Also within one second, and also when rows come and go meanwhile."""
    everything = {"user": "ada", "env": "prod"}
    rows = [noted(str(n), at=NOW + n // 5, metadata=everything) for n in range(23)]
    others = [noted(at=NOW + n, metadata={"user": "bob"}, project="beta") for n in range(5)]
    await saved(store, *rows, *others)
    place = {row.body: row for row in rows}
    seen: list[ResponseRow] = []
    for size in (1, 2, 3, 5, 8):
        after = seen[-1].id if seen else None
        page = await found(store, "alpha", Listing(metadata, after, size, order))
        assert page is not None
        assert len(page) == size
        seen += [place[body] for body in page]
        came = NOW - 1 if order == "asc" else NOW + 99
        await saved(store, noted("came", at=came, metadata=everything))
        if size == 2:
            assert await store.delete("alpha", seen[0].id)
    rest = await found(store, "alpha", Listing(metadata, seen[-1].id, 100, order))
    assert rest is not None
    seen += [place[body] for body in rest]
    assert seen == (rows if order == "asc" else rows[::-1])
    assert await found(store, "alpha", Listing(metadata, seen[-1].id, 100, order)) == []


async def test_a_page_may_begin_behind_a_response_without_that_metadata(store: Store) -> None:
    old, new = noted("old", at=NOW), noted("new", at=NOW + 2)
    between = noted("between", at=NOW + 1, metadata=None)
    await saved(store, old, between, new)
    assert await found(store, "alpha", Listing({"user": "ada"}, between.id)) == bodies(old)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("metadata", [{}, {"user": "ada"}])
async def test_a_page_ends_where_it_would_be_too_large(
    store: Store, metadata: dict[str, str], order: Order
) -> None:
    """R-115: at a number of bytes, with one response at least, and says whether there are more."""
    sizes = {"a": 40, "b": 60, "c": 1, "d": 500, "e": 100, "f": 0, "g": 30}
    rows = [
        replace(noted(text, at=NOW + number), body=b'"' + text.encode() * size + b'"')
        for number, (text, size) in enumerate(sizes.items())
    ]
    await saved(store, *rows)
    pages, after, more = list[list[bytes]](), None, True
    while more:
        listing = Listing(metadata, after, 3, order, most_bytes=104)
        page = await store.listed("alpha", listing)
        assert page is not None
        assert (
            page.ids
            == [row.id for row in rows if row.body in page.bodies][:: 1 if order == "asc" else -1]
        )
        pages.append(page.bodies)
        after, more = page.ids[-1], page.has_more
    a, b, c, d, e, f, g = bodies(*rows)
    asc = [[a, b], [c], [d], [e, f], [g]]
    assert pages == (asc if order == "asc" else [[g, f], [e], [d], [c, b], [a]])


async def test_a_page_that_holds_all_says_so(store: Store) -> None:
    """Whatever ends it: `limit` or bytes."""
    rows = await saved(store, *(noted(text) for text in "ab"))
    size = len(rows[0].body) + len(rows[1].body)
    for limit, most_bytes, more in ((2, size, False), (1, size, True), (2, size - 1, True)):
        page = await store.listed("alpha", Listing({}, None, limit, "asc", most_bytes))
        assert page is not None
        assert page.has_more is more
        assert page.ids == [row.id for row in rows][: 1 if more else 2]


async def test_only_what_is_stored_is_listed(store: Store) -> None:
    """`store: true` only: neither what is polled nor what is kept for its key."""
    rows = [noted(kept, kept=kept) for kept in ("stored", "polled", "replayed")]
    await saved(store, *rows)
    for metadata in ({}, {"user": "ada"}):
        assert await found(store, "alpha", Listing(metadata)) == bodies(rows[0])
        for row in rows[1:]:
            assert await found(store, "alpha", Listing(metadata, row.id)) is None


async def test_an_expired_response_is_not_listed_swept_or_not(store: Store, clock: Clock) -> None:
    short, long = noted("short", expires_at=NOW + 10), noted("long", at=NOW + 1)
    await saved(store, short, long)
    clock.now = NOW + 9
    assert await listed(store, user="ada") == bodies(long, short)
    clock.now = NOW + 10
    for _ in range(2):
        assert await listed(store, user="ada") == await listed(store) == bodies(long)
        assert await found(store, "alpha", Listing({}, short.id)) is None
        await store.expire(NOW + 10, 100)


async def test_a_deleted_response_is_not_listed_and_does_not_come_back(store: Store) -> None:
    """R-59: nor when what made it goes on."""
    row = noted(status="in_progress", owner="one", attempt=1)
    await saved(store, row)
    assert await listed(store, user="ada") == bodies(row)
    assert await store.delete("alpha", row.id)
    assert not await store.save(replace(row, status="completed"))
    assert await listed(store, user="ada") == await listed(store) == []
    assert await found(store, "alpha", Listing({}, row.id)) is None


async def test_a_running_response_is_listed_as_it_is_now(store: Store) -> None:
    row = noted(status="in_progress", owner="one", attempt=1)
    done = replace(row, status="completed", body=b'{"status":"completed","output":[]}')
    for step in (row, done):
        await saved(store, step)
        assert await listed(store, user="ada") == bodies(step)


async def test_an_admitted_response_is_listed_from_the_start(store: Store) -> None:
    row = noted(status="queued", owner="one", expires_at=None)
    assert await admit(store, row) is None
    assert await listed(store, user="ada") == bodies(row)
    end = ending()
    assert await store.runs.finish(Lease(row.id, "one", 0), Batch(2, list[Frame]()), end)
    assert await listed(store, user="ada") == [end.body]


async def test_metadata_comes_back_with_the_row(store: Store) -> None:
    (row,) = await saved(store, noted(expires_at=None))
    assert await store.get("alpha", row.id) == row
    admitted = noted(status="queued", expires_at=None)
    await admit(store, admitted)
    found = await store.runs.find(admitted.id)
    assert found is not None
    assert found.metadata == admitted.metadata


async def test_another_projects_responses_are_never_listed(store: Store) -> None:
    """R-31: nor do their ids work as places in a list."""
    mine, theirs = noted("mine"), noted("theirs", project="beta")
    await saved(store, mine, theirs)
    for metadata in ({}, {"user": "ada"}):
        assert await found(store, "alpha", Listing(metadata)) == bodies(mine)
        assert await found(store, "gamma", Listing(metadata)) == []
        for after in (theirs.id, "resp_none", ""):
            assert await found(store, "alpha", Listing(metadata, after)) is None


async def test_a_save_into_another_projects_row_notes_nothing(store: Store) -> None:
    """R-29."""
    row = noted(status="in_progress", project="beta")
    await saved(store, row)
    await store.save(replace(row, project="alpha", metadata='{"user":"eve"}'))
    assert await listed(store) == await listed(store, user="eve") == []
    assert await listed(store, "beta", user="ada") == bodies(row)


async def test_metadata_counts_as_size_in_memory() -> None:
    store = MemoryStore(most_bytes=2_000)
    long = {str(number): "x" * 100 for number in range(10)}
    first, second = noted(metadata=long), noted(metadata=long)
    await saved(store, first, second)
    assert store.evicted == 1
    assert await listed(store) == bodies(second)
    assert await store.delete("alpha", second.id)
    await saved(store, noted("a", metadata=long))
    assert store.evicted == 1


# -- SQLite --------------------------------------------------------------------------------------


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A thousand responses of one project, of which three are Ada's."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}", clock=Clock())
    await store.open()
    await asyncio.gather(
        *(
            store.save(noted(metadata={"env": "prod", "user": "ada" if n % 400 == 0 else "bob"}))
            for n in range(1_000)
        )
    )
    await store.close()
    return store.path


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as opened:
        yield opened


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("pairs", [0, 1, 2, 16])
@pytest.mark.parametrize("analysed", [False, True])
def test_an_index_finds_and_orders(
    connection: sqlite3.Connection, pairs: int, order: Order, behind: bool, analysed: bool
) -> None:
    """Nothing is scanned or sorted; the first step is the index of the pair, or of the project."""
    if analysed:
        connection.execute("ANALYZE")
    statement = listing_statements.listed(pairs, order, behind=behind)
    names = [f"{kind}{number}" for kind in ("key", "value") for number in range(pairs)]
    values = dict.fromkeys(["project", "now", "limit", "at", "after", *names], 1)
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, values)]
    assert not [step for step in plan if "SCAN" in step or "B-TREE" in step], plan
    index = "response_metadata_by_value" if pairs else "responses_by_project"
    assert plan[0].startswith("SEARCH"), plan
    assert f"INDEX {index} (project=?" in plan[0], plan
    assert ("created_at" in plan[0]) is behind, plan


def steps_of(connection: sqlite3.Connection, listing: Listing) -> tuple[int, int]:
    """How many responses there are in a list, and how many steps SQLite needed."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.execute("SELECT 1 FROM sqlite_master")  # the schema is read here, not below
    connection.set_progress_handler(count, 1)
    page = sql_listing.listed(connection, "alpha", listing, NOW)
    connection.set_progress_handler(None, 1)
    assert page is not None
    return len(page.ids), steps


@pytest.mark.parametrize(
    "metadata",
    [{"user": "ada"}, {"user": "ada", "env": "prod"}, {"env": "prod", "user": "ada"}],
)
def test_a_rare_pair_is_found_without_a_walk_through_common_ones(
    connection: sqlite3.Connection, metadata: dict[str, str]
) -> None:
    """Whatever was asked for first; the common one is counted a little, and not read."""
    found, steps = steps_of(connection, Listing(metadata))
    assert found == 3
    assert steps < 1_500, steps


def test_a_common_pair_costs_what_its_page_does(connection: sqlite3.Connection) -> None:
    found, steps = steps_of(connection, Listing({"env": "prod"}, limit=10))
    assert found == 10
    assert steps < 1_000, steps


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_rows_may_be_numbered_anew(connection: sqlite3.Connection, order: Order) -> None:
    """As SQLite may when a backup is made, which keeps the order and nothing more."""
    connection.execute("UPDATE responses SET rowid = rowid * 2 + 10000 WHERE rowid > 500")
    connection.execute("UPDATE response_metadata SET rowid = rowid + 3000 WHERE rowid > 700")
    seen, after, more = list[bytes](), None, True
    while more:
        listing = Listing({"env": "prod"}, after, 100, order)
        page = sql_listing.listed(connection, "alpha", listing, NOW)
        assert page is not None
        seen += page.bodies
        after, more = page.ids[-1], page.has_more
    bodies = connection.execute(f"SELECT body FROM responses ORDER BY rowid {order}")  # noqa: S608
    assert seen == [body for (body,) in bodies]


def rows_of(path: Path) -> tuple[int, int]:
    """How many pairs are noted, and how many responses have metadata."""
    with closing(sqlite3.connect(path)) as opened:
        return (
            opened.execute("SELECT count(*) FROM response_metadata").fetchone()[0],
            opened.execute("SELECT count(*) FROM responses WHERE metadata IS NOT NULL").fetchone()[
                0
            ],
        )


@pytest.fixture
async def sqlite(tmp_path: Path) -> SqliteStore:
    return SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}", clock=Clock())


async def test_metadata_goes_with_its_response(sqlite: SqliteStore) -> None:
    """R-59, R-137: a tombstone has none either."""
    await sqlite.open()
    two = {"user": "ada", "env": "prod"}
    deleted, expired = noted(metadata=two), noted(metadata=two, expires_at=NOW + DAY)
    admitted = noted(metadata=two, status="queued", expires_at=None)
    await saved(sqlite, deleted, expired, noted(metadata=two, kept="polled"))
    await admit(sqlite, admitted)
    assert rows_of(sqlite.path) == (6, 4)
    await sqlite.delete("alpha", deleted.id)
    assert rows_of(sqlite.path) == (4, 3)
    assert await sqlite.expire(NOW + DAY, 100) == 1
    assert rows_of(sqlite.path) == (2, 2)
    await sqlite.delete("alpha", admitted.id)
    assert rows_of(sqlite.path) == (0, 1)
    late = replace(admitted, status="completed", owner="one")
    for refused in (late, replace(late, owner=None)):
        await sqlite.save(refused)
        assert rows_of(sqlite.path) == (0, 1)
    await sqlite.close()


async def test_metadata_is_committed_with_its_row(sqlite: SqliteStore) -> None:
    """One commit for both, and none more for the end."""
    await sqlite.open()
    row = noted(status="in_progress", owner="one", attempt=1)
    before = sqlite.commits
    await saved(sqlite, row)
    assert (sqlite.commits - before, rows_of(sqlite.path)) == (1, (1, 1))
    await saved(sqlite, replace(row, status="completed"))
    assert (sqlite.commits - before, rows_of(sqlite.path)) == (2, (1, 1))
    await sqlite.close()
