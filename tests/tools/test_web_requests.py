"""Searches that are remembered, offline, refused, or fail: reliability R-33, R-42, R-58."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from antiphon.errors import InvalidRequestError, ToolFailed
from antiphon.tools.base import OpenTool, Scope
from antiphon.tools.web.provider import Found
from antiphon.tools.web.tool import TYPES, WebSearch
from tests.tools.web_world import FakeProvider, World, a_guard, a_web, a_world, article, call

Json = dict[str, Any]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as world:
        yield world


# -- the cache, and offline ----------------------------------------------------------------------


async def test_a_search_is_made_once_for_each_project(world: World) -> None:
    """R-33."""
    world.knows("a.example")
    for count, more in (
        (1, {}),
        (1, {"search_context_size": "high"}),
        (2, {"project": "q"}),
        (3, {"filters": {"blocked_domains": ["b.example"]}}),
        (4, {"user_location": {"country": "DE"}}),
    ):
        await world.told("web_search", {"query": "q"}, **more)
        assert len(world.queries) == count
    await world.told("web_search", {"query": "other"})
    assert len(world.queries) == 5


async def test_a_search_that_failed_is_made_again(world: World) -> None:
    world.engine.put("/searx/search", b"", status=500)
    with pytest.raises(ToolFailed):
        await world.told("web_search", {"query": "q"})
    world.knows("a.example")
    assert "a.example" in await world.told("web_search", {"query": "q"})


async def test_offline_nobody_is_asked(world: World) -> None:
    """`external_web_access: false`: nothing is fetched, and the item completes."""
    world.knows("a.example")
    outcome = await world.run("web_search", {"query": "q"}, external_web_access=False)
    assert outcome.status == "completed"
    assert outcome.fields["action"]["query"] == "q"
    assert "Only cached content is available" in str(outcome.told)
    assert (world.queries, world.site.asked) == ([], [])
    await world.told("web_search", {"query": "q"})
    told = await world.told("web_search", {"query": "q"}, external_web_access=False)
    assert "【1】 Title of a.example" in told
    assert "The page begins:" in told
    other = await world.told(
        "web_search", {"query": "q"}, external_web_access=False, project="other"
    )
    assert "Only cached" in other
    assert len(world.queries) == 1


async def test_without_a_provider_there_is_only_offline() -> None:
    async with a_web(None) as world:
        world.site.put("/", article())
        told = await world.told("web_search", {"query": "q"}, external_web_access=False)
        assert "Only cached content is available" in told
        assert world.site.asked == []
        for type_ in TYPES:
            with pytest.raises(InvalidRequestError) as caught:
                await world.tool.check({"type": type_}, "tools[1]", "p")
            assert caught.value.message == (
                f"Hosted tool '{type_}' is not supported by this server: no search provider is "
                "configured."
            )
            assert caught.value.param == "tools"


# -- what is checked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "ignored"),
    [
        ({"type": "web_search"}, []),
        ({"type": "web_search_2025_08_26", "filters": None, "user_location": None}, []),
        ({"type": "web_search", "filters": {"allowed_domains": None}}, []),
        ({"type": "web_search", "filters": {"allowed_domains": ["a.example"]}}, []),
        ({"type": "web_search", "search_context_size": "high"}, []),
        ({"type": "web_search", "external_web_access": True}, []),
        ({"type": "web_search", "return_token_budget": "default"}, []),
        ({"type": "web_search", "return_token_budget": "unlimited"}, ["return_token_budget"]),
        ({"type": "web_search", "search_content_types": ["text"]}, []),
        ({"type": "web_search", "image_settings": None}, []),
        ({"type": "web_search", "image_settings": {"max_results": 3}}, ["image_settings"]),
        (
            {"type": "web_search_preview", "search_content_types": ["text", "image"]},
            ["search_content_types"],
        ),
        ({"type": "web_search_preview_2025_03_11", "search_context_size": None}, []),
    ],
)
async def test_what_has_no_effect_is_named(world: World, tool: Json, ignored: list[str]) -> None:
    assert await world.tool.check(tool, "tools[0]", "p") == ignored
    opened: OpenTool = world.tool.open(tool, Scope("p"))
    assert len(opened.functions) == 3


async def test_a_filter_that_is_no_domain_is_refused_with_its_place(world: World) -> None:
    tool = {"type": "web_search", "filters": {"blocked_domains": ["a.example", "not a domain"]}}
    with pytest.raises(InvalidRequestError) as caught:
        await world.tool.check(tool, "tools[2]", "p")
    assert caught.value.param == "tools[2].filters.blocked_domains[1]"


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>SECRET</html>", "The search provider failed."),
        (500, b"SECRET", "The search provider failed."),
        (302, b"SECRET", "The search provider cannot be reached."),
        (401, b"SECRET", "The search provider does not accept this server."),
        (403, b"SECRET", "The search provider does not accept this server."),
        (429, b"SECRET", "The search provider is asked too often at the moment."),
        (200, b"x" * 3_000_000, "The search provider cannot be reached."),
    ],
)
async def test_what_a_provider_says_of_its_failure_stays_here(
    world: World, capsys: pytest.CaptureFixture[str], status: int, body: bytes, told: str
) -> None:
    """R-42."""
    elsewhere = {"location": "http://a.example/SECRET"}
    world.engine.put("/searx/search", body, "application/json", status, elsewhere)
    with pytest.raises(ToolFailed) as caught:
        await world.told("web_search", {"query": "private question"})
    assert caught.value.message == told
    assert len(world.queries) == 1
    logged = capsys.readouterr().out
    assert "web_search_failed" in logged
    assert "SECRET" not in logged
    assert "private question" not in logged


@pytest.mark.parametrize("answer", [b"[]", b"null", b"{}", b'{"results": 7}', b'{"results": [7]}'])
async def test_an_answer_without_results_finds_nothing(world: World, answer: bytes) -> None:
    world.engine.put("/searx/search", answer, "application/json")
    assert "Nothing was found" in await world.told("web_search", {"query": "q"})


async def test_a_call_that_failed_has_its_action(world: World) -> None:
    tool = world.open()
    outcome = tool.failed(call("web_search", {"query": "q"}), "It took too long.")
    assert (outcome.status, outcome.told) == ("failed", "It took too long.")
    assert outcome.fields["action"]["query"] == "q"


async def test_a_search_that_is_given_up_ends(world: World) -> None:
    """R-58."""
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 1_000)
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    world.engine.pages["/searx/search"] = endless
    running = asyncio.create_task(world.run("web_search", {"query": "q"}))
    await asyncio.sleep(0.2)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    async with asyncio.timeout(2):
        await gone.wait()


async def test_the_provider_is_closed_with_the_tool() -> None:
    provider = FakeProvider(Found("http://a.example/", "t", "s"))
    egress = a_guard()
    tool = WebSearch(provider, egress)
    await tool.aclose()
    await egress.close()
    assert provider.closed
