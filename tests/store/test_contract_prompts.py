"""What every store does with prompts: one suite, run on each."""

import asyncio
import secrets
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from antiphon.store.base import (
    MOST_PROMPTS,
    MOST_VERSIONS,
    PromptChange,
    PromptRow,
    PromptVersion,
    Store,
)
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW


def prompt(
    name: str = "Greeting", *, project: str = "alpha", created_at: int = NOW, **more: Any
) -> PromptRow:
    id_ = f"pmpt_{secrets.token_hex(24)}"
    return PromptRow(id_, project, name, created_at, created_at, **more)


def saying(text: str) -> dict[str, Any]:
    return {"instructions": text, "temperature": 0.5, "tools": [{"type": "function"}], "é": None}


async def added(store: Store, name: str = "Greeting", **more: Any) -> PromptRow:
    row = prompt(name, **more)
    await store.prompts.add(row, saying("one"))
    return row


async def now_of(store: Store, row: PromptRow) -> PromptRow:
    found = await store.prompts.get(row.project, row.id)
    assert found is not None
    return found


async def test_a_new_prompt_has_version_1(store: Store) -> None:
    row = await added(store)
    assert await store.prompts.get("alpha", row.id) == row
    assert (row.default_version, row.versions, row.draft) == (1, 1, None)
    first = PromptVersion(row.id, 1, NOW, saying("one"))
    assert await store.prompts.version("alpha", row.id, 1) == first
    assert await store.prompts.version("alpha", row.id, None) == first
    assert await store.prompts.versions("alpha", row.id) == [first]


async def test_an_id_is_taken_once(store: Store) -> None:
    row = await added(store)
    again = prompt("Other")
    again.id = row.id
    with pytest.raises(ValueError, match="exists"):
        await store.prompts.add(again, saying("two"))
    assert await store.prompts.all("alpha") == [row]
    assert await store.prompts.versions("alpha", row.id) == [
        PromptVersion(row.id, 1, NOW, saying("one"))
    ]


async def test_prompts_are_listed_newest_first(store: Store) -> None:
    rows = [await added(store, created_at=NOW + wait) for wait in (0, 5, 5, 1)]
    assert await store.prompts.all("alpha") == [rows[2], rows[1], rows[3], rows[0]]
    assert await store.prompts.all("gamma") == []


async def test_a_list_has_no_drafts(store: Store) -> None:
    """R-09: each may have 1 MiB."""
    row = await added(store, draft=saying("draft"))
    assert await store.prompts.all("alpha") == [replace(row, draft=None)]
    assert (await now_of(store, row)).draft == saying("draft")


async def test_a_project_has_so_many_prompts(store: Store) -> None:
    """R-09."""
    rows = [prompt() for _ in range(MOST_PROMPTS)]
    assert all(await asyncio.gather(*(store.prompts.add(row, {}) for row in rows)))
    one_more = prompt()
    assert not await store.prompts.add(one_more, {})
    assert await store.prompts.get("alpha", one_more.id) is None
    assert await store.prompts.add(prompt(project="beta"), {})
    assert await store.prompts.delete("alpha", rows[0].id)
    assert await store.prompts.add(one_more, {})
    assert len(await store.prompts.all("alpha")) == MOST_PROMPTS


async def test_a_prompt_has_so_many_versions(store: Store) -> None:
    """R-09; a draft that cannot be published stays."""
    row = await added(store, draft=saying("draft"), versions=MOST_VERSIONS - 1)
    publish = store.prompts.publish
    assert await publish("alpha", row.id, saying("last"), NOW, default=True) == MOST_VERSIONS
    assert await publish("alpha", row.id, saying("more"), NOW, default=True) is None
    assert await publish("alpha", row.id, None, NOW, default=True) is None
    shown = await now_of(store, row)
    assert (shown.versions, shown.draft) == (MOST_VERSIONS, saying("draft"))


async def test_the_dates_of_versions(store: Store) -> None:
    row = await added(store)
    for wait in (2, 1):
        await store.prompts.publish("alpha", row.id, {}, NOW + wait, default=True)
    assert await store.prompts.dates("alpha", row.id) == [NOW, NOW + 2, NOW + 1]
    assert await store.prompts.dates("beta", row.id) is None
    assert await store.prompts.dates("alpha", "pmpt_none") is None


