"""What search providers are asked, and how antiphon.toml names them: R-42, R-83, R-132."""

import contextlib
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.config import ConfigError, WebSearchConfig, load_config
from antiphon.errors import ToolFailed
from antiphon.tools.web import duckduckgo
from antiphon.tools.web.brave import Brave
from antiphon.tools.web.domains import Domains
from antiphon.tools.web.duckduckgo import DuckDuckGo
from antiphon.tools.web.provider import Found, Query, SearchProvider
from antiphon.tools.web.providers import provider_from
from antiphon.tools.web.searxng import SearXNG
from antiphon.tools.web.tavily import Tavily
from tests.tools.web_world import Site

DOMAINS = Domains(("a.example", "b.example"), ("x.a.example",))
RESULTS = [
    {"url": "https://a.example/1", "title": "One", "description": "d1", "content": "d1"},
    {"url": "https://a.example/2", "title": "Two", "description": "d2", "content": "d2"},
]
FOUND = [Found("https://a.example/1", "One", "d1"), Found("https://a.example/2", "Two", "d2")]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """At a private address: the operator's provider may be there."""
    async with Site("127.0.0.1").open() as site:
        yield site


@contextlib.asynccontextmanager
async def closing(provider: SearchProvider) -> AsyncIterator[SearchProvider]:
    try:
        yield provider
    finally:
        await provider.aclose()


def base(site: Site, path: str = "") -> str:
    return f"http://{site.address}:{site.port}{path}"


# -- what they are asked -------------------------------------------------------------------------


async def test_brave(site: Site) -> None:
    site.put("/res/v1/web/search", orjson.dumps({"web": {"results": RESULTS}}), "application/json")
    async with closing(Brave("KEY", base(site))) as brave:
        assert await brave.search(Query("otters", DOMAINS, "DE"), 50) == FOUND
        assert await brave.search(Query("otters", country="VA"), 1) == FOUND[:1]
    first, second = site.asked
    assert first.headers["x-subscription-token"] == "KEY"
    assert "authorization" not in first.headers
    assert first.query == {
        "q": "otters (site:a.example OR site:b.example) -site:x.a.example",
        "count": "20",
        "result_filter": "web",
        "text_decorations": "false",
        "country": "DE",
    }
    assert (second.query["count"], "country" in second.query) == ("1", False)


async def test_tavily(site: Site) -> None:
    site.put("/search", orjson.dumps({"results": RESULTS}), "application/json")
    async with closing(Tavily("KEY", base(site, "/"))) as tavily:
        assert await tavily.search(Query("otters", DOMAINS, "US"), 12) == FOUND
        assert await tavily.search(Query("otters"), 50) == FOUND
    first, second = site.asked
    assert first.headers["authorization"] == "Bearer KEY"
    assert first.headers["content-type"] == "application/json"
    assert orjson.loads(first.body) == {
        "query": "otters",
        "max_results": 12,
        "include_domains": ["a.example", "b.example"],
        "exclude_domains": ["x.a.example"],
        "country": "united states",
    }
    assert orjson.loads(second.body) == {"query": "otters", "max_results": 20}


async def test_searxng(site: Site) -> None:
    site.put("/search", orjson.dumps({"results": RESULTS}), "application/json")
    for url in (base(site), base(site, "/")):
        async with closing(SearXNG(url)) as searxng:
            assert await searxng.search(Query("ötters & co", country="GB"), 1) == FOUND[:1]
    assert site.asked[0].query == {"q": "ötters & co", "format": "json", "language": "en-GB"}


async def test_a_result_that_names_a_user_is_none(site: Site) -> None:
    """R-84: `open_page` would not read it either."""
    urls = ["http://user:pw@a.example/", "http://u@a.example", "http://@a.example", "//a.example"]
    results = [{"url": url, "title": "t", "content": "c"} for url in urls] + RESULTS
    site.put("/search", orjson.dumps({"results": results}), "application/json")
    async with closing(SearXNG(base(site))) as searxng:
        assert await searxng.search(Query("q"), 9) == FOUND


