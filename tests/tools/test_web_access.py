"""Which pages may be read, and how often: robots.txt, domains, the cache. R-33, R-83, R-118."""

from collections.abc import AsyncIterator

import pytest

from antiphon.app.tools import tools_of
from antiphon.config import Config, ConfigError
from antiphon.egress import Policy
from antiphon.tools.web.tool import WebSearch, WebSearchOptions
from tests.tools.web_world import (
    ARTICLE,
    PUBLIC,
    Canary,
    FakeProvider,
    Site,
    Web,
    a_web,
    article,
    fails,
    nobody_waits,
)


@pytest.fixture
async def world() -> AsyncIterator[Web]:
    """A tool that has a provider, and an article at ``/`` of every host."""
    async with a_web(FakeProvider()) as world:
        world.site.put("/", article())
        yield world


# -- robots.txt ----------------------------------------------------------------------------------

NOT_WANTED = "The site does not want robots to read this page (robots.txt)."


async def test_robots_are_asked_for_and_obeyed(world: Web) -> None:
    world.site.put("/robots.txt", "User-agent: *\nDisallow: /private", "text/plain")
    world.site.put("/private/a", article())
    assert await fails(world, world.site.url("a.example", "/private/a?b")) == NOT_WANTED
    await world.told("open_page", {"url": world.site.url("a.example", "/")})
    await world.told("open_page", {"url": world.site.url("a.example", "/?x")})
    paths = [asked.path for asked in world.site.asked]
    assert paths == ["/robots.txt", "/", "/?x"], "once for the site, before its pages"


async def test_robots_of_each_site_on_the_way_are_asked_for(world: Web) -> None:
    world.site.redirect("/moved", world.site.url("b.example", "/"))
    world.site.put("b.example/robots.txt", "User-agent: Antiphon\nDisallow: /", "text/plain")
    assert await fails(world, world.site.url("a.example", "/moved")) == NOT_WANTED
    asked = [(asked.host, asked.path) for asked in world.site.asked]
    assert asked == [
        ("a.example", "/robots.txt"),
        ("a.example", "/moved"),
        ("b.example", "/robots.txt"),
    ]


@pytest.mark.parametrize(
    ("status", "readable"), [(404, True), (410, True), (500, True), (401, False), (403, False)]
)
async def test_a_site_without_robots_txt(world: Web, status: int, readable: bool) -> None:
    world.site.put("/robots.txt", "User-agent: *\nDisallow: /", "text/plain", status=status)
    url = world.site.url("a.example")
    if readable:
        assert ARTICLE in await world.told("open_page", {"url": url})
    else:
        assert await fails(world, url) == NOT_WANTED


async def test_robots_txt_is_fetched_through_the_same_guard(world: Web) -> None:
    """R-83: it may lead inside; then there is none."""
    async with Canary().open() as canary:
        world.site.redirect("/robots.txt", f"http://127.0.0.1:{canary.port}/")
        assert ARTICLE in await world.told("open_page", {"url": world.site.url("a.example")})
        assert canary.hits == 0


async def test_a_huge_robots_txt_holds_nobody_up(world: Web) -> None:
    """R-118."""
    rules = "Allow:/x\n" * 55_000
    world.site.put("/robots.txt", f"User-agent: *\n{rules}Disallow: /$", "text/plain")
    async with nobody_waits():
        assert await fails(world, world.site.url("a.example")) == NOT_WANTED


async def test_the_operator_may_ignore_robots_txt() -> None:
    async with a_web(FakeProvider(), WebSearchOptions(respect_robots=False)) as world:
        world.site.put("/robots.txt", "User-agent: *\nDisallow: /", "text/plain")
        world.site.put("/", article())
        assert ARTICLE in await world.told("open_page", {"url": world.site.url("a.example")})
        assert [asked.path for asked in world.site.asked] == ["/"]


# -- domains -------------------------------------------------------------------------------------

OUTSIDE = "This page is outside of the domains that the request allows."


async def test_pages_outside_of_the_filters_are_refused(world: Web) -> None:
    filters = {"allowed_domains": ["good.example"], "blocked_domains": ["bad.good.example"]}
    for host in ("other.example", "bad.good.example", "x.bad.good.example", "notgood.example"):
        assert await fails(world, world.site.url(host), filters=filters) == OUTSIDE
    assert world.site.asked == []
    for host in ("good.example", "www.good.example"):
        assert ARTICLE in await world.told(
            "open_page", {"url": world.site.url(host)}, filters=filters
        )