async def test_a_change_changes_what_it_names(store: Store) -> None:
    row = await added(store)
    other = await added(store, "Other")
    prompts = store.prompts
    assert await prompts.change("alpha", row.id, PromptChange(name="Hello"), NOW + 1)
    assert await prompts.change("alpha", row.id, PromptChange(draft=saying("draft")), NOW + 2)
    shown = await now_of(store, row)
    assert (shown.name, shown.draft, shown.default_version) == ("Hello", saying("draft"), 1)
    assert (shown.created_at, shown.updated_at) == (NOW, NOW + 2)
    assert await prompts.change("alpha", row.id, PromptChange(name="Hi", drop_draft=True), NOW + 3)
    shown = await now_of(store, row)
    assert (shown.name, shown.draft, shown.updated_at) == ("Hi", None, NOW + 3)
    assert await now_of(store, other) == other
    assert not await prompts.change("alpha", "pmpt_none", PromptChange(name="x"), NOW)


async def test_a_draft_can_be_there_from_the_start_and_may_be_empty(store: Store) -> None:
    row = await added(store, draft=saying("draft"))
    assert (await now_of(store, row)).draft == saying("draft")
    assert await store.prompts.change("alpha", row.id, PromptChange(draft={}), NOW)
    assert (await now_of(store, row)).draft == {}


async def test_a_default_that_does_not_exist_changes_nothing(store: Store) -> None:
    row = await added(store)
    for number in (-1, 0, 2, 2**63):
        change = PromptChange(name="Hello", default_version=number)
        assert not await store.prompts.change("alpha", row.id, change, NOW + 1)
    assert await now_of(store, row) == row
    assert await store.prompts.publish("alpha", row.id, saying("two"), NOW, default=False) == 2
    change = PromptChange(default_version=2)
    assert await store.prompts.change("alpha", row.id, change, NOW + 1)
    assert (await now_of(store, row)).default_version == 2
    found = await store.prompts.version("alpha", row.id, None)
    assert found is not None
    assert found.version == 2


async def test_versions_are_numbered_and_stay_as_they_are(store: Store) -> None:
    row = await added(store, draft=saying("draft"))
    prompts = store.prompts
    assert await prompts.publish("alpha", row.id, saying("two"), NOW + 2, default=True) == 2
    assert await prompts.publish("alpha", row.id, saying("three"), NOW + 3, default=False) == 3
    shown = await now_of(store, row)
    assert (shown.versions, shown.default_version, shown.updated_at) == (3, 2, NOW + 3)
    assert shown.draft == saying("draft")
    assert await prompts.versions("alpha", row.id) == [
        PromptVersion(row.id, 3, NOW + 3, saying("three")),
        PromptVersion(row.id, 2, NOW + 2, saying("two")),
        PromptVersion(row.id, 1, NOW, saying("one")),
    ]
    default = await prompts.version("alpha", row.id, None)
    assert default is not None
    assert default.template == saying("two")
    assert await prompts.publish("alpha", "pmpt_none", {}, NOW, default=True) is None


async def test_a_draft_becomes_a_version_once(store: Store) -> None:
    row = await added(store, draft=saying("draft"))
    prompts = store.prompts
    assert await prompts.publish("alpha", row.id, None, NOW + 2, default=False) == 2
    assert await prompts.version("alpha", row.id, 2) == PromptVersion(
        row.id, 2, NOW + 2, saying("draft")
    )
    shown = await now_of(store, row)
    assert (shown.draft, shown.versions, shown.default_version) == (None, 2, 1)
    assert await prompts.publish("alpha", row.id, None, NOW + 3, default=True) is None
    assert await now_of(store, row) == shown
    assert await prompts.change("alpha", row.id, PromptChange(draft={}), NOW)
    assert await prompts.publish("alpha", row.id, None, NOW + 3, default=True) == 3
    assert await prompts.publish("beta", row.id, None, NOW, default=True) is None