async def test_a_searxng_without_json_is_explained_to_the_operator(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("/search", "no", status=403)
    async with closing(SearXNG(base(site))) as searxng:
        with pytest.raises(ToolFailed) as caught:
            await searxng.search(Query("q"), 9)
    assert "settings" not in caught.value.message
    assert "'json' among the search.formats" in "".join(capsys.readouterr())


async def test_a_provider_may_be_at_a_name_or_in_ipv6(site: Site) -> None:
    """R-83: the operator chose it."""
    site.put("/search", orjson.dumps({"results": RESULTS}), "application/json")
    async with closing(SearXNG(f"http://localhost:{site.port}")) as searxng:
        assert await searxng.search(Query("q"), 5) == FOUND
    await SearXNG("http://[::1]:1/").aclose()


@pytest.mark.parametrize(
    "url", ["http://", "ftp://a.example", "http://user:password@a.example", "http://a.example:0"]
)
def test_a_provider_that_can_never_be_asked(url: str) -> None:
    with pytest.raises(ValueError, match=r"host|URL"):
        SearXNG(url)


async def test_long_queries_are_cut_at_a_word(site: Site) -> None:
    """Brave and Tavily refuse more than 400 characters."""
    words = "otter " * 200
    site.put("/res/v1/web/search", orjson.dumps({}), "application/json")
    site.put("/search", orjson.dumps({}), "application/json")
    async with closing(Brave("KEY", base(site))) as brave:
        await brave.search(Query(words, DOMAINS), 5)
        await brave.search(Query("x" * 1_000), 5)
    async with closing(Tavily("KEY", base(site))) as tavily:
        await tavily.search(Query(words), 5)
    first, second, third = site.asked
    assert len(first.query["q"]) <= 400
    assert first.query["q"].endswith("otter (site:a.example OR site:b.example) -site:x.a.example")
    assert second.query["q"] == "x" * 400
    assert len(orjson.loads(third.body)["query"]) <= 400


async def test_a_key_is_not_sent_elsewhere(site: Site) -> None:
    """R-85."""
    async with Site("127.0.0.1").open() as other, closing(Brave("KEY", base(site))) as brave:
        for status in (301, 302, 303, 307, 308):
            site.redirect("/res/v1/web/search", other.url("127.0.0.1"), status)
            with pytest.raises(ToolFailed):
                await brave.search(Query("q"), 5)
        assert other.asked == []


async def test_a_provider_that_is_not_there(site: Site) -> None:
    """R-42: neither its address nor its key stands in the reason."""
    async with closing(Tavily("KEY", f"http://127.0.0.1:{site.port}")) as tavily:
        await site.close()
        with pytest.raises(ToolFailed) as caught:
            await tavily.search(Query("q"), 5)
    assert caught.value.message == "The search provider cannot be reached."


# -- DuckDuckGo ----------------------------------------------------------------------------------

ROWS = [{"href": row["url"], "title": row["title"], "body": row["content"]} for row in RESULTS]


async def test_duckduckgo() -> None:
    asked: list[tuple[str, str, int]] = []
    threads: set[threading.Thread] = set()

    def ask(query: str, region: str, count: int) -> Sequence[Mapping[str, Any]]:
        threads.add(threading.current_thread())
        asked.append((query, region, count))
        return ROWS

    async with closing(DuckDuckGo(ask)) as provider:
        assert await provider.search(Query("otters", DOMAINS, "GB"), 7) == FOUND
        assert await provider.search(Query("otters", country="XX"), 1) == FOUND[:1]
    assert asked == [
        ("otters (site:a.example OR site:b.example) -site:x.a.example", "uk-en", 7),
        ("otters", "wt-wt", 1),
    ]
    assert threading.main_thread() not in threads


async def test_duckduckgo_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckduckgo, "_PATIENCE", 0.1)
    go = threading.Event()

    def hang(query: str, region: str, count: int) -> Sequence[Mapping[str, Any]]:
        assert go.wait(30)
        return ROWS

    provider = DuckDuckGo(hang)
    for _ in range(8):
        with pytest.raises(ToolFailed, match="cannot be reached"):
            await provider.search(Query("q"), 5)
    with pytest.raises(ToolFailed, match="too often"):
        await provider.search(Query("q"), 5)
    go.set()


async def test_a_failure_of_duckduckgo_frees_its_place() -> None:
    def fail(query: str, region: str, count: int) -> Sequence[Mapping[str, Any]]:
        raise ToolFailed("It did not work.")

    provider = DuckDuckGo(fail)
    for _ in range(20):
        with pytest.raises(ToolFailed, match="did not work"):
            await provider.search(Query("q"), 5)


