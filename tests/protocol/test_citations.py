"""What a model says with marks and links in it: pieces of text and citations (spec §3.3)."""

import re
import time
from typing import Final

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.responses.response_output_text import AnnotationURLCitation

from antiphon.protocol.citations import (
    MOST_MARK,
    Citation,
    CitationReader,
)
from antiphon.protocol.links import comparable, spellings
from antiphon.protocol.sources import Page, Sources, mark
from tests.protocol.cited import (
    LINKS,
    PARIS,
    SOURCES,
    TOWER,
    citations_of,
    read,
    said,
    text_of,
    titles_of,
)

# -- marks in prose ------------------------------------------------------------------------------


def test_a_mark_becomes_a_link_in_parentheses_and_the_citation_covers_it() -> None:
    assert read("It is 330 m high【1】.") == [
        f"It is 330 m high {LINKS[0]}",
        Citation(17, 17 + len(LINKS[0]), TOWER),
        ".",
    ]


def test_a_citation_has_the_body_of_a_url_citation() -> None:
    """The keys in the order of OpenAI's recording, and what its SDK makes of them."""
    body = Citation(3, 9, TOWER).body()
    assert list(body) == ["type", "end_index", "start_index", "title", "url"]
    assert AnnotationURLCitation.model_validate(body).model_dump() == body


def test_the_link_and_the_index_are_those_of_openais_stream() -> None:
    """From OpenAI's recording of a web search: text and indices as they came."""
    url = "https://www.wired.com/story/the-big-interview-2025-recap?utm_source=openai"
    sources = Sources([Page(url, "Check Out Highlights")])
    before = "x" * 1211 + " 4). "
    recorded = f"([wired.com]({url}))"
    for form in (mark(1), recorded):
        reader = CitationReader(sources, linked=True)
        pieces = [
            *reader.feed(before),
            *reader.feed(form),
            *reader.feed("\n\nPages"),
            *reader.close(),
        ]
        assert text_of(pieces) == f"{before}{recorded}\n\nPages"
        assert citations_of(pieces) == [Citation(1216, 1305, Page(url, "Check Out Highlights"))]


@pytest.mark.parametrize(
    ("body", "numbers"),
    [
        ("1", [1]),
        (" 2 ", [2]),
        ("1†L10-L20", [1]),
        ("3†source", [3]),
        ("1:0†source", [1]),
        ("1: The Eiffel Tower", [1]),
        ("1, 2", [1, 2]),
        ("1,2;3、4", [1, 2, 3, 4]),
        ("2, 1†both", [2, 1]),
        ("1, 1", [1]),
        ("source 1", [1]),
        ("Source: 2", [2]),
        ("sources 1, 2", [1, 2]),
        ("１", [1]),
    ],
)
def test_the_forms_that_models_make_of_a_mark_are_read(body: str, numbers: list[int]) -> None:
    links = [LINKS[number - 1] for number in numbers]
    titles = [SOURCES[number - 1].title for number in numbers]
    for chunks in (f"So【{body}】!", list(f"So【{body}】!")):
        assert said(chunks) == (
            " ".join(["So", *links]) + "!",
            list(zip(links, titles, strict=True)),
        )


@pytest.mark.parametrize(
    "text",
    [
        "【5】",
        "【0】",
        "【99999999】",
        "【1, 5】",
        "【注意】ここは",
        "【2024年】",
        "【】",
        "【 】",
        "【1",
        "【source】",
        "【1】"[:-1] + "\n】",
        "1】",
        "【1: " + "x" * MOST_MARK + "】",
        "【【",
        "〔1〕 [1] (1)",
    ],
)
@pytest.mark.parametrize("linked", [True, False])
def test_what_is_no_mark_of_a_known_source_stays(text: str, linked: bool) -> None:
    for chunks in (f"Look {text} here", list(f"Look {text} here"), f"Look {text}"):
        assert said(chunks, linked=linked) == ("".join(chunks), [])


def test_a_bracket_that_opens_anew_begins_the_mark() -> None:
    assert said("【1【1】】") == (f"【1 {LINKS[0]}】", [(LINKS[0], TOWER.title)])


def test_marks_in_a_row_give_a_link_each() -> None:
    text, covered = said("Both【1】【2】")
    assert text == f"Both {LINKS[0]} {LINKS[1]}"
    assert [cover for cover, _ in covered] == [LINKS[0], LINKS[1]]


@pytest.mark.parametrize("before", ["", "Yes. ", "Yes.\n", "- ", "(", "| [", "、\u3000"])
def test_no_space_is_added_where_none_is_missing(before: str) -> None:
    assert said(f"{before}【1】")[0] == before + LINKS[0]


