"""The benchmark beside other servers: it counts right, says what is missing, and is fair."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.parsers.expat import ParserCreate

import pytest
from benchmarks import plots
from benchmarks.load import ServerError
from benchmarks.measuring import GROWTH_ROW, IDLE_ROW, Lane, reason
from benchmarks.meter import Meter
from benchmarks.page import pictures, rewritten, section
from benchmarks.peers import peers
from benchmarks.peers.base import Peer, Site
from benchmarks.peers.installing import NotInstalled, installed, packages, run
from benchmarks.table import PLAIN, Bench, Row, burst, kept, table
from benchmarks.works import ANTIPHON, CONCURRENCY, QUICK, plain, works

FIGURES = (
    *(
        "cpu",
        "rate",
        "p50",
        "first p50",
        "token p50",
        "transit p50",
        "transit p99",
        "share",
        "load share",
    ),
    "requests",
)
LITELLM = next(peer for peer in peers() if peer.name == "LiteLLM")


def _lane(name: str, value: float, peer: Peer | None = None) -> Lane:
    """A server with the same value everywhere; what it cannot do has a reason instead."""
    meter = Meter(os.getpid(), 1)
    lane = Lane(name, meter, meter, peer)
    for work in works(QUICK):
        if lane.peer is None or lane.target(work):
            lane.figures[work.name] = dict.fromkeys(FIGURES, value)
    lane.figures["memory"] = {"at start": value, "warm": value, "after": value}
    lane.figures[IDLE_ROW] = {"kB": value, "streams": 50}
    lane.figures[GROWTH_ROW] = {"growth": value, "requests": 10}
    return lane


def _texts(picture: str) -> dict[str, float]:
    """What stands in a picture, and how far down; it must be a whole document."""
    ParserCreate().Parse(picture, True)
    found = re.findall(r'<text x="[^"]+" y="([^"]+)"[^>]*>([^<]*)<', picture)
    return {unescape(said): float(y) for y, said in found}


def _bench(times: float) -> Bench:
    lanes = [_lane("upstream alone", 1.0), _lane("Antiphon", 10.0, ANTIPHON)]
    return Bench(QUICK, [*lanes, _lane("LiteLLM 1", 10.0 * times, LITELLM)], {"OGX 1": "gone"})


def test_a_ratio_says_how_many_times_better_antiphon_is() -> None:
    bench = _bench(60)
    other = bench.peers[0]

    assert bench.ratio(other, Row(PLAIN, "cpu", "", "µs")) == 60
    assert bench.ratio(other, Row(PLAIN, "rate", "", "/s", more=True)) == 1 / 60
    assert bench.ratio(other, Row(PLAIN, "p50", "", "ms", added=True)) == 599 / 9


@pytest.mark.parametrize(("times", "word"), [(50, "met"), (49, "**missed**")])
def test_a_promise_is_met_from_its_number_on(times: float, word: str) -> None:
    lines = kept(_bench(times)).splitlines()

    assert f"| 50 × less CPU than LiteLLM per plain request | {times} × | {word} |" in lines
    assert "| 50 × less CPU than OGX per plain request | not measured | |" in lines


def test_the_table_says_why_a_figure_is_missing() -> None:
    text = table(_bench(2))

    assert re.search(r"\| chains of 10, .*\| – <sup>(\d)</sup> \|", text)
    assert "LiteLLM 1: keeps responses in PostgreSQL only" in text
    assert "- **OGX 1 was not measured**: gone" in text
    assert "| 20 in 10 |" in text  # growth over fewer requests says so
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {5}


def test_only_the_marked_section_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "<!-- scripts/bench writes from here -->\n{}<!-- to here -->\n"
    page.write_text("before\n" + marks.format("old\n") + "after\n", encoding="utf-8")

    text = rewritten(page, section(_bench(2), "today"))

    assert text.startswith("before\n<!--")
    assert text.endswith("<!-- to here -->\nafter\n")
    assert "old" not in text
    assert "| LiteLLM 1 |" in text


def test_a_page_without_the_section_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing marked\n", encoding="utf-8")

    with pytest.raises(SystemExit, match="has no section"):
        rewritten(page, "text")
    with pytest.raises(SystemExit, match="has no section"):
        rewritten(tmp_path / "none.md", "text")


def test_pictures_are_whole_documents_with_every_server() -> None:
    shown = pictures(_bench(3))

    assert sorted(shown) == [
        "cpu-per-request.svg",
        "cpu-per-token.svg",
        "first-token.svg",
        "idle-stream.svg",
        "throughput.svg",
    ]
    for text in shown.values():
        assert {"Antiphon", "LiteLLM 1"} <= _texts(text).keys()


def test_a_greater_value_stands_further_to_the_right() -> None:
    text = plots.dots("t & t", "s", {"ours": 3.0, "five": 300.0, "other": 29_000.0})

    places = [float(place) for place in re.findall(r'<circle cx="([^"]+)"', text)]
    assert len(set(places)) == 3
    assert places == sorted(places)
    assert {"29k", "t & t"} <= _texts(text).keys()


def test_labels_of_lines_do_not_lie_upon_each_other() -> None:
    across = [float(at_once) for at_once in CONCURRENCY]
    series = {name: dict.fromkeys(across, value) for name, value in (("a", 10.0), ("b", 10.1))}

    text = plots.lines("t", "s", across, series)

    labels = _texts(text)
    assert abs(labels["a"] - labels["b"]) >= 15


def test_cpu_of_children_that_have_ended_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    command = [sys.executable, "-c", f"{parent}; print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()

        used = Meter(child.pid, 0).cpu()

        child.communicate(b"\n", timeout=60)
    assert used >= 0.3


def test_what_a_client_says_is_the_reason(tmp_path: Path) -> None:
    said = "print('E404 Not Found - GET https://registry.test/x', file=__import__('sys').stderr)"
    with pytest.raises(NotInstalled, match=r"E404 Not Found - GET …$"):
        run([sys.executable, "-c", f"{said}; raise SystemExit(1)"])
    with pytest.raises(NotInstalled, match="there is no antiphon-no-such-client here"):
        run(["antiphon-no-such-client"])
    with pytest.raises(NotInstalled, match=r"there is no Python 9\.0 or newer here"):
        packages(tmp_path / "pins.txt", (9, 0))(tmp_path)


def test_what_was_half_installed_is_made_anew(tmp_path: Path) -> None:
    def fails(place: Path) -> None:
        (place / "half").touch()
        raise NotInstalled("cut off")

    with pytest.raises(NotInstalled):
        installed(tmp_path, "peer", fails)
    place = installed(tmp_path, "peer", lambda place: (place / "whole").touch())
    assert sorted(path.name for path in place.iterdir()) == ["installed", "whole"]
    assert installed(tmp_path, "peer", fails) == place


def test_a_reason_fits_into_a_cell() -> None:
    error = ServerError("b'HTTP/1.1 500 | `Internal`" + "x" * 500 + "\nAsked: …")

    assert len(reason(error)) == 160
    assert "|" not in reason(error)


@pytest.mark.parametrize("peer", peers(), ids=lambda peer: peer.name)
def test_a_peer_is_pinned_and_talks_to_this_machine_only(peer: Peer, tmp_path: Path) -> None:
    pins = Path(sys.modules[type(peer).__module__].__file__ or "").parent
    pins = pins / f"{peer.name.lower().replace('-', '_')}.txt"
    if pins.exists():
        lines = pins.read_text(encoding="utf-8").splitlines()
        assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
        assert any(line.endswith(f"=={peer.version}") for line in lines)
    packages_folder = tmp_path / "lib/python3/site-packages/tiktoken_ext/data"
    packages_folder.mkdir(parents=True)
    (packages_folder / "cl100k_base.tiktoken").touch()
    folder = tmp_path / "folder"
    folder.mkdir()

    command = peer.start(Site(tmp_path, folder, 4001, 4002))

    written = [path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()]
    said = " ".join([*command.argv, *written])
    assert set(re.findall(r"https?://([^/:\"]+)", said)) <= {"127.0.0.1"}
    assert "0.0.0.0" not in said
    assert "4001" in f"{said} {command.environment.get('PORT')}"
    assert "4002" in f"{said} {command.environment.get('OPENAI_BASE_URL')}"
    assert not [name for name in command.environment if name.startswith("ANTIPHON_")]


def test_every_row_has_its_goal_or_comparison() -> None:
    names = {work.name for work in works(QUICK)}

    assert {PLAIN, burst(QUICK), *(plain(at_once) for at_once in CONCURRENCY)} <= names
