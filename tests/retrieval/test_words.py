"""Words: what is given to full text, and what is asked of it."""

import re
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.retrieval.words import (
    MOST_LETTERS,
    MOST_PHRASES,
    TOKENIZER,
    clean,
    indexed,
    keywords,
    phrases,
)


def matches(text: str, query: str) -> bool:
    """Whether FTS5 finds any phrase of the query in the text."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE VIRTUAL TABLE w USING fts5(t, tokenize="{TOKENIZER}")')
    connection.execute("INSERT INTO w VALUES (?)", (indexed(clean(text)),))
    asked = phrases(query)
    found = (
        asked
        and connection.execute(
            "SELECT count(*) FROM w WHERE w MATCH ?", (" OR ".join(asked),)
        ).fetchone()
    )
    connection.close()
    return bool(found and found[0])


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The connections were closed", "connect"),
        ("Café crème", "cafe"),
        ("re\u0301sume\u0301", "résumé"),
        ("ＡＢＣ １２３", "abc"),
        ("read_text(path)", "how to read_text"),
        ("東京都の天気", "京都"),
        ("東京都の天気", "天気は？"),
        ("黒猫がいる", "猫"),
        ("黒猫", "猫"),
        ("猫", "猫"),
        ("用iPhone15拍照", "iphone15"),
        ("한국어를 배웁니다", "한국어"),
        ("ผมกินข้าวแล้ว", "กินข้าว"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("বাংলাদেশের রাজধানী", "রাজধানী"),
        ("தமிழ்நாட்டின் தலைநகரம்", "தலைநகரம்"),
        ("İstanbul şehri", "İstanbul"),
        ("İstanbul şehri", "istanbul"),
        ("istanbul", "İSTANBUL"),
        ("Ẹ̀kọ́ dára", "Ẹ̀kọ́"),
        ("Ẹ̀kọ́ dára", "ẹkọ"),
        ("الكِتَابُ مُفِيدٌ", "الكتاب"),
        ("الكتاب", "الكِتَابُ"),
        ("כתב בְּרֵאשִׁית בָּרָא", "בראשית"),
        ("בראשית", "בְּרֵאשִׁית"),
        ("an inter\u00adnational treaty", "international"),
        ("checksum " + "ab12" * 32, "ab12" * 32),
        ("organizational" * 6, "organizational" * 6),
        ("The IT department answers", "IT department"),
        ("the department of IT", "IT for whom?"),
        ("ガギグ", "ｶﾞｷﾞ"),
        ("to be or not to be", "to be or not to be"),
    ],
)
def test_a_word_is_found_in_every_script(text: str, query: str) -> None:
    assert matches(text, query)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("the cat", "the dog"),
        ("東京都", "大阪"),
        ("東京都", "都東"),
        ("กินข้าว", "นอน"),
        ("दिल्ली", "लाल"),
        ("❤️", "☀️"),
    ],
)
def test_another_word_is_not(text: str, query: str) -> None:
    assert not matches(text, query)


def test_words_that_say_nothing_are_asked_only_alone() -> None:
    assert phrases("What is the timeout of a socket? The socket!") == ['"timeout"', '"socket"']
    assert phrases("to be or not to be") == ['"to"', '"be"', '"or"', '"not"']
    assert phrases("the 猫") == ['"猫" *']


def test_an_abbreviation_is_no_stop_word() -> None:
    assert phrases("What is the IT department?") == ['"IT"', '"department"']
    assert phrases("WHO says so to US") == ['"WHO"', '"says"', '"US"']
    assert phrases("IT部門") == ['"IT"', '"部門"']
    assert phrases("WHAT IS THE TIMEOUT") == ['"TIMEOUT"']
    assert phrases("I have A cat") == ['"cat"']
    assert keywords("Tell me who is in IT") == "IT"


def test_a_query_is_bounded() -> None:
    many = phrases(" ".join(f"word{at}" for at in range(100_000)))
    assert len(many) == MOST_PHRASES
    (long, short) = phrases("x" * (MOST_LETTERS + 99) + " short")
    assert (len(long), short) == (MOST_LETTERS + 5, '"short"')
    assert len(phrases("東京" * 500_000)) <= MOST_PHRASES


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "a AND",
        "NEAR(x y)",
        "text : x",
        "-x",
        "^x",
        "x*",
        "(",
        "\0",
        "a\0b",
        "😀",
        "\ud800",
        "",
    ],
)
def test_nothing_of_a_query_is_syntax(query: str) -> None:
    assert not matches("nothing", query)


@given(st.text(max_size=200))
def test_every_phrase_is_letters_in_quotes(query: str) -> None:
    for phrase in phrases(query):
        assert re.fullmatch(r'"[^"\s]+"( \*)?', phrase), phrase
    matches("some text", query)


@given(st.text(max_size=200))
def test_a_text_has_its_own_words(text: str) -> None:
    words = [word for word in re.findall(r"[a-z]{1,20}", clean(text)) if word.isascii()]
    if words and re.fullmatch(r"[a-z ]+", text):
        assert matches(text, " ".join(words))
    assert indexed(clean(text)) == indexed(clean(text))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("Could you please tell me how the Timeout works?", "Timeout works"),
        ("What's C++'s std::move()?", "C++ std::move"),
        ("please", "please"),
        ("東京の天気は？", "東京の天気は"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_keywords_are_the_query_without_manners(query: str, left: str) -> None:
    assert keywords(query) == left