def test_the_link_works_whatever_the_url_has_in_it() -> None:
    """The citation has the source's own URL; the text one that Markdown takes."""
    hard = 'https://user@WWW.Example.com:1/a b(c)[d]<e>"f\\n|`^'.replace("\\", "")
    reader = CitationReader(Sources([Page(hard, "Hard")]), linked=True)
    text, cited = reader.feed("【1】")
    assert isinstance(text, str)
    assert isinstance(cited, Citation)
    assert cited.source == Page(hard, "Hard")
    link = re.fullmatch(r"\(\[([\w.]+)\]\(([^\s()<>\[\]\\\"`|^]+)\)\)", text)
    assert link is not None
    assert link[1] == "example.com"
    assert link[2].startswith("https://user@WWW.Example.com:1/a%20b%28c%29%5Bd%5D%3Ce%3E%22f")
    # A model that repeats the link says the same page.
    again = [*reader.feed(f" {text}"), *reader.close()]
    assert citations_of(again) == [Citation(len(text) + 1, 2 * len(text) + 1, Page(hard, "Hard"))]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "file:///etc/passwd", "", "https://", r"https://a.b\@evil.test/"]
)
@pytest.mark.parametrize("linked", [True, False])
def test_what_is_no_web_page_is_not_linked(url: str, linked: bool) -> None:
    reader = CitationReader(Sources([Page(url, "Bad")]), linked=linked)
    written = f"See【1】 and [x]({url}) or {url} now"
    assert [*reader.feed(written), *reader.close()] == [written]


# -- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown", "covered"),
    [
        ('{"a":"Paris is big【1】"}', '{"a":"Paris is big"}', ["Paris is big"]),
        ('{"a":"Paris is big. 【1】"}', '{"a":"Paris is big."}', ["Paris is big."]),
        ('{"a":"Paris is big 【1】."}', '{"a":"Paris is big."}', ["Paris is big"]),
        (
            '{"a":"It is 3.5 km long 【1】 and"}',
            '{"a":"It is 3.5 km long and"}',
            ["It is 3.5 km long"],
        ),
        ('{"a":"Old. It is new【1】"}', '{"a":"Old. It is new"}', ["It is new"]),
        ('{"a":"Really?!) It is【1】"}', '{"a":"Really?!) It is"}', ["It is"]),
        ('{"a":"One\\n- two【1】"}', '{"a":"One\\n- two"}', ["- two"]),
        ('{"a":"One\\n【1】two"}', '{"a":"One\\ntwo"}', ["One"]),
        ('{"a":"東京。大阪です【1】。"}', '{"a":"東京。大阪です。"}', ["大阪です"]),
        ('{"a":"A said \\"no\\" 【1】"}', '{"a":"A said \\"no\\""}', ['A said \\"no\\"']),
        ('{"a":"A \\"no.\\" B【1】"}', '{"a":"A \\"no.\\" B"}', ["B"]),
        ('{"a":"A\\tb \\\\【1】"}', '{"a":"A\\tb \\\\"}', ["A\\tb \\\\"]),
        ('{"a":"A【1】 and b【2】"}', '{"a":"A and b"}', ["A", "and b"]),
        ('{"a":"A【1】. B【2】"}', '{"a":"A. B"}', ["A", "B"]),
        ('{"a":"A 【1】 【2】b【1】"}', '{"a":"A b"}', ["A", "A", "b"]),
        ('{"a":"A 【1】【2】b"}', '{"a":"A b"}', ["A", "A"]),
        ('{"a":"東京です。【1】"}', '{"a":"東京です。"}', ["東京です。"]),
        ('["a", 1, "【1】"]', '["a", 1, ""]', []),
        ('{"a":"A【1】【2】, 【3】"}', '{"a":"A,"}', ["A", "A", "A"]),
        ('{"a":"A 【1, 2】"}', '{"a":"A"}', ["A", "A"]),
        ('{"a":"A【1】","b":"【2】"}', '{"a":"A","b":""}', ["A"]),
        ('{"a":"【1】A"}', '{"a":"A"}', []),
        ('{"a":" 【1】 "}', '{"a":" "}', []),
        ('{"a":" 【1】(A)"}', '{"a":" (A)"}', []),
        ('{"a":"...【1】【2】"}', '{"a":"..."}', []),
        ('{"a":"A 【1】', '{"a":"A', ["A"]),
        ('{"a":"A ', '{"a":"A ', []),
        ("Plain 【1】\nagain\\", "Plain\nagain\\", ["Plain"]),
        ("a \\【1】", "a \\", ["a \\"]),
    ],
)
def test_in_json_the_mark_goes_and_the_citation_covers_what_was_said(
    text: str, shown: str, covered: list[str]
) -> None:
    for chunks in (text, list(text)):
        seen, covers = said(chunks, linked=False)
        assert seen == shown
        assert [cover for cover, _ in covers] == covered


