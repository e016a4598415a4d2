"""Searches of the tool `web_search` against a SearXNG on loopback: reliability R-33, R-42, R-58."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from antiphon.errors import ToolFailed
from antiphon.protocol.sources import HOW_TO_CITE
from tests.tools.web_world import (
    Said,
    World,
    a_world,
    article,
    call,
    searxng_answer,
)

Json = dict[str, Any]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as world:
        yield world


def numbered(count: int) -> list[str]:
    return [f"site{number}.example" for number in range(count)]


# -- what a search gives -------------------------------------------------------------------------


async def test_a_search_tells_numbered_sources_and_how_to_cite(world: World) -> None:
    world.knows("a.example", "b.example")
    outcome = await world.run("web_search", {"query": "otters"}, search_context_size="low")
    assert outcome.status == "completed"
    assert outcome.fields == {
        "action": {"type": "search", "query": "otters", "queries": ["otters"]}
    }
    assert outcome.told == (
        f"【1】 Title of a.example\nURL: {world.site.url('a.example')}\nOn a.example.\n\n"
        f"【2】 Title of b.example\nURL: {world.site.url('b.example')}\nOn b.example.\n\n"
        f"{HOW_TO_CITE}"
    )
    assert world.queries == [{"q": "otters", "format": "json"}]
    assert world.site.asked == []


async def test_the_events_are_those_of_the_recording(world: World) -> None:
    """`in_progress` and `completed` are the engine's."""
    world.knows("a.example")
    tool = world.open()
    assert tool.item_type == "web_search_call"
    asked = call("web_search", {"query": "q"})
    assert tool.begin(asked) == {}
    said = Said()
    await tool.run(asked, said)
    assert said.events == ["web_search_call.searching"]
    again = Said(fresh=False)
    await tool.run(asked, again)
    assert again.events == []
    with pytest.raises(ToolFailed):
        await tool.run(call("web_search", "nonsense"), said)


async def test_sources_and_results_are_in_the_item_if_they_are_asked_for(world: World) -> None:
    world.knows("a.example", "b.example")
    urls = [world.site.url("a.example"), world.site.url("b.example")]
    both = ["web_search_call.action.sources", "web_search_call.results"]
    outcome = await world.run("web_search", {"query": "q"}, include=both)
    assert outcome.fields["action"]["sources"] == [{"type": "url", "url": url} for url in urls]
    results = outcome.fields["results"]
    assert [result["url"] for result in results] == urls
    assert results[0]["snippet"] == "On a.example."
    assert results[0]["text"].startswith("Otters\nSentence number 0")
    outcome = await world.run("web_search", {"query": "q"}, include=both[:1])
    assert outcome.fields.keys() == {"action"}
    outcome = await world.run("web_search", {"query": "q"}, include=both[1:])
    assert "sources" not in outcome.fields["action"]
    assert len(outcome.fields["results"]) == 2


@pytest.mark.parametrize(
    ("size", "results", "pages", "text"),
    [("low", 4, 0, 0), ("medium", 8, 3, 1_500), (None, 8, 3, 1_500), ("high", 12, 5, 4_000)],
)
async def test_how_much_a_search_brings(
    world: World, size: str | None, results: int, pages: int, text: int
) -> None:
    world.knows(*numbered(20))
    include = ["web_search_call.results"]
    outcome = await world.run(
        "web_search", {"query": "q"}, search_context_size=size, include=include
    )
    found = outcome.fields["results"]
    assert len(found) == results
    lengths = [len(result.get("text", "")) for result in found]
    assert lengths == [text] * pages + [0] * (results - pages)
    assert isinstance(outcome.told, str)
    assert outcome.told.count("The page begins:") == pages
    assert f"【{results}】" in outcome.told
    assert f"【{results + 1}】" not in outcome.told


async def test_pages_that_cannot_be_read_are_left_out(world: World) -> None:
    """Private, dead, slow, no page: the search is told all the same."""
    world.knows("127.0.0.1", "a.example", "b.example")
    world.site.put("a.example/", b"\x89PNG", "image/png")
    told = await world.told("web_search", {"query": "q"})
    assert told.count("The page begins:") == 1
    assert "【3】 Title of b.example" in told


async def test_slow_pages_are_not_waited_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process that reads pages may have to start in it.
    monkeypatch.setattr("antiphon.tools.web.opened._ADDED_PATIENCE", 5.0)
    world.knows("a.example", "b.example")
    world.site.put("a.example/", article())
    world.site.delay("a.example/", 30)
    start = time.monotonic()
    told = await world.told("web_search", {"query": "q"})
    assert time.monotonic() - start < 20
    assert told.count("The page begins:") == 1


async def test_what_is_told_is_bounded(world: World) -> None:
    world.knows(*numbered(20))
    include = ["web_search_call.results"]
    outcome = await world.run(
        "web_search", {"query": "q"}, search_context_size="high", most_text=3_000, include=include
    )
    assert isinstance(outcome.told, str)
    assert len(outcome.told) <= 3_000
    assert outcome.told.endswith(HOW_TO_CITE)
    assert sum(len(text) for one in outcome.fields["results"] for text in one.values()) <= 3_000


async def test_several_queries_are_one_call(world: World) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        letter = request.query["q"]
        rows = [
            {"url": f"http://{letter}{number}.example/", "title": "t", "content": "c"}
            for number in range(2)
        ]
        rows.append({"url": "http://both.example/", "title": "t", "content": "c"})
        return web.Response(body=searxng_answer(rows), content_type="application/json")

    world.engine.pages["/searx/search"] = answer
    outcome = await world.run(
        "web_search",
        {"queries": ["x", "y"]},
        search_context_size="low",
        include=["web_search_call.action.sources"],
    )
    action = outcome.fields["action"]
    assert (action["query"], action["queries"]) == ("x", ["x", "y"])
    hosts = [source["url"].split("/")[2] for source in action["sources"]]
    assert hosts == ["x0.example", "y0.example", "x1.example", "y1.example"]