@pytest.mark.parametrize("number", [-1, 0, 2, 2**63])
async def test_a_version_that_does_not_exist_is_none(store: Store, number: int) -> None:
    row = await added(store)
    assert await store.prompts.version("alpha", row.id, number) is None
    assert await store.prompts.version("alpha", "pmpt_none", None) is None
    assert await store.prompts.versions("alpha", "pmpt_none") is None


async def test_what_comes_out_is_a_copy(store: Store) -> None:
    template, draft = saying("one"), saying("draft")
    row = prompt(draft=draft)
    await store.prompts.add(row, template)
    template["instructions"] = draft["instructions"] = row.name = "spoilt"
    shown = await now_of(store, row)
    assert (shown.name, shown.draft) == ("Greeting", saying("draft"))
    found = await store.prompts.version("alpha", row.id, 1)
    assert found is not None
    assert found.template == saying("one")
    found.template["instructions"] = shown.name = "spoilt"
    assert shown.draft is not None
    shown.draft["instructions"] = "spoilt"
    again = await store.prompts.version("alpha", row.id, 1)
    assert again is not None
    assert again.template == saying("one")
    assert (await now_of(store, row)).draft == saying("draft")


async def test_a_deleted_prompt_is_gone_with_its_versions(store: Store) -> None:
    row, other = await added(store), await added(store, "Other")
    await store.prompts.publish("alpha", row.id, saying("two"), NOW, default=True)
    assert await store.prompts.delete("alpha", row.id)
    assert not await store.prompts.delete("alpha", row.id)
    assert await store.prompts.get("alpha", row.id) is None
    assert await store.prompts.versions("alpha", row.id) is None
    assert await store.prompts.all("alpha") == [other]
    await store.prompts.add(row, saying("new"))
    assert await store.prompts.versions("alpha", row.id) == [
        PromptVersion(row.id, 1, NOW, saying("new"))
    ]


async def test_another_projects_prompt_is_like_an_unknown_one(store: Store) -> None:
    """R-29, R-30, R-31."""
    row = await added(store, project="beta")
    mine = await added(store)
    prompts = store.prompts
    assert await prompts.get("alpha", row.id) is None
    assert await prompts.all("alpha") == [mine]
    assert await prompts.version("alpha", row.id, None) is None
    assert await prompts.version("alpha", row.id, 1) is None
    assert await prompts.versions("alpha", row.id) is None
    assert not await prompts.change("alpha", row.id, PromptChange(name="mine"), NOW + 1)
    assert await prompts.publish("alpha", row.id, saying("mine"), NOW + 1, default=True) is None
    assert not await prompts.delete("alpha", row.id)
    assert await prompts.get("beta", row.id) == row
    assert await prompts.versions("beta", row.id) == [PromptVersion(row.id, 1, NOW, saying("one"))]


async def publish_at_once(stores: list[Store], row: PromptRow, count: int) -> None:
    """Each gets a number of its own, and under it stands what it published."""
    numbers = await asyncio.gather(
        *(
            store.prompts.publish("alpha", row.id, saying(str(turn)), NOW, default=True)
            for turn, store in enumerate(islice(cycle(stores), count))
        )
    )
    assert sorted(number or 0 for number in numbers) == list(range(2, count + 2))
    versions = await stores[0].prompts.versions("alpha", row.id)
    assert versions is not None
    assert {version.version: version.template["instructions"] for version in versions} == {
        1: "one",
        **{number: str(turn) for turn, number in enumerate(numbers)},
    }
    assert (await now_of(stores[0], row)).default_version == count + 1


async def test_versions_published_at_once_have_numbers_of_their_own(store: Store) -> None:
    await publish_at_once([store], await added(store), 40)


async def test_versions_published_by_two_processes_have_numbers_of_their_own(
    tmp_path: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    one, two = SqliteStore(url), SqliteStore(url)
    await one.open()
    await two.open()
    await publish_at_once([one, two], await added(one), 40)
    await one.close()
    await two.close()


async def test_prompts_are_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    store = SqliteStore(url)
    await store.open()
    row = await added(store, draft=saying("draft"))
    await store.close()
    again = SqliteStore(url)
    await again.open()
    assert await now_of(again, row) == row
    await again.close()
