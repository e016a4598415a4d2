"""The benchmark of retrieval asks what no text contains, and counts right."""

import itertools
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from benchmarks.embedding_server import __file__ as embedding_server
from benchmarks.held_out import Document, chosen, flat, held_out
from benchmarks.rankings import plain, quality
from benchmarks.sources import docstrings

_FILLER = " ".join(f"word{number}" for number in range(60))


def _documents(*questions: str) -> list[Document]:
    return [
        Document("tests", f"{at}.1", f"{_FILLER} {at}", question)
        for at, question in enumerate(questions)
    ]


def test_the_sentence_of_a_question_is_nowhere_in_the_text() -> None:
    text = f"ls — List directory\n   contents. {_FILLER} As said: list-directory (contents)!"

    found = held_out("man pages", "ls.1", text, "list directory contents", ["ls"])

    assert found.question == "list directory contents"
    assert found.text == f"ls — . {_FILLER} As said: )!"


def test_what_is_left_when_a_sentence_is_taken_out_may_be_another_one() -> None:
    text = f"{'copy ' * 4}{'big files ' * 4}{_FILLER}"

    found = held_out("tests", "cp.1", text, "copy big files", [])

    assert flat(found.text) == flat(_FILLER)


@pytest.mark.parametrize("sentence", ["list with LS what is there", "what systemd.kill has to do"])
def test_a_question_does_not_name_what_it_asks_for(sentence: str) -> None:
    found = held_out("man pages", "1", f"{sentence} {_FILLER}", sentence, ["ls", "systemd.kill"])

    assert (found.question, found.text) == ("", f"{sentence} {_FILLER}")


@pytest.mark.parametrize(
    "sentence", ["too short", "a word " * 25, "f(a) -> a b c", "über alle Wörter"]
)
def test_what_is_no_sentence_is_no_question(sentence: str) -> None:
    assert held_out("tests", "1", _FILLER, sentence, []).question == ""


def test_what_two_texts_answer_is_no_question() -> None:
    found = chosen(
        [_documents("how is it done", "How is it done?", "what else is there", "and a third one")],
        10,
        10,
    )

    assert len(found.documents) == 4
    asked = {found.documents[place].question for place in (*found.dev, *found.test)}
    assert asked == {"what else is there", "and a third one"}


def test_no_question_is_in_both_halves_and_each_run_has_the_same() -> None:
    documents = _documents("", *(f"the question with number {at}" for at in range(20)))

    first, second = (chosen([documents], 21, 100) for _ in range(2))

    assert first == second
    assert (len(first.documents), len(first.dev), len(first.test)) == (21, 10, 10)
    assert (
        len({first.documents[place].question for place in (*first.dev, *first.test)} - {""}) == 20
    )


def test_of_equal_texts_one_is_taken() -> None:
    twice = [Document("tests", name, _FILLER, f"which one is {name}") for name in ("a", "b")]

    assert len(chosen([twice], 10, 10).documents) == 1


def test_docstrings_of_the_library_do_not_say_their_question() -> None:
    found = [document for document in itertools.islice(docstrings(), 200) if document.question]

    assert found
    assert not [one.name for one in found if f" {flat(one.question)} " in f" {flat(one.text)} "]


def test_figures_are_those_of_the_right_file() -> None:
    rankings = [[7, 1], [1, 2, 3, 4, 7], list(range(6)), list(range(20)), []]

    assert quality(rankings, [7, 7, 5, 10, 1]) == (2 / 5, (1 + 1 / 5 + 1 / 6) / 5)


def test_a_file_stands_where_its_first_chunk_does() -> None:
    files = [["a cat", "a cat and a dog"], ["cat cat cat"], ["neither"]]

    (found,) = plain(files, ['the "cat" AND'], "unicode61")

    assert sorted(found) == [0, 1]


def test_the_server_of_vectors_serves_any_model(tmp_path: Path) -> None:
    """Not the model, which no test has: a package that calls itself so."""
    tmp_path.joinpath("sentence_transformers.py").write_text(
        "class Rows(list):\n"
        "    def tolist(self):\n"
        "        return self\n"
        "class SentenceTransformer:\n"
        "    def __init__(self, folder, device):\n"
        "        self.size = float(folder)\n"
        "    def encode(self, texts, **options):\n"
        "        return Rows([self.size, float(len(text))] for text in texts)\n",
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, embedding_server, "3"],
        env={"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1/embeddings"
        question = json.dumps({"model": "three", "input": ["a", "bc"]}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, question)) as answer:
            rows = json.load(answer)["data"]
        child.communicate(timeout=10)

    assert child.returncode == 0
    assert [row["embedding"] for row in rows] == [[3.0, 1.0], [3.0, 2.0]]
