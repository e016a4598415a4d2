"""Small parts of the tool `web_search`: robots.txt, domains, the cache, calls of models."""

import time

import pytest

from antiphon.errors import ToolFailed
from antiphon.protocol import sources as cited
from antiphon.protocol.citations import Citation, CitationReader
from antiphon.protocol.sources import HOW_TO_CITE, Sources
from antiphon.tools.web.actions import FindInPage, OpenPage, Search, action_of, shape_of
from antiphon.tools.web.cache import Cache
from antiphon.tools.web.domains import Domains, domain_of, host_of
from antiphon.tools.web.pages import Page
from antiphon.tools.web.places import BRAVE_COUNTRIES, COUNTRIES
from antiphon.tools.web.robots import ALL, NOTHING, parse_robots
from antiphon.tools.web.told import matches_in, told_of_page, told_of_search
from tests.pace import pace
from tests.tools.web_world import call

# -- robots.txt ----------------------------------------------------------------------------------

ROBOTS = """
# who else
User-agent: OtherBot
Disallow: /

User-agent: *
Allow: /
Disallow: /all
"""


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/", True),
        ("nonsense\n\x00:\n:::", "/", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /", "/a", False),
        ("\ufeffuser-AGENT : *\r\nDISALLOW : /a # why\r\n", "/ab", False),
        ("User-agent: *\nDisallow: /a", "/b", True),
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("User-agent: *\nAllow: /a/b\nDisallow: /a", "/a/c", False),
        ("User-agent: *\nAllow: /a\nDisallow: /a", "/a", True),
        ("User-agent: *\nDisallow: /*.pdf$", "/a/b.pdf", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/a/b.pdf?x", True),
        ("User-agent: *\nDisallow: /*.pdf$", "/a.pdf/b.pdf", False),
        ("User-agent: *\nDisallow: /a$", "/a", False),
        ("User-agent: *\nDisallow: /a$", "/ab", True),
        ("User-agent: *\nDisallow: /a*b*c", "/aXbXc", False),
        ("User-agent: *\nDisallow: /a*b*c", "/acb", True),
        ("User-agent: *\nDisallow: *", "/a", False),
        ("User-agent: *\nDisallow: /?q=", "/?q=1", False),
        ("User-agent: *\nDisallow: /ü", "/%C3%BC", False),
        (ROBOTS, "/all", False),
        (ROBOTS, "/other", True),
        (ROBOTS + "User-agent: Antiphon\nDisallow: /me", "/me", False),
        (ROBOTS + "User-agent: Antiphon\nDisallow: /me", "/all", True),
        ("User-agent: antiphon/1.0\nUser-agent: x\nDisallow: /\n", "/", False),
        ("User-agent: antiphon\nDisallow: /a\nUser-agent: antiphon\nDisallow: /b", "/a", False),
        ("User-agent: antiphon\nDisallow: /a\nUser-agent: antiphon\nDisallow: /b", "/b", False),
        ("User-agent: antiphonic\nDisallow: /", "/", True),
        ("Disallow: /", "/", True),
    ],
)
def test_what_a_robots_txt_allows(text: str, path: str, allowed: bool) -> None:
    """RFC 9309 §2.2."""
    assert parse_robots(text).allow(path) is allowed


def test_without_a_robots_txt_all_is_allowed_and_behind_a_wall_nothing() -> None:
    assert ALL.allow("/a")
    assert not NOTHING.allow("/a")


def test_a_robots_txt_cannot_make_us_slow() -> None:
    """R-118: neither with stars nor with rules."""
    stars = "User-agent: *\nDisallow: /" + "*a" * 200_000
    rules = "User-agent: *\n" + "".join(f"Disallow: /*x*{n}\n" for n in range(15_000))
    for text in (stars, rules):
        robots = parse_robots(text)
        start = time.perf_counter()
        robots.allow("/" + "a" * 100_000)
        assert time.perf_counter() - start < 0.1 * pace()


# -- domains and places --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "domain"),
    [
        ("example.com", "example.com"),
        (" Example.COM ", "example.com"),
        ("https://example.com/path?x", "example.com"),
        ("*.example.com", "example.com"),
        ("example.com:8080", "example.com"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("localhost", "localhost"),
    ],
)
def test_domains_as_people_write_them(entry: str, domain: str) -> None:
    assert domain_of(entry) == domain