# -- what is held back ---------------------------------------------------------------------------


def test_without_sources_all_text_passes_at_once() -> None:
    for linked in (True, False):
        reader = CitationReader(Sources(), linked=linked)
        for text in ("So【", "1】 ", "[a](http", "s://", "x", ")"):
            assert reader.feed(text) == [text]
        assert reader.feed("") == []
        assert reader.close() == []


def test_sources_that_come_later_count_from_then_on() -> None:
    sources = Sources()
    reader = CitationReader(sources, linked=True)
    assert reader.feed(f"First【1】 {TOWER.url} ") == [f"First【1】 {TOWER.url} "]
    assert sources.page(TOWER.url, TOWER.title) == 1
    start = len(f"First【1】 {TOWER.url} ")
    assert reader.feed("【1】【2】") == [
        LINKS[0],
        Citation(start, start + len(LINKS[0]), TOWER),
        "【2】",
    ]
    assert sources.page(PARIS.url, PARIS.title) == 2
    assert sources.page(TOWER.url, "Again") == 1
    assert text_of(reader.feed("【2】")) == f" {LINKS[1]}"
    pieces = [*reader.feed(PARIS.url), *reader.close()]
    assert titles_of(pieces) == [PARIS.title]


def test_what_was_said_before_the_first_source_can_be_cited_in_json() -> None:
    sources = Sources()
    reader = CitationReader(sources, linked=False)
    assert reader.feed('{"a":"One. Two ') == ['{"a":"One. Two ']
    sources.page(TOWER.url, TOWER.title)
    assert reader.feed('three【1】"}') == [
        "three",
        Citation(11, 20, TOWER),
        '"}',
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("So 【", "So"),
        ("So\n【 12", "So\n"),
        ("So 【1, ", "So"),
        ("So 【1† x", "So"),
        ("So 【sour", "So"),
        ("So【source ", "So"),
        ("So  ", "So "),
        ("So 【注", "So 【注"),
        ("So 【1a", "So 【1a"),
        ("So 【a", "So 【a"),
        ("So 【1:\n", "So 【1:\n"),
        ("So [a](https://www.exa", "So [a](https://www.exa"),
        ("So ([", "So (["),
    ],
)
def test_only_what_may_become_a_mark_is_held_back(text: str, shown: str) -> None:
    """Links are shown as they come: their citation follows."""
    for chunks in ([text], list(text)):
        reader = CitationReader(Sources(list(SOURCES)), linked=True)
        assert text_of(piece for chunk in chunks for piece in reader.feed(chunk)) == shown
        assert text_of(reader.close()) == text.removeprefix(shown)
        assert reader.close() == []


@pytest.mark.parametrize("linked", [True, False])
def test_a_space_is_held_back_too(linked: bool) -> None:
    reader = CitationReader(Sources(list(SOURCES)), linked=linked)
    assert [reader.feed(text) for text in ("a ", "b", "  ", "【", "x")] == [
        ["a"],
        [" b"],
        [" "],
        [],
        [" 【x"],
    ]


# -- properties ----------------------------------------------------------------------------------

