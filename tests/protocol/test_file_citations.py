"""Marks of files in what a model says (spec §3.3 `file_citation`), and beside those of pages."""

import re
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses.response_output_text import AnnotationFileCitation

from antiphon.protocol.citations import Citation, CitationReader
from antiphon.protocol.sources import File, Page, Source, Sources, mark
from tests.protocol.cited import (
    LINKS,
    NOTES,
    PARIS,
    REPORT,
    TOWER,
    WITH_FILES,
    citations_of,
    read,
    text_of,
)


def cited(text: str, *, linked: bool = True) -> tuple[str, list[tuple[Source, int]]]:
    """What is shown; each source, and where its citation ends. The same however it is cut."""
    whole = read(text, linked=linked, sources=WITH_FILES)
    cut = read(list(text), linked=linked, sources=WITH_FILES)
    assert (text_of(cut), citations_of(cut)) == (text_of(whole), citations_of(whole))
    return text_of(whole), [(one.source, one.end_index) for one in citations_of(whole)]


def test_a_citation_has_the_body_of_a_file_citation() -> None:
    """The keys in the order of OpenAI's recording, and what its SDK makes of them."""
    body = Citation(7, 7, REPORT).body()
    assert list(body.items()) == [
        ("type", "file_citation"),
        ("file_id", "file-1"),
        ("filename", "report【1】.pdf"),
        ("index", 7),
    ]
    assert AnnotationFileCitation.model_validate(body).model_dump() == body


def test_the_index_is_where_openais_stream_has_it() -> None:
    """From its recording, which keeps a space before the full stop: ours goes with the mark."""
    said = (
        "it is called an embedding 【5】. Unlike generative models 【5】【6】.",
        "it is called an embedding. Unlike generative models.",
    )
    assert cited(said[0]) == (said[1], [(REPORT, 25), (REPORT, 51), (NOTES, 51)])
    for start in (25, 51):
        assert said[1][start] == "."


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize(
    ("text", "shown", "places"),
    [
        ("It is big【5】.", "It is big.", [(REPORT, 9)]),
        ("It is big 【5】.", "It is big.", [(REPORT, 9)]),
        ("It is big. 【5】", "It is big.", [(REPORT, 10)]),
        ("It is big. 【5】 And old.", "It is big. And old.", [(REPORT, 10)]),
        ("It is big. 【5】And old.", "It is big. And old.", [(REPORT, 10)]),
        ("It is big【5】 and old", "It is big and old", [(REPORT, 9)]),
        ("It is big【5】(old)", "It is big(old)", [(REPORT, 9)]),
        ("It is big 【5】(old)", "It is big (old)", [(REPORT, 9)]),
        ("(see 【5】)", "(see)", [(REPORT, 4)]),
        ("A 【5, 6】.", "A.", [(REPORT, 1), (NOTES, 1)]),
        ("A 【6】 【5】.", "A.", [(NOTES, 1), (REPORT, 1)]),
        ("A 【5】【5】 b", "A b", [(REPORT, 1), (REPORT, 1)]),
        ("A  【5】 b", "A  b", [(REPORT, 2)]),
        ("A\n【5】\nb", "A\n\nb", [(REPORT, 2)]),
        ("【5】", "", [(REPORT, 0)]),
        ("【5】A", "A", [(REPORT, 0)]),
        ("A 【5†L1-L9】 b", "A b", [(REPORT, 1)]),
        ("A 【5, 7】 b", "A 【5, 7】 b", []),
        ("A 【7】 b", "A 【7】 b", []),
        ("A 【5", "A 【5", []),
        ("A ", "A ", []),
        ("東京です。【5】大阪", "東京です。大阪", [(REPORT, 5)]),
    ],
)
def test_the_mark_leaves_nothing_but_its_place(
    text: str, shown: str, places: list[tuple[Source, int]], linked: bool
) -> None:
    """With it goes a space before it where the text reads on without."""
    assert cited(text, linked=linked) == (shown, places)


@pytest.mark.parametrize(
    ("text", "shown", "places"),
    [
        ("A【1, 5】.", f"A {LINKS[0]}.", [(TOWER, 55), (REPORT, 55)]),
        ("A 【1, 5】.", f"A {LINKS[0]}.", [(TOWER, 55), (REPORT, 55)]),
        ("A  【1】.", f"A  {LINKS[0]}.", [(TOWER, 56)]),
        ("( 【1】【5】.", f"( {LINKS[0]}.", [(TOWER, 55), (REPORT, 55)]),
        ("A 【5, 1】.", f"A {LINKS[0]}.", [(REPORT, 1), (TOWER, 55)]),
        ("A 【5】【1】b", f"A {LINKS[0]}b", [(REPORT, 1), (TOWER, 55)]),
        ("A 【5】 【1】 b", f"A {LINKS[0]} b", [(REPORT, 1), (TOWER, 55)]),
        ("A 【1】 【5】 b", f"A {LINKS[0]} b", [(TOWER, 55), (REPORT, 55)]),
        (f"A {TOWER.url}【5】.", f"A {TOWER.url}.", [(TOWER, 38), (REPORT, 38)]),
        (f"A {TOWER.url} 【5】.", f"A {TOWER.url}.", [(TOWER, 38), (REPORT, 38)]),
        (f"A 【5】{TOWER.url}", f"A {TOWER.url}", [(REPORT, 1), (TOWER, 38)]),
    ],
)
def test_pages_and_files_beside_each_other_in_prose(
    text: str, shown: str, places: list[tuple[Source, int]]
) -> None:
    assert cited(text) == (shown, places)