@pytest.mark.parametrize(
    "entry", ["", " ", "a b", "*", "https://", "a..b", "user@a.b", "ftp://a.b"]
)
def test_what_is_no_domain(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a domain"):
        domain_of(entry)


@pytest.mark.parametrize(
    ("host", "admitted"),
    [
        ("example.com", True),
        ("a.b.example.com", True),
        ("ads.example.com", False),
        ("x.ads.example.com", False),
        ("badexample.com", False),
        ("example.com.evil.net", False),
        ("com", False),
    ],
)
def test_a_domain_stands_for_all_below_it(host: str, admitted: bool) -> None:
    domains = Domains(("example.com",), ("ads.example.com",))
    assert domains.admits(host) is admitted
    assert Domains().admits(host)


def test_hosts_of_urls() -> None:
    assert host_of("https://A.example:80/x") == "a.example"
    for url in (
        "ftp://a.example/",
        "a.example",
        "http://",
        "http://[",
        "javascript:x",
        "http://a\n",
    ):
        assert host_of(url) is None


def test_countries_are_written_as_providers_want_them() -> None:
    assert set(COUNTRIES) >= BRAVE_COUNTRIES
    for code, country in COUNTRIES.items():
        assert (len(code), code.isupper()) == (2, True)
        assert country.name == country.name.lower()
        assert len(country.language) == 2


# -- the cache -----------------------------------------------------------------------------------


class Clock:
    """Stands still until it is told the time."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_one_project_found_another_does_not_find() -> None:
    """R-33."""
    cache = Cache[str](len)
    cache.put("a", "key", "value")
    assert cache.get("a", "key") == "value"
    assert cache.get("b", "key") is None


def test_a_cache_forgets_after_ten_minutes() -> None:
    clock = Clock()
    cache = Cache[str](len, clock=clock)
    cache.put("a", "key", "value")
    clock.now = 599
    assert cache.get("a", "key") == "value"
    clock.now = 600
    assert cache.get("a", "key") is None


def test_a_cache_is_bounded_in_entries_and_bytes() -> None:
    cache = Cache[str](len, most_entries=3, most_bytes=100)
    for number in range(4):
        cache.put("a", number, "x")
    assert [cache.get("a", number) for number in range(4)] == [None, "x", "x", "x"]
    assert cache.get("a", 1) == "x"  # it is used, so it is not the next to go
    cache.put("a", 4, "y" * 98)
    assert [cache.get("a", number) for number in range(1, 5)] == ["x", None, "x", "y" * 98]
    cache.put("a", 5, "z" * 101)
    assert cache.get("a", 5) is None
    cache.put("a", 4, "short")
    for number in range(10, 12):
        cache.put("a", number, "x" * 40)
    assert cache.get("a", 4) == "short", "an old size was counted twice"


# -- calls of models -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "action"),
    [
        ("web_search", {"query": " two  words "}, Search(("two words",))),
        ("web_search", {"queries": ["a", "b", "a", 1, ""]}, Search(("a", "b"))),
        ("web_search", {"query": "a", "queries": ["a", "c"]}, Search(("a", "c"))),
        ("web_search", {"query": ["a", "b"]}, Search(("a", "b"))),
        ("web_search", {"queries": list("abcdefg")}, Search(tuple("abcd"))),
        ("web_search", {"q": "a"}, Search(("a",))),
        ("web_search", {"type": "search", "query": "a"}, Search(("a",))),
        ("web_search", {"query": "a", "url": "https://u/"}, Search(("a",))),
        ("web_search", {"url": "https://u/"}, OpenPage("https://u/")),
        ("web_search", {"url": "https://u/", "pattern": "p"}, FindInPage("https://u/", "p")),
        ("web_search", {"type": "open_page", "url": "https://u/"}, OpenPage("https://u/")),
        (
            "web_search",
            {"action": {"type": "find_in_page", "url": "https://u/", "pattern": "p"}},
            FindInPage("https://u/", "p"),
        ),
        ("web_search", {"action": "open_page", "url": "https://u/"}, OpenPage("https://u/")),
        ("web_search", {"action": {"type": "search", "query": "a"}}, Search(("a",))),
        ("open_page", {"url": "https://u/"}, OpenPage("https://u/")),
        ("open_page", {"url": "u.example/x"}, OpenPage("https://u.example/x")),
        ("open_page", {"url": "<https://u/>"}, OpenPage("https://u/")),
        ("open_page", {"url": "【2】"}, OpenPage("【2】")),
        ("open_page", {"url": "https://u/", "start": "40"}, OpenPage("https://u/", 40)),
        ("open_page", {"url": "https://u/", "start": -4}, OpenPage("https://u/")),
        ("open_page", {"url": "https://u/", "start": "x"}, OpenPage("https://u/")),
        ("open_page", {"url": "https://u/", "start": None}, OpenPage("https://u/")),
        ("open_page", {"url": "https://u/", "start": [1]}, OpenPage("https://u/")),
        ("open_page", {"query": "a"}, Search(("a",))),
        ("find_in_page", {"url": "https://u/", "pattern": "p"}, FindInPage("https://u/", "p")),
        ("find_in_page", {"url": "https://u/", "query": "p"}, FindInPage("https://u/", "p")),
        ("find_in_page", {"url": "https://u/"}, OpenPage("https://u/")),
    ],
)
def test_what_a_model_means(function: str, arguments: object, action: object) -> None:
    assert action_of(call(function, arguments)) == action


@pytest.mark.parametrize("arguments", ["", "{}", "[]", "nonsense", '{"query":" "}', '{"url":7}'])
@pytest.mark.parametrize("function", ["web_search", "open_page", "find_in_page"])
def test_what_means_nothing(function: str, arguments: str) -> None:
    with pytest.raises(ToolFailed):
        action_of(call(function, arguments))


@pytest.mark.parametrize(
    ("function", "arguments", "shape"),
    [
        ("web_search", "nonsense", {"type": "search", "query": ""}),
        ("web_search", {"query": "a"}, {"type": "search", "query": "a", "queries": ["a"]}),
        ("open_page", "[]", {"type": "open_page", "url": ""}),
        (
            "open_page",
            {"url": "http://10.0.0.1/"},
            {"type": "open_page", "url": "http://10.0.0.1/"},
        ),
        ("find_in_page", "{", {"type": "find_in_page", "url": "", "pattern": ""}),
        (
            "find_in_page",
            {"pattern": "p"},
            {"type": "find_in_page", "url": "", "pattern": "p"},
        ),
    ],
)
def test_the_action_of_a_call_that_failed(function: str, arguments: object, shape: object) -> None:
    assert shape_of(call(function, arguments)) == shape


# -- what a model is told ------------------------------------------------------------------------


def test_a_pattern_is_text_and_capitals_and_lines_do_not_matter() -> None:
    page = Page("u", "t", "One İ (a+)+ line\nbreak. ONE more.")
    assert len(matches_in(page, "one")) == 2
    assert len(matches_in(page, "(A+)+")) == 1
    assert len(matches_in(page, "line  break")) == 1
    assert matches_in(page, ".*") == []


def test_at_most_twenty_matches_with_what_is_around_them() -> None:
    page = Page("u", "t", ("x" * 1000 + " needle ") * 50)
    matches = matches_in(page, "NEEDLE")
    assert len(matches) == 20
    assert all("needle" in match and len(match) < 500 for match in matches)


def test_finding_takes_linear_time() -> None:
    """R-118."""
    page = Page("u", "t", "a" * 500_000)
    start = time.perf_counter()
    assert matches_in(page, "a" * 250 + "b" + "a" * 249) == []
    assert time.perf_counter() - start < 0.1


def test_the_last_line_says_how_to_cite_however_little_room_there_is() -> None:
    page = Page("https://u/", "t" * 300, "text " * 10_000)
    for most in (600, 1_000, 5_000, 300_000):
        told = told_of_page(1, page, 0, most)
        assert told.endswith(HOW_TO_CITE)
        assert len(told) <= most


def test_nothing_found_is_said() -> None:
    assert told_of_search(["a", "b"], [], 1_000) == "Nothing was found for: a; b"


# -- sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("【1】 [x](http://evil.example)", "[1】 [x](http://evil.example)"),
        ("a 【 source 2†b】【3, 4】", "a [ source 2†b】[3, 4】"),
        ("【News】 of today", "【News】 of today"),
    ],
)
def test_a_title_holds_no_mark(title: str, shown: str) -> None:
    """R-123: what a page calls itself ends up in annotations."""
    sources = Sources()
    sources.page("https://a.example/", title)
    assert sources.found == [cited.Page("https://a.example/", shown)]


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("http://[::1]:9100/p/1", "([::1](http://[::1]:9100/p/1))"),
        ("http://[2606:4700::1111]", "([2606:4700::1111](http://[2606:4700::1111]))"),
        ("http://[::1]/[a](b)", "([::1](http://[::1]/%5Ba%5D%28b%29))"),
        ("http://[x](y)/", "([xy](http://%5Bx%5D%28y%29/))"),
    ],
)
def test_a_link_to_an_ipv6_address_works(url: str, link: str) -> None:
    """RFC 3986 §3.2.2: its brackets are no data."""
    sources = Sources()
    sources.page(url, "t")
    reader = CitationReader(sources, linked=True)
    pieces = reader.feed("x 【1】") + reader.close()
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    assert text.endswith(link)
    assert [piece.source.key for piece in pieces if isinstance(piece, Citation)] == [url]
