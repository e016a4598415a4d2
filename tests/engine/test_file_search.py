"""Runs with the hosted tool `file_search` (spec §3.3, decision 0008), beside a web search too."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from antiphon.errors import NotFoundError, Overloaded
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta
from antiphon.protocol.file_search import Passage, Wish
from antiphon.protocol.items.base import told_of
from antiphon.testing import Step, assert_valid_log
from antiphon.tools.file_search.tool import FileSearch
from tests.engine.bench import HANGS, Bench, bury, pair, said, until
from tests.engine.tooling import kinds, play, statuses
from tests.tools.file_world import OTTERS, STONES, FakeStores

Json = dict[str, Any]
TOOL: Json = {"type": "file_search", "vector_store_ids": ["vs_1"]}
ANSWER: Sequence[Step] = [
    [TextDelta("Otters swim 【"), TextDelta("1】. Stones sink"), TextDelta("【2, 1】."), Finish()]
]
ECHO: Json = {
    "type": "file_search",
    "filters": None,
    "max_num_results": 20,
    "ranking_options": {"ranker": "auto", "score_threshold": 0},
    "vector_store_ids": ["vs_1"],
}


def searches(*queries: str) -> Sequence[Step]:
    """A turn that searches."""
    arguments = orjson.dumps({"queries": queries}).decode()
    return [[ToolCallDelta(0, arguments, "file_search"), Finish()]]


def a_bench(*turns: Sequence[Step], stores: FakeStores | None = None) -> Bench:
    stores = stores or FakeStores(OTTERS, STONES, known={"p": {"vs_1"}})
    return Bench(*turns, tools={"file_search": FileSearch(stores)})


async def test_a_search_its_events_and_its_citations() -> None:
    """Order and keys of events as in OpenAI's recording."""
    bench = a_bench(searches("otters", "stones"), ANSWER)
    final, events = await play(bench, tools=[TOOL])
    added, call = events[2]["item"], final["output"][0]
    assert [event["type"].removeprefix("response.") for event in events[2:7]] == [
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
    ]
    begun = {"id": call["id"], "type": "file_search_call", "status": "in_progress"}
    assert list(added.items()) == [*begun.items(), ("queries", []), ("results", None)]
    ended = {**begun, "status": "completed", "queries": ["otters", "stones"], "results": None}
    assert call == events[6]["item"] == ended
    part = final["output"][1]["content"][0]
    assert part["text"] == "Otters swim. Stones sink."
    otters = {"type": "file_citation", "file_id": "file-1", "filename": "otters.md"}
    stones = {"type": "file_citation", "file_id": "file-2", "filename": "stones.pdf"}
    assert part["annotations"] == [
        {**otters, "index": 11},
        *({**cited, "index": 24} for cited in (stones, otters)),
    ]
    assert final["tools"] == [ECHO]


async def test_in_json_the_marks_are_out_and_the_places_right() -> None:
    turn: Sequence[Step] = [[TextDelta('{"a": "Otters swim 【1】."}'), Finish()]]
    form = {"format": {"type": "json_object"}}
    final, _ = await play(a_bench(searches("q"), turn), tools=[TOOL], text=form)
    part = final["output"][1]["content"][0]
    assert part["text"] == '{"a": "Otters swim."}'
    assert [cited["index"] for cited in part["annotations"]] == [18]


async def test_results_are_in_the_item_if_they_are_asked_for() -> None:
    include = ["file_search_call.results"]
    final, _ = await play(a_bench(searches("q"), ANSWER), tools=[TOOL], include=include)
    assert [found["text"] for found in final["output"][0]["results"]] == [
        "Otters swim.",
        "Stones sink.",
    ]


async def test_options_are_echoed_as_they_hold() -> None:
    hybrid = {"embedding_weight": 1, "text_weight": 0.5}
    given = {
        **TOOL,
        "max_num_results": 3,
        "filters": {"type": "eq", "key": "a", "value": "b"},
        "ranking_options": {"ranker": None, "hybrid_search": hybrid},
    }
    final, _ = await play(a_bench(ANSWER), tools=[given])
    assert final["tools"] == [
        {
            **given,
            "ranking_options": {"ranker": "auto", "score_threshold": 0, "hybrid_search": hybrid},
        }
    ]


async def test_a_store_that_is_not_there_is_refused_before_the_first_byte() -> None:
    """R-30."""
    bench = a_bench(ANSWER, stores=FakeStores(known={"other": {"vs_1"}}))
    with pytest.raises(NotFoundError) as caught:
        await bench.events(tools=[TOOL])
    assert caught.value.param == "tools[0].vector_store_ids[0]"
    assert bench.backend.prompts == []


async def test_a_failed_search_is_told_and_the_response_goes_on() -> None:
    stores = FakeStores()
    stores.trouble = Overloaded("The index is busy.")
    bench = a_bench(searches("q"), ANSWER, stores=stores)
    final, events = await play(bench, tools=[TOOL])
    assert (kinds(final), final["status"]) == (["file_search_call", "message"], "completed")
    assert statuses(final) == ["failed", "completed"]
    assert final["output"][0]["queries"] == ["q"]
    assert "response.file_search_call.completed" not in [event["type"] for event in events]
    assert told_of(bench.backend.prompts[1].items[-1]) == "The index is busy."
    assert final["output"][1]["content"][0]["annotations"] == []


async def test_one_tool_of_the_kind_in_a_request() -> None:
    with pytest.raises(Exception, match="there is such a tool in 'tools' already"):
        await a_bench(ANSWER).events(tools=[TOOL, {**TOOL, "vector_store_ids": ["vs_2"]}])


async def test_what_can_be_cited_survives_the_process() -> None:
    """R-66, R-74: found before it died, cited after; the search is not made again."""
    first = a_bench(searches("q"), HANGS)
    async with first.working():
        made = await first.admit(tools=[TOOL])
        await until(lambda: len(first.backend.prompts) == 2)
        stores = FakeStores()
        second = pair(first, ANSWER, tools={"file_search": FileSearch(stores)})
        async with second.working():
            await bury(first)
            final = assert_valid_log(await second.follow(made.id))
    cited = final["output"][-1]["content"][0]["annotations"]
    assert [(one["file_id"], one["index"]) for one in cited] == [
        ("file-1", 11),
        ("file-2", 24),
        ("file-1", 24),
    ]
    assert stores.wishes == []


async def test_a_search_that_a_death_broke_off_is_made_again_in_its_item() -> None:
    """R-66: it only reads."""

    class Stuck(FakeStores):
        async def search(self, project: str, wish: Wish) -> list[Passage]:
            await asyncio.Event().wait()
            return []

    first = a_bench(searches("q"), stores=Stuck())
    async with first.working():
        made = await first.admit(tools=[TOOL])
        await said(first, made.id, "response.file_search_call.searching")
        stores = FakeStores(OTTERS, STONES)
        second = pair(first, ANSWER, tools={"file_search": FileSearch(stores)})
        async with second.working():
            await bury(first)
            final = assert_valid_log(await second.follow(made.id))
    assert (kinds(final), statuses(final)) == (
        ["file_search_call", "message"],
        ["completed", "completed"],
    )
    assert len(stores.wishes) == 1