def test_pages_and_files_beside_each_other_in_json() -> None:
    pieces = read('{"a":"Old. Is new 【5, 2】."}', linked=False, sources=WITH_FILES)
    assert text_of(pieces) == '{"a":"Old. Is new."}'
    assert citations_of(pieces) == [Citation(17, 17, REPORT), Citation(11, 17, PARIS)]


def test_a_file_is_cited_in_json_where_there_is_nothing_to_cover() -> None:
    assert cited('["a", 1, "【5】"]', linked=False) == ('["a", 1, ""]', [(REPORT, 10)])


def test_a_file_id_in_the_text_is_no_link() -> None:
    assert cited("See file-1 and [x](file-1)") == ("See file-1 and [x](file-1)", [])


# -- sources -------------------------------------------------------------------------------------


def test_the_same_file_has_one_number_and_pages_theirs() -> None:
    sources = Sources()
    assert [sources.file("file-1", "a【1】.md"), sources.page("https://a.test", "x【1】")] == [1, 2]
    assert [sources.file("file-1", "b.md"), sources.file("file-2", "a.md")] == [1, 3]
    assert sources.found[0] == File("file-1", "a【1】.md"), "annotations have the file's own name"
    assert sources.found[1] == Page("https://a.test", "x[1】")


def test_sources_come_back_from_their_rows_those_of_the_version_before_too() -> None:
    """R-74."""
    rows = [["https://a.test", "A"], ["file", "file-1", "a.md"], ["file", "of that name"]]
    sources = Sources([Page("https://gone.test", "")])
    sources.restore(rows)
    assert sources.found == [
        Page("https://a.test", "A"),
        File("file-1", "a.md"),
        Page("file", "of that name"),
    ]
    assert sources.rows() == rows


def test_a_source_of_a_later_version_keeps_its_number() -> None:
    """R-74."""
    sources = Sources()
    sources.restore([["film", "f", "00:10", "x"], ["file", "file-1", "a.md"]])
    reader = CitationReader(sources, linked=True)
    pieces = [*reader.feed("A【1】 b【2】"), *reader.close()]
    assert (text_of(pieces), len(citations_of(pieces))) == ("A【1】 b", 1)


# -- properties ----------------------------------------------------------------------------------

_FRAGMENTS: Final = st.sampled_from(
    [
        *(mark(number) for number in range(8)),
        *(
            "【1, 5】",
            "【6,1】",
            "【5†x】",
            "【5, 6】",
            "【",
            "】",
            "5",
            ",",
            "https://",
            TOWER.url,
        ),
        *(f"[x]({TOWER.url})", "[", "](", "(", ")"),
        *(" ", "  ", "\n", ".", "。", '"', "\\", "\\n", "a", "é", "東", "*", "x" * 30),
    ]
)


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    """A text in chunks, some of which are empty."""
    text = "".join(draw(st.lists(_FRAGMENTS, max_size=14)))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(cut_texts(), st.booleans())
def test_it_does_not_matter_how_the_text_is_cut(chunks: list[str], linked: bool) -> None:
    whole = read("".join(chunks), linked=linked, sources=WITH_FILES)
    for cut in (chunks, list("".join(chunks))):
        pieces = read(cut, linked=linked, sources=WITH_FILES)
        assert text_of(pieces) == text_of(whole)
        assert citations_of(pieces) == citations_of(whole)


@given(
    st.lists(st.sampled_from(["ab", "é", "東", " ", ".", "\n", 5, 6]), max_size=10), st.booleans()
)
def test_each_mark_has_its_place_and_only_spaces_before_one_go(
    parts: list[Any], linked: bool
) -> None:
    marked = "".join(mark(part) if isinstance(part, int) else part for part in parts)
    pieces = read(marked, linked=linked, sources=WITH_FILES)
    shown = text_of(pieces)
    assert shown.replace(" ", "") == re.sub(r"【\d】| ", "", marked)
    assert re.sub(r" 【\d】", "", marked).count(" ") <= shown.count(" ") <= marked.count(" ")
    spoken = ["", *re.split(r"【\d】", marked)]
    places = [one.start_index for one in citations_of(pieces)]
    assert len(places) == len(spoken) - 2
    for count, place in enumerate(places, 2):
        before = "".join(spoken[:count])
        assert shown[:place].replace(" ", "") == before.replace(" ", "")


@given(
    st.dictionaries(st.text("a .【5】"), st.text('a ."\\【5】\n') | st.integers(0, 9), max_size=3)
)
def test_json_stays_json(spoken: dict[str, object]) -> None:
    encoded = orjson.dumps(spoken).decode()
    shown = text_of(read(encoded, linked=False, sources=WITH_FILES))
    orjson.loads(shown)
    assert shown.replace(" ", "") == re.sub("【 *5 *】| ", "", encoded)