async def test_the_package_is_asked_as_it_wants_to_be(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real `ddgs`, with DuckDuckGo's page on loopback."""
    engines = pytest.importorskip("ddgs.engines.duckduckgo")
    monkeypatch.setattr(engines.Duckduckgo, "search_url", base(site, "/html/"))
    row = (
        "<div class='links_main body'><h2><a href='https://a.example/{0}'>Title {0}</a></h2>"
        "<a href='https://a.example/{0}'>Otters, {0} of them</a></div>"
    )
    page = "<html><body>" + "".join(row.format(number) for number in range(3)) + "</body></html>"
    site.put("/html/", page)
    found = await DuckDuckGo().search(Query("otters"), 2)
    assert len(found) == 2
    assert all(one.url.startswith("https://a.example/") for one in found)
    assert found[0].snippet.startswith("Otters, ")
    assert b"l=wt-wt" in site.asked[0].body
    site.put("/html/", "<html><body></body></html>")
    assert await DuckDuckGo().search(Query("otters"), 2) == []
    await site.close()
    with pytest.raises(ToolFailed, match=r"provider failed\.$"):
        await DuckDuckGo().search(Query("otters"), 2)


# -- antiphon.toml -------------------------------------------------------------------------------


def load(tmp_path: Path, text: str) -> WebSearchConfig:
    path = tmp_path / "antiphon.toml"
    path.write_text(f"[web_search]\n{text}", encoding="utf-8")
    config = load_config(path)
    assert config is not None
    assert config.web_search is not None
    return config.web_search


SEARXNG = 'provider = "searxng"\nurl = "http://127.0.0.1:8888"\n'


def test_a_table_with_everything(tmp_path: Path) -> None:
    text = SEARXNG + 'respect_robots = false\nallowed_domains = ["a.example", "xn--mnchen-3ya.de"]'
    config = load(tmp_path, text)
    assert (config.provider, config.url) == ("searxng", "http://127.0.0.1:8888")
    assert config.respect_robots is False
    assert config.allowed_domains == ["a.example", "xn--mnchen-3ya.de"]
    plain = load(tmp_path, SEARXNG)
    assert (plain.respect_robots, plain.allowed_domains) == (True, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "web_search.provider"),
        ('provider = "google"', "web_search.provider"),
        ('provider = "searxng"', "'searxng' needs a url"),
        ('provider = "searxng"\nurl = "http://a.example/search"', "without '/search'"),
        ('provider = "searxng"\nurl = "http://a.example/x/search/"', "without '/search'"),
        (SEARXNG + 'private_hosts = "127.0.0.1"', "web_search.private_hosts"),
        (SEARXNG + 'api_key_env = "X"', "'searxng' has no api_key_env"),
        ('provider = "brave"', "'brave' needs an api_key_env"),
        ('provider = "tavily"', "'tavily' needs an api_key_env"),
        ('provider = "brave"\napi_key_env = "not a name"', "web_search.api_key_env"),
        ('provider = "brave"\napi_key = "secret"', "web_search.api_key"),
        ('provider = "duckduckgo"\nurl = "http://a.example"', "'duckduckgo' has no url"),
        ('provider = "searxng"\nurl = "not a url"', "web_search.url"),
        ('provider = "searxng"\nurl = "http://"', "web_search.url"),
        (SEARXNG + "surprise = 1", "web_search.surprise"),
        (SEARXNG + "allowed_domains = []", "web_search.allowed_domains"),
        (SEARXNG + 'allowed_domains = ["https://a.example"]', "web_search.allowed_domains.0"),
        (SEARXNG + 'respect_robots = "yes"', "web_search.respect_robots"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(tmp_path: Path, text: str, says: str) -> None:
    """R-132."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)


async def test_a_provider_is_made_from_its_table_and_the_environment(tmp_path: Path) -> None:
    keyed = '\napi_key_env = "SEARCH_KEY"'
    environ = {"SEARCH_KEY": " secret \n"}
    for text, made in (
        (SEARXNG, SearXNG),
        (f'provider = "brave"{keyed}', Brave),
        (f'provider = "tavily"{keyed}\nurl = "http://127.0.0.1:1"', Tavily),
        ('provider = "duckduckgo"', DuckDuckGo),
    ):
        provider = provider_from(load(tmp_path, text), environ)
        assert isinstance(provider, made)
        await provider.aclose()


@pytest.mark.parametrize("environ", [{}, {"SEARCH_KEY": ""}, {"SEARCH_KEY": " "}])
def test_a_key_that_is_not_set_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    config = load(tmp_path, 'provider = "brave"\napi_key_env = "SEARCH_KEY"')
    with pytest.raises(ValueError, match="SEARCH_KEY with the key of 'brave' is not set"):
        provider_from(config, environ)


@pytest.mark.parametrize(
    ("package", "extra", "text"),
    [("ddgs", "ddgs", 'provider = "duckduckgo"'), ("trafilatura", "web", SEARXNG)],
)
def test_a_missing_package_is_named_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, text: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError, match=rf"'{package}' is missing: pip install 'antiphon\[{extra}"
    ):
        provider_from(load(tmp_path, text), {})


def test_a_key_that_no_header_can_have_is_not_shown(tmp_path: Path) -> None:
    config = load(tmp_path, 'provider = "brave"\napi_key_env = "SEARCH_KEY"')
    with pytest.raises(ValueError, match="no key can have") as caught:
        provider_from(config, {"SEARCH_KEY": "SECRET\r\nX: 1"})
    assert "SECRET" not in str(caught.value)


def test_every_provider_has_the_port() -> None:
    """As `SearchProvider` writes it."""
    port: Callable[..., object] = SearchProvider.search
    for provider in (SearXNG, Brave, Tavily, DuckDuckGo):
        assert list(inspect.signature(provider.search).parameters) == list(
            inspect.signature(port).parameters
        )