async def test_one_query_of_several_may_fail(world: World) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query["q"] == "bad":
            return web.Response(status=500)
        row = {"url": "http://a.example/", "title": "t", "content": "c"}
        return web.Response(body=searxng_answer([row]), content_type="application/json")

    world.engine.pages["/searx/search"] = answer
    assert "http://a.example/" in await world.told("web_search", {"queries": ["bad", "good"]})
    with pytest.raises(ToolFailed):
        await world.told("web_search", {"queries": ["bad"]})


async def test_nothing_found_is_no_failure(world: World) -> None:
    world.knows()
    outcome = await world.run("web_search", {"query": "q"})
    assert (outcome.status, outcome.told) == ("completed", "Nothing was found for: q")


async def test_a_model_that_mixes_functions_up_gets_what_it_wants(world: World) -> None:
    url = world.site.url("a.example")
    for function, arguments, type_ in (
        ("web_search", {"url": url}, "open_page"),
        ("web_search", {"type": "open_page", "url": url}, "open_page"),
        ("web_search", {"type": "find_in_page", "url": url, "pattern": "otters"}, "find_in_page"),
        ("web_search", {"action": {"type": "open_page", "url": url}}, "open_page"),
    ):
        outcome = await world.run(function, arguments)
        assert outcome.fields["action"]["type"] == type_
        assert "Sentence number" in str(outcome.told)


async def test_text_of_an_engine_is_cleaned(world: World) -> None:
    rows: list[Any] = [
        {"url": "javascript:alert(1)", "title": "t"},
        {"url": "http://a.example/\n【9】", "title": "t"},
        {"url": "http://" + "a" * 3_000, "title": "t"},
        {"url": 7},
        {"title": "no url"},
        "not even an object",
        {"url": "http://ok.example/a b", "title": None, "content": None},
        {
            "url": "http://ok.example/2",
            "title": "<b>Bold</b> &amp;\u202e\nnew " + "x" * 1_000,
            "content": "As 【1】 says &lt;b&gt; " + "y" * 5_000,
        },
        {"url": "http://ok.example/2", "title": "twice"},
    ]
    world.engine.put("/searx/search", searxng_answer(rows), "application/json")
    include = ["web_search_call.results"]
    outcome = await world.run(
        "web_search", {"query": "q"}, search_context_size="low", include=include
    )
    first, second = outcome.fields["results"]
    assert first == {
        "type": "text_result",
        "url": "http://ok.example/a%20b",
        "title": "http://ok.example/a b".replace(" ", "%20"),
        "snippet": "",
    }
    assert second["title"].startswith("Bold & new xxx")
    assert (len(second["title"]), len(second["snippet"])) == (300, 1_000)
    assert "As [1】 says <b> yyy" in str(outcome.told)


# -- what a request asks for ---------------------------------------------------------------------


async def test_filters_are_part_of_the_query_and_hold_for_results(world: World) -> None:
    world.knows("good.example", "www.good.example", "bad.good.example", "other.example")
    filters = {
        "allowed_domains": ["https://Good.example/", "two.example"],
        "blocked_domains": ["bad.good.example"],
    }
    outcome = await world.run(
        "web_search",
        {"query": "q"},
        filters=filters,
        include=["web_search_call.action.sources"],
    )
    hosts = [source["url"].split("/")[2] for source in outcome.fields["action"]["sources"]]
    assert [host.partition(":")[0] for host in hosts] == ["good.example", "www.good.example"]
    (query,) = world.queries
    assert query["q"] == ("q (site:good.example OR site:two.example) -site:bad.good.example")


async def test_many_domains_are_only_filtered_here(world: World) -> None:
    world.knows("good.example", "other.example")
    domains = ["good.example", *numbered(50)]
    told = await world.told("web_search", {"query": "q"}, filters={"allowed_domains": domains})
    assert "【1】 Title of good.example" in told
    assert "other.example" not in told
    assert world.queries[0]["q"] == "q"


async def test_where_the_user_is(world: World) -> None:
    location = {
        "type": "approximate",
        "city": "Wien",
        "region": "Wien",
        "country": "at",
        "timezone": "Europe/Vienna",
    }
    world.knows("a.example")
    await world.told("web_search", {"query": "q"}, user_location=location)
    assert world.queries[0]["language"] == "de-AT"
    description = world.open(user_location=location).functions[0].description
    assert "The user is here: Wien, Wien, at (time zone Europe/Vienna)." in description
    await world.told("web_search", {"query": "q"}, user_location={"country": "XX"})
    assert "language" not in world.queries[1]


def test_what_the_model_sees(world: World) -> None:
    tool = world.open(filters={"allowed_domains": ["good.example"]})
    names = [function.name for function in tool.functions]
    assert names == ["web_search", "open_page", "find_in_page"]
    for function in tool.functions:
        assert function.repeatable
        assert not function.needs_approval
        assert HOW_TO_CITE in function.description
        assert function.parameters["additionalProperties"] is False
        assert set(function.parameters["required"]) <= set(function.parameters["properties"])
    assert "Only these domains count: good.example." in tool.functions[0].description
    many = world.open(filters={"allowed_domains": numbered(100)})
    assert len(many.functions[0].description) < 1_500
    offline = world.open(external_web_access=False)
    assert "switched off" in offline.functions[0].description