_FRAGMENTS: Final = st.sampled_from(
    [
        *(mark(number) for number in range(6)),
        *(f"[{source.title}]({source.url})" for source in SOURCES),
        *(f"([x]({source.url}))" for source in SOURCES),
        *(source.url for source in SOURCES),
        *LINKS,
        *("【1, 2】", "【1†x】", "【source 1】", "【注意】", "【", "】", "1", "s", "†", ":", ","),
        *("[", "]", "](", "(", ")", "h", "http", "https", "://", "/", "utm_a=1", "?", "#", "&"),
        *(" ", "  ", "\n", ".", "。", '"', "\\", '\\"', "\\n", "a", "é", "東", "*", "x" * 30),
    ]
)
TEXTS: Final = st.lists(_FRAGMENTS, max_size=14).map("".join)


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    """A text in chunks, some of which are empty."""
    text = draw(TEXTS)
    places = st.integers(0, len(text))
    cuts = sorted(draw(st.lists(places, max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(cut_texts(), st.booleans())
def test_it_does_not_matter_how_the_text_is_cut(chunks: list[str], linked: bool) -> None:
    whole = read("".join(chunks), linked=linked)
    for cut in (chunks, list("".join(chunks))):
        pieces = read(cut, linked=linked)
        assert text_of(pieces) == text_of(whole)
        assert citations_of(pieces) == citations_of(whole)


@given(cut_texts(), st.booleans())
def test_what_a_citation_covers_has_its_form(chunks: list[str], linked: bool) -> None:
    pieces = read(chunks, linked=linked)
    text = text_of(pieces)
    for cited in citations_of(pieces):
        cover = text[cited.start_index : cited.end_index]
        if linked:
            wrapped = cover.startswith("(")
            assert not wrapped or cover.endswith("))")
            link = re.fullmatch(r"\[.*\]\((.*)\)", cover[wrapped : len(cover) - wrapped])
            written = spellings(link[1] if link else cover)
            assert comparable(cited.source.key) in map(comparable, written)
        else:
            assert cover == cover.strip()
            assert re.search(r'(?<!\\)"', re.sub(r"\\\\", "", cover)) is None
            assert any(letter.isalnum() for letter in cover)


@given(st.lists(st.text("ab .é東\n", max_size=8) | st.integers(1, len(SOURCES)), max_size=8))
def test_each_mark_becomes_its_link_and_nothing_else_changes(parts: list[str | int]) -> None:
    expected, covers = "", []
    for part in parts:
        if isinstance(part, int):
            gap = "" if not expected or expected[-1].isspace() else " "
            covers.append((LINKS[part - 1], SOURCES[part - 1].title))
            expected += gap + LINKS[part - 1]
        else:
            expected += part
    marked = "".join(mark(part) if isinstance(part, int) else part for part in parts)
    assert said(marked) == (expected, covers)


@given(st.text(st.characters() | st.sampled_from('[]() "\\h'), max_size=60), st.booleans())
@example("【1", True)
def test_text_without_marks_and_urls_is_the_same_byte_for_byte(text: str, linked: bool) -> None:
    text = text.replace("】", "")
    assert said(text, linked=linked) == (text, [])


_SAYINGS: Final = st.lists(
    st.sampled_from(["Paris", "x y", ". ", " ", '"', "\\", "\n", "(", "é", "3", *map(mark, (1, 2))])
).map("".join)


@given(st.dictionaries(_SAYINGS, _SAYINGS | st.lists(_SAYINGS, max_size=3), max_size=3))
def test_json_stays_json_and_loses_marks_and_spaces_only(spoken: dict[str, object]) -> None:
    encoded = orjson.dumps(spoken).decode()
    shown, _ = said(encoded, linked=False)
    orjson.loads(shown)
    assert shown.replace(" ", "") == re.sub("【[12]】| ", "", encoded)
    assert len(shown) >= len(re.sub(" ?【[12]】", "", encoded))
    assert len(shown) <= len(re.sub("【[12]】", "", encoded))


@given(cut_texts())
def test_never_more_than_a_mark_is_held_back(chunks: list[str]) -> None:
    reader = CitationReader(Sources(list(SOURCES)), linked=True)
    shown = 0
    for fed, letter in enumerate("".join(chunks).replace("】", ""), 1):
        shown += len(text_of(reader.feed(letter)))
        assert fed - shown <= MOST_MARK


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *((text, 1_000_000) for text in ("[", "【", "(", "http://")),
        *(
            (text, 200_000)
            for text in ("【1", "【1, ", "【99】", "【1】", "](http://", "http://(((")
        ),
        *((text, 200_000) for text in ("[a](http://x)", "([a](http://x))", "[]", "\n", ".", ".) ")),
        *((text, 200_000) for text in ('\\"', f"{TOWER.url} ", f"({TOWER.url}é東")),
    ],
)
@pytest.mark.parametrize("linked", [True, False])
def test_the_work_is_linear_whatever_the_text(text: str, size: int, linked: bool) -> None:
    """R-118: at once, and letter by letter (measured: at most 4 µs a letter)."""
    whole = text * (size // len(text)) + mark(1)
    for chunks in ([whole], whole[-50_000:]):
        started = time.process_time()
        reader = CitationReader(Sources(list(SOURCES)), linked=linked)
        for chunk in chunks:
            reader.feed(chunk)
        reader.close()
        assert time.process_time() - started < 10


def test_many_sources_are_numbered_one_by_one() -> None:
    """R-118: code may make a thousand files in a call, and each was compared with all before it."""
    sources, started = Sources(), time.process_time()
    for number in range(20_000):
        sources.made("cntr_1", f"cfile_{number}", f"/mnt/data/{number}")
    assert sources.file("cfile_7", "7") == 8
    assert time.process_time() - started < 2
    sources.restore(sources.rows())
    assert sources.file("cfile_7", "7") == 8
