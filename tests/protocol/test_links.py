"""URLs that the model writes itself, as links or alone, and what URLs have in common."""

import pytest

from antiphon.protocol.citations import Citation, CitationReader
from antiphon.protocol.links import MOST_LABEL, MOST_URL, comparable, host
from antiphon.protocol.sources import Page, Source, Sources
from tests.protocol.cited import LINKS, SOURCES, TOWER, citations_of, said, titles_of

# -- links that the model writes itself ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("See [the tower](https://www.example.com/tower?page=2).", "[the tower]({tower})"),
        ("See ([the tower](https://www.example.com/tower?page=2)).", "([the tower]({tower}))"),
        ("(see [the tower](https://www.example.com/tower?page=2))", "[the tower]({tower})"),
        ("([a](https://www.example.com/tower?page=2), b)", "[a]({tower})"),
        ("[a [b] c](https://www.example.com/tower?page=2)", "[a [b] c]({tower})"),
        ("[[1]](https://www.example.com/tower?page=2)", "[[1]]({tower})"),
        ("[x [a](https://www.example.com/tower?page=2)", "[a]({tower})"),
        ("x] [a](https://www.example.com/tower?page=2)", "[a]({tower})"),
        ("![a](https://www.example.com/tower?page=2)", "[a]({tower})"),
        ("[](https://www.example.com/tower?page=2)", "[]({tower})"),
        ("Read https://www.example.com/tower?page=2", "{tower}"),
        ("Read https://www.example.com/tower?page=2.", "{tower}"),
        ("Read (https://www.example.com/tower?page=2), yes", "{tower}"),
        ("Read **https://www.example.com/tower?page=2**!", "{tower}"),
        ("Read <https://www.example.com/tower?page=2> now", "{tower}"),
        ("Read `https://www.example.com/tower?page=2`", "{tower}"),
        ("読む：https://www.example.com/tower?page=2。", "{tower}"),
        ("見てhttps://www.example.com/tower?page=2はここ", "{tower}"),
        ("a](https://www.example.com/tower?page=2)", "{tower}"),
        ("]]](https://www.example.com/tower?page=2)", "{tower}"),
        ('[a](https://www.example.com/tower?page=2 "T")', "{tower}"),
        ("[a\nb](https://www.example.com/tower?page=2)", "{tower}"),
        ("[a](https://www.example.com/tower?page=2", "{tower}"),
        ("[" + "a" * MOST_LABEL + "](https://www.example.com/tower?page=2)", "{tower}"),
        ("https://www.example.com/tower?page=2【", "{tower}"),
        ("https://example.com/tower/?utm_source=x&page=2#top",) * 2,
        ("HTTP://WWW.EXAMPLE.COM/tower?page=2&utm_medium=y",) * 2,
    ],
)
def test_a_known_url_is_covered_as_it_stands(text: str, covered: str) -> None:
    cover = covered.replace("{tower}", TOWER.url)
    for chunks in (text, list(text)):
        assert said(chunks) == (text, [(cover, TOWER.title)])
    assert said(text, linked=False) == (text, [])


@pytest.mark.parametrize(
    "written",
    [
        "https://fr.example.org/wiki/Paris_(ville)",
        "https://fr.example.org/wiki/Paris_%28ville%29",
        "https://example.jp/東京",
        "https://example.jp/%e6%9d%b1%E4%BA%AC",
        "http://seine.example:8080",
    ],
)
def test_the_way_of_escaping_a_url_does_not_matter(written: str) -> None:
    for text in (f"See {written}.", f"See [x y]({written}).", f"({written})"):
        cover = f"[x y]({written})" if "[" in text else written
        text_shown, covered = said(text)
        assert text_shown == text
        assert [cover for cover, _ in covered] == [cover]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/tower?page=3",
        "https://example.com/",
        "https://www.example.com.evil.test/tower?page=2",
        "xhttps://www.example.com/tower?page=2",
        "[tower](other)",
        "[tower](https://unknown.example/)",
        "https://",
        "ftp://www.example.com/tower?page=2",
        "www.example.com/tower?page=2",
        "https://www.example.com/tower?page=2&" + "x" * MOST_URL,
    ],
)
def test_an_unknown_url_is_not_covered(text: str) -> None:
    for chunks in (text, list(text), f"({text}) so"):
        assert said(chunks) == ("".join(chunks), [])


def test_the_source_with_exactly_this_url_comes_first() -> None:
    pages: list[Source] = [Page(f"https://a.test/x{end}", f"T{end}") for end in ("#1", "#2", "")]
    reader = CitationReader(Sources(pages), linked=True)
    pieces = [*reader.feed("".join(f"[_]({page.key}) " for page in pages)), *reader.close()]
    assert titles_of(pieces) == ["T#1", "T#2", "T"]
    reader = CitationReader(Sources(pages[:2]), linked=True)
    pieces = [*reader.feed("https://a.test/x/"), *reader.close()]
    assert titles_of(pieces) == ["T#1"]


def test_a_url_that_ends_like_a_sentence_is_found_as_it_is() -> None:
    reader = CitationReader(Sources([Page("https://a.test/Foo_", "Foo")]), linked=True)
    assert citations_of(reader.feed("https://a.test/Foo_ b")) == [
        Citation(0, 19, Page("https://a.test/Foo_", "Foo"))
    ]


def test_the_longest_url_that_is_found() -> None:
    url = TOWER.url + "#" * (MOST_URL - 1 - len(TOWER.url))
    for text, covered in ((url, [(url, TOWER.title)]), (f"{url}#", [])):
        for chunks in (text, list(text), f"{text}【"):
            assert said(chunks) == ("".join(chunks), covered)


def test_a_mark_keeps_apart_what_stands_around_it() -> None:
    text, covered = said(f"h【1】{TOWER.url[1:]} (【1】[x]({TOWER.url})) [x]【1】({TOWER.url})")
    assert [cover for cover, _ in covered] == [
        *(LINKS[0], LINKS[0], f"[x]({TOWER.url})", LINKS[0], TOWER.url)
    ]
    assert text.startswith(f"h {LINKS[0]}ttps://")


def test_a_citation_comes_right_after_its_text() -> None:
    reader = CitationReader(Sources(list(SOURCES)), linked=True)
    cited = Citation(4, 4 + len(TOWER.url), TOWER)
    assert reader.feed(f"See {TOWER.url}") == [f"See {TOWER.url}"]
    assert reader.feed(". And【1】") == [
        cited,
        f". And {LINKS[0]}",
        Citation(46, 46 + len(LINKS[0]), TOWER),
    ]
    assert reader.feed(f" ([x]({TOWER.url})") == [f" ([x]({TOWER.url})"]
    assert reader.feed("【2】")[0] == Citation(101, 142, TOWER)


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://www.Example.com/x", "example.com"),
        ("http://example.com:8080", "example.com"),
        ("https://user:pass@example.com?q", "example.com"),
        ("https://bücher.example/", "bücher.example"),
        ("https://[::1]:80/", "::1"),
        ("https://a](x.example/", "ax.example"),
        ("HTTPS://A.EXAMPLE#x", "a.example"),
        ("mailto:me@example.com", ""),
        ("https:///x", ""),
    ],
)
def test_the_host_is_what_people_know_a_site_by(url: str, name: str) -> None:
    assert host(url) == name


def test_what_is_no_url_is_compared_as_it_is() -> None:
    assert comparable("Mailto:A") == "Mailto:A"
