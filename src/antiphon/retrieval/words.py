"""Words: what full-text search is given of a text, and what it is asked for a query. Pure.

Rules
1. FTS5 finds the words (`TOKENIZER`: letters, digits, and the marks that belong to them; case and
   accents do not count) and their stems (``porter``). Scripts that put no space between words it
   would take for one long word: a run of them is cut into each two neighbours, and its last
   character alone.
2. A text gives the same here whenever it is asked: what is deleted from the full text has to be
   said as it was put in.
3. Nothing of a query is syntax of FTS5: a phrase is made here, of letters and digits in quotes. Its
   case is left to FTS5, which folds it without changing letters ("İ" of Python becomes two).
4. Of a word that is too long the first letters are asked for. Vowel points of Hebrew and Arabic,
   and what only says how a letter is drawn, count neither here nor there.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

#: Of FTS5. Without marks (``M*``) the vowels of Hindi, Bengali, Tamil … would end a word.
TOKENIZER: Final = "porter unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
#: What `full_text` asks for at most, and the longest word of it: ``porter`` leaves longer ones
#: alone, so they have the same beginning; characters of a query that are looked at.
MOST_PHRASES: Final = 64
MOST_LETTERS: Final = 64
MOST_QUERY: Final = 32_768

#: Han, kana, Hangul, Thai, Lao, Burmese and Khmer, with the marks among them, without punctuation.
_RUN: Final = re.compile(
    "[\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1050-\u109d\u1100-\u11ff\u1780-\u17d3"
    "\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]+"
)
#: What is in no word, unless it is a mark.
_OUTSIDE: Final = re.compile(r"[\W_]")
#: Points of Hebrew and Arabic, Arabic lengthening, variants; soft hyphens, joiners.
_UNSAID: Final = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\ufe00-\ufe0f\U000e0100-\U000e01ef"
    "\u00ad\u200d\u2060\ufeff]+"
)
_LONE: Final = re.compile("[\ud800-\udfff]")
_EDGES: Final = "\"'`.,;:!?()[]{}<>«»“”„‘’…¿¡。、，？！"

#: Letters of what may be an abbreviation ("the IT department"), in a query that has small ones.
_ABBREVIATED: Final = range(2, 5)
#: Words of questions that say nothing about what is asked.
_STOPS: Final = """
a about am an and any are as at be been but by can could did do does for from had has have he her
his how i if in into is it its me my no not of on or our s she should so some t than that the their
them then there these they this those to was we were what when where which who whom whose why will
with would you your
"""
_STOP_WORDS: Final = frozenset(_STOPS.split())
#: Words of whoever asks politely.
_MANNERS: Final = """
explain find give hello hey hi kindly know let like looking need please show tell thank thanks want
"""
_POLITE: Final = frozenset(_MANNERS.split()) | _STOP_WORDS


def clean(text: str) -> str:
    """The text as it can be kept: halves of surrogate pairs are no characters."""
    return _LONE.sub("\ufffd", text)


def indexed(text: str) -> str:
    """What FTS5 is given of a text that `clean` returned."""
    return _RUN.sub(lambda run: f" {' '.join(_pairs(run[0]))} ", _normal(text))


def phrases(query: str) -> list[str]:
    """What of a query is looked for, each a phrase for FTS5: its distinct words, without those that
    say nothing unless it has no others."""
    text = _normal(clean(query[:MOST_QUERY]))
    words = _OUTSIDE.sub(_mark, _RUN.sub(" ", text)).split()
    telling = _telling(words, text, _STOP_WORDS)
    pairs = dict.fromkeys(phrase for run in _RUN.findall(text) for phrase in _asked(run))
    if not telling and not pairs:
        telling = words
    distinct: dict[str, str] = {}
    for word in telling:
        distinct.setdefault(word.lower(), word)
    return [*map(_phrase, distinct.values()), *pairs][:MOST_PHRASES]


def keywords(query: str) -> str:
    """The query as it is searched when a client wants it rewritten: in its own words and order,
    without polite ones and those that say nothing. No model is asked."""
    words = [word for word in map(_bare, query[:MOST_QUERY].split()) if word]
    return " ".join(_telling(words, query[:MOST_QUERY], _POLITE) or words)


def _telling(words: list[str], text: str, stops: frozenset[str]) -> list[str]:
    """Those of a text that are no stop words."""
    mixed = any(letter.isalpha() and not letter.isupper() for letter in text)
    return [
        word
        for word in words
        if word.lower() not in stops or (mixed and word.isupper() and len(word) in _ABBREVIATED)
    ]


def _normal(text: str) -> str:
    return _UNSAID.sub("", unicodedata.normalize("NFKC", text))


def _mark(outside: re.Match[str]) -> str:
    """Itself if it is a mark; else an end of words."""
    return outside[0] if unicodedata.category(outside[0])[0] == "M" else " "


def _bare(word: str) -> str:
    return word.strip(_EDGES).removesuffix("'s").removesuffix("’s")


def _phrase(word: str) -> str:
    if len(word) <= MOST_LETTERS:
        return f'"{word}"'
    return f'"{word[: MOST_LETTERS + 1]}" *'


def _letters(run: str) -> str:
    """Without marks, which hardly anybody who asks leaves out or puts in as the text does."""
    return "".join(letter for letter in run if unicodedata.category(letter)[0] != "M")


def _pairs(run: str) -> Iterator[str]:
    letters = _letters(run)
    return (letters[at : at + 2] for at in range(len(letters)))


def _asked(run: str) -> Iterator[str]:
    """Phrases for a run; a character alone may begin any pair."""
    letters = _letters(run)
    if len(letters) == 1:
        return iter([f'"{letters}" *'])
    return (f'"{letters[at : at + 2]}"' for at in range(len(letters) - 1))
