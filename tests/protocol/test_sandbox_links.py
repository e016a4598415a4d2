"""Links to files that code made (spec §3.3, ``container_file_citation``)."""

import orjson
import pytest

from antiphon.protocol.deltas import Finish, TextDelta
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.sandbox_links import sandbox_links
from antiphon.protocol.sources import Made, Sources
from antiphon.testing import decode
from tests.protocol.test_machine import make, types

CSV = Made("cntr_1", "cfile_1", "/mnt/data/a.csv")
GZ = Made("cntr_1", "cfile_2", "/mnt/data/a.csv.gz")
SIGNS = Made("cntr_1", "cfile_4", "/mnt/data/Q1 (final) & more.csv")
SPACE = Made("cntr_1", "cfile_3", "/mnt/data/deep/größe 1.txt")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("/mnt/data/a.csv", []),
        ("sandbox:/mnt/data/b.csv", []),
        ("[a](sandbox:/mnt/data/a.csv)", ["a.csv"]),
        ("sandbox:/mnt/data/a.csv", ["a.csv"]),
        ("See sandbox:/mnt/data/a.csv.", ["a.csv"]),
        ("sandbox:/mnt/data/a.csv.gz", ["a.csv.gz"]),
        ("sandbox:/mnt/data/a.csv.bz2", []),
        ("sandbox:/mnt/data/a.csv2", []),
        ("sandbox:/mnt/data/a.csv/x", []),
        ("[x](<sandbox:/mnt/data/deep/größe 1.txt>)", ["größe 1.txt"]),
        ("[x](sandbox:/mnt/data/deep/gr%C3%B6%C3%9Fe%201.txt)", ["größe 1.txt"]),
        ("[x](sandbox:/mnt/data/deep/gr%c3%b6%c3%9fe 1.txt)", ["größe 1.txt"]),
        ("sandbox:/mnt/data/a.csvに", ["a.csv"]),
        ("[x](sandbox:/mnt/data/Q1%20(final)%20&%20more.csv)", ["Q1 (final) & more.csv"]),
        ("sandbox:/mnt/data/a.csv and sandbox:/mnt/data/a.csv", ["a.csv", "a.csv"]),
    ],
)
def test_what_is_a_link(text: str, found: list[str]) -> None:
    links = [link.body() for link in sandbox_links(text, [CSV, GZ, SPACE, SIGNS])]
    assert [link["filename"] for link in links] == found
    for link in links:
        assert text[link["start_index"] : link["end_index"]].startswith("sandbox:/mnt/data/")


def test_a_citation_is_that_of_the_recording() -> None:
    """Behind all text, before its end; the text stays as it is."""
    sources = Sources()
    sources.made(CSV.container_id, CSV.file_id, CSV.path)
    machine = make(MachineOptions(sources=sources))
    machine.start()
    text = "Here: [a](sandbox:/mnt/data/a.csv), and 【1】 more."
    machine.feed([TextDelta(text[:20]), TextDelta(text[20:]), Finish()])
    machine.end_turn()
    machine.finish()
    events = decode(machine.take())
    assert types(events)[-5:-1] == [
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]
    (part,) = events[-1]["response"]["output"][0]["content"]
    assert part["text"] == text, "a mark does not stand for such a file"
    assert part["annotations"] == [
        {
            "type": "container_file_citation",
            "container_id": "cntr_1",
            "end_index": 33,
            "file_id": "cfile_1",
            "filename": "a.csv",
            "start_index": 10,
        }
    ]


def test_they_are_kept_with_the_run() -> None:
    sources = Sources()
    sources.page("https://a.example/", "A")
    sources.made("cntr_1", "cfile_1", "/mnt/data/a.csv")
    again = Sources()
    again.restore(orjson.loads(orjson.dumps(sources.rows())))
    assert again.links == [CSV]
    assert len(again.found) == 2