async def test_a_redirect_does_not_lead_out_of_the_filters(world: Web) -> None:
    world.site.redirect("/moved", world.site.url("other.example", "/"))
    url = world.site.url("good.example", "/moved")
    filters = {"allowed_domains": ["good.example"]}
    assert await fails(world, url, filters=filters) == OUTSIDE
    assert "other.example" not in {asked.host for asked in world.site.asked}
    assert ARTICLE in await world.told("open_page", {"url": url}), "without filters it does"
    assert await fails(world, url, filters=filters) == OUTSIDE, "not from the cache either"
    assert await fails(world, url, filters={"blocked_domains": ["other.example"]}) == OUTSIDE


async def test_the_operator_may_limit_what_is_read() -> None:
    """R-126."""
    options = WebSearchOptions(allowed_domains=("good.example",))
    async with a_web(FakeProvider(), options) as world:
        world.site.put("/", article())
        world.site.redirect("/out", world.site.url("other.example"))
        reason = "The operator of this server does not allow pages of this domain."
        assert await fails(world, world.site.url("other.example")) == reason
        assert await fails(world, world.site.url("good.example", "/out")) == reason
        assert ARTICLE in await world.told("open_page", {"url": world.site.url("good.example")})
        assert "other.example" not in {asked.host for asked in world.site.asked}


# -- the cache -----------------------------------------------------------------------------------


async def test_a_page_is_read_once_for_each_project(world: Web) -> None:
    """R-33."""
    world.site.redirect("/moved", "/")
    url = world.site.url("a.example", "/moved")
    for project, paths in (
        ("p", ["/moved", "/"]),
        ("p", ["/moved", "/"]),
        ("q", ["/moved", "/", "/moved", "/"]),
    ):
        await world.told("open_page", {"url": url}, project=project)
        await world.told("open_page", {"url": world.site.url("a.example", "/#x")}, project=project)
        assert world.site.paths() == paths


async def test_offline_only_what_was_read_is_told(world: Web) -> None:
    """`external_web_access: false` fetches nothing, and the item completes."""
    url = world.site.url("a.example")
    for function in ("open_page", "find_in_page"):
        outcome = await world.run(
            function, {"url": url, "pattern": "otters"}, external_web_access=False
        )
        assert (outcome.status, outcome.fields["action"]["url"]) == ("completed", url)
        assert isinstance(outcome.told, str)
        assert "Only cached content is available" in outcome.told
    assert world.site.asked == []
    await world.told("open_page", {"url": url})
    asked = len(world.site.asked)
    assert ARTICLE in await world.told("open_page", {"url": url}, external_web_access=False)
    assert "Only cached" in await world.told(
        "open_page", {"url": url}, external_web_access=False, project="other"
    )
    assert len(world.site.asked) == asked


async def test_what_mcp_servers_may_be_at_is_no_page() -> None:
    """R-126, R-127: the operator allows pages by themselves."""
    allowed = Policy(["127.0.0.1"])
    async with Site("127.0.0.1").open() as site:
        site.put("/", article())
        for hosts in ([], ["127.0.0.1"]):
            config = Config.model_validate(
                {
                    "web_search": {
                        "provider": "searxng",
                        "url": site.url("127.0.0.1"),
                        "private_hosts": hosts,
                    }
                }
            )
            tool = tools_of(config, allowed)["web_search"]
            assert isinstance(tool, WebSearch)
            world = Web(site, tool)
            if hosts:
                assert ARTICLE in await world.told("open_page", {"url": site.url("127.0.0.1")})
            else:
                reason = await fails(world, site.url("127.0.0.1"))
                assert reason == "This is not the URL of a public web page."
                assert site.asked == []
            await tool.aclose()


def test_a_private_host_that_cannot_be_one_stops_the_start() -> None:
    config = Config.model_validate(
        {"web_search": {"provider": "duckduckgo", "private_hosts": ["http://x/"]}}
    )
    with pytest.raises(ConfigError, match=r"web_search\.private_hosts: 'http://x/'"):
        tools_of(config, Policy())


def test_the_public_address_of_these_tests_is_private_for_everybody_else() -> None:
    assert PUBLIC.startswith("127.")
