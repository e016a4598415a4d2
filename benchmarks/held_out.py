"""Questions whose words are not in the text that answers them.

Rules
1. A question is a sentence that its author wrote about a text; the sentence is taken out of the
   text wherever it stands, whatever is between its words. `held_out` makes sure of it.
2. A sentence that has a name of the text in it is no question: who asks does not know the name, and
   without it the sentence would be another one.
3. What two texts answer is no question, and of two equal texts one goes.
4. One part of the questions is for trying things (`dev`), the other one for figures (`test`). Which
   is which depends on nothing but the seed and the texts.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

#: Characters of a text without its sentence. Of the man pages one in twelve is longer; these few
#: would be half of the chunks.
_SHORTEST: Final = 300
_LONGEST: Final = 20_000
#: Words of a question.
_FEWEST: Final = 3
_MOST: Final = 40
_SEED: Final = 20_261_130

_WORD: Final = re.compile(r"\w+")
#: A declaration is no question.
_CODE: Final = re.compile(r"->|=|[^ -~]")


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and what is asked for it; empty if nothing can be."""

    source: str
    name: str
    text: str
    question: str


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Documents, and which of them (by place) have a question of either half."""

    documents: Sequence[Document]
    dev: Sequence[int]
    test: Sequence[int]


def held_out(source: str, name: str, text: str, sentence: str, names: Iterable[str]) -> Document:
    """The text without the sentence, and the sentence as a question."""
    words = _WORD.findall(sentence.lower())
    good = _FEWEST <= len(words) <= _MOST and not _CODE.search(sentence)
    if not good or any(f" {flat(name)} " in f" {' '.join(words)} " for name in names):
        return Document(source, name, text, "")
    text = _without(text, sentence)
    assert f" {flat(sentence)} " not in f" {flat(text)} ", sentence
    return Document(source, name, text, sentence)


def chosen(sources: Iterable[Iterable[Document]], documents: int, questions: int) -> QuestionSet:
    """So many documents of each source at most, and of their questions so many for each half."""
    generator = random.Random(_SEED)
    kept: list[Document] = []
    for source in sources:
        fitting = [found for found in source if _SHORTEST <= len(found.text) <= _LONGEST]
        unique = list({flat(found.text): found for found in fitting}.values())
        kept += generator.sample(unique, min(documents, len(unique)))
    asked = Counter(flat(document.question) for document in kept)
    dev: list[int] = []
    test: list[int] = []
    for source_name in sorted({document.source for document in kept}):
        places = [
            place
            for place, document in enumerate(kept)
            if document.source == source_name
            and document.question
            and asked[flat(document.question)] == 1
        ]
        generator.shuffle(places)
        half = min(questions, len(places) // 2)
        dev += places[:half]
        test += places[half : 2 * half]
    return QuestionSet(kept, dev, test)


def flat(text: str) -> str:
    """Its words alone."""
    return " ".join(_WORD.findall(text.lower()))


def _without(text: str, sentence: str) -> str:
    between = r"\W+".join(map(re.escape, _WORD.findall(sentence)))
    said = re.compile(rf"\b{between}\b", re.IGNORECASE)
    found = 1
    while found:  # what is around one may be another
        text, found = said.subn("", text)
    return text
