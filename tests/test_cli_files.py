"""``antiphon files add | list | delete``: beside a server, and without one (docs/files.md)."""

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from antiphon.cli.found import Found, Outcome, collect
from tests.api.command import Case
from tests.api.command import Outcome as Ended
from tests.api.command import shell as started
from tests.api.talk import client_of
from tests.live import LiveServer, launch, serve

#: A program: it has no text.
PROGRAM: Final = b"\x7fELF" + bytes(60)


class Shell:
    """Commands in the folder of one test. One process plays those of all tests, in which each of
    them opens everything anew; starting Python for each would take by far most of the time."""

    def __init__(self, play: Callable[[Sequence[Case]], list[Ended]], folder: Path) -> None:
        self._play = play
        self._folder = folder

    def files(self, *arguments: str, **env: str) -> Ended:
        """``antiphon files …``."""
        # Each process that reads takes a second to start.
        settings = {"ANTIPHON_INGESTIONS": "1", **env}
        case = Case(["files", *arguments], settings, folder=str(self._folder))
        return self._play([case])[0]

    def add(self, *arguments: str, code: int = 0, **env: str) -> list[str]:
        """The lines of ``files add``."""
        done = self.files("add", *arguments, **env)
        assert done.code == code, done.stderr
        return done.stdout.splitlines()

    def listed(self, *arguments: str) -> list[list[str]]:
        """The fields of ``files list``."""
        done = self.files("list", *arguments)
        assert done.code == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[Sequence[Case]], list[Ended]]]:
    with started() as play:
        yield play


@pytest.fixture
def shell(play: Callable[[Sequence[Case]], list[Ended]], tmp_path: Path) -> Shell:
    return Shell(play, tmp_path)


def states(lines: list[str]) -> dict[str, str]:
    """Path → what became of it; the last line is the summary."""
    return {path: rest.split(" (")[0] for path, _, rest in (line.partition(": ") for line in lines)}


def ids(lines: list[str]) -> dict[str, str]:
    return {line.partition(": ")[0]: line.rpartition("(")[2].rstrip(")") for line in lines}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Otters and plans, the former twice, and what is no document."""
    docs = tmp_path / "docs"
    (docs / "deep/.git").mkdir(parents=True)
    (docs / "deep/.git/config").write_text("secret")
    (docs / "otters.txt").write_text("Otters hold hands while they sleep.")
    (docs / "deep/otters.txt").write_text("Otters hold hands while they sleep.")
    (docs / "deep/plan.md").write_text("# Plan\n\nBuy a boat.")
    (docs / ".env").write_text("secret")
    (docs / "a-link").symlink_to("otters.txt")
    return docs


# -- what is on this machine ---------------------------------------------------------------------


def test_folders_are_walked(docs: Path) -> None:
    """What is left out is named; nothing comes twice, and links hide nothing."""
    os.mkfifo(docs / "pipe")
    (docs / "large").write_bytes(b"x" * 101)
    found = list(collect([docs, docs / "deep", docs / "otters.txt"], limit=100))
    assert [one for one in found if isinstance(one, Outcome)][:6] == [
        Outcome(docs / ".env", "left out", "hidden"),
        Outcome(docs / "a-link", "left out", "a link"),
        Outcome(docs / "deep/.git", "left out", "hidden"),
        Outcome(docs / "large", "left out", "larger than 100 bytes"),
        Outcome(docs / "pipe", "left out", "not a file"),
        Outcome(docs / "deep/.git", "left out", "hidden"),
    ]
    names = [one.path.relative_to(docs) for one in found if isinstance(one, Found)]
    assert list(map(str, names)) == ["deep/otters.txt", "deep/plan.md", "otters.txt"]


def test_what_is_named_is_taken(docs: Path) -> None:
    found = list(collect([docs / ".env", docs / "a-link"], limit=100))
    assert [one.path.name for one in found if isinstance(one, Found)] == [".env", "a-link"]
    with pytest.raises(FileNotFoundError):
        list(collect([docs / "nothing"], limit=100))


def test_a_path_cannot_write_on_the_terminal() -> None:
    """A name may have anything in it: colours, new lines, no UTF-8."""
    path = Path("a\x1b[31m\nb\udcff")
    assert Outcome(path, "read", "file-1").line() == "a?[31m?b?: read (file-1)"


# -- without a server ----------------------------------------------------------------------------


def test_a_folder_becomes_a_store(shell: Shell, docs: Path) -> None:
    (docs / "prog").write_bytes(PROGRAM)
    lines = shell.add("docs", "--store", "Notes", code=1)
    assert states(lines[:-1]) == {
        "docs/.env": "left out",
        "docs/a-link": "left out",
        "docs/deep/.git": "left out",
        "docs/deep/otters.txt": "read",
        "docs/deep/plan.md": "read",
        "docs/otters.txt": "unchanged",
        "docs/prog": "failed",
    }
    assert any("The file is a program" in line for line in lines)
    store_id = lines[-1].split()[2]
    assert lines[-1] == (
        f"vector store {store_id} (Notes): 2 read, 1 unchanged, 3 left out, 1 failed"
    )
    # Again, by its id: what could not be read is tried again, and no file is there twice.
    lines = shell.add("docs", "--store", store_id, code=1)
    assert lines[-1].endswith(": 3 unchanged, 3 left out, 1 failed")
    rows = sorted(row[3:] for row in shell.listed("--store", "Notes"))
    assert rows == [
        ["assistants", "otters.txt", "completed"],
        ["assistants", "plan.md", "completed"],
        ["assistants", "prog", "failed", "The file is a program: its text cannot be read."],
    ]


def test_a_changed_file_is_another_one(shell: Shell, docs: Path) -> None:
    """Its older version stays, and is named."""
    old = ids(shell.add("docs/otters.txt", "--store", "Notes"))["docs/otters.txt"]
    (docs / "otters.txt").write_text("Otters hold hands while they dream.")
    lines = shell.add("docs/otters.txt", "--store", "Notes")
    assert lines[0].startswith("docs/otters.txt: read (")
    assert lines[1] == f"docs/otters.txt: stored beside an older version ({old})"
    assert lines[2].endswith("(Notes): 1 read, 1 stored beside an older version")
    # Who leaves reading to others hears it, too; who has nothing new does not.
    (docs / "otters.txt").write_text("Otters hold hands while they swim.")
    lines = shell.add("docs/otters.txt", "--store", "Notes", "--no-wait")
    assert lines[-1].endswith("(Notes): 1 stored, 2 stored beside an older version")
    assert len(shell.add("docs/otters.txt", "--store", "Notes")) == 2


def test_an_older_version_is_replaced(shell: Shell, docs: Path) -> None:
    """By what can be read only: until then, it may be needed."""
    (docs / "deep/otters.txt").write_text("Otters dive.")
    shell.add("docs", "--store", "Notes")
    (docs / "otters.txt").write_text("Otters hold hands while they dream.")
    (docs / "deep/otters.txt").write_bytes(PROGRAM)
    lines = shell.add("docs", "--store", "Notes", "--replace", code=1)
    assert lines[-1].endswith(": 1 read, 1 unchanged, 3 left out, 1 failed")
    (docs / "deep/otters.txt").write_text("Otters dive deep.")
    lines = shell.add("docs", "--store", "Notes", "--replace")
    assert lines[-1].endswith(": 1 read, 2 unchanged, 3 replaced, 3 left out")
    assert sum(line.startswith("docs/deep/otters.txt: replaced (file-") for line in lines) == 3
    rows = sorted((row[4], row[5], row[1]) for row in shell.listed("--store", "Notes"))
    assert rows == [
        ("otters.txt", "completed", "17"),
        ("otters.txt", "completed", "35"),
        ("plan.md", "completed", "19"),
    ]
    assert len(shell.listed()) == 6  # no file is gone


def test_files_are_deleted(shell: Shell, tmp_path: Path, docs: Path) -> None:
    id_ = ids(shell.add("docs/otters.txt", "--store", "Notes"))["docs/otters.txt"]
    done = shell.files("delete", id_, "file-none")
    assert (done.code, done.stdout) == (1, f"{id_} is deleted.\n")
    assert done.stderr.splitlines()[-1] == "antiphon: no file file-none in project 'default'"
    assert shell.listed("--store", "Notes") == []
    assert list((tmp_path / "data/files").rglob("file-*")) == []


def test_what_is_taken_out_is_in_no_index(shell: Shell, tmp_path: Path, docs: Path) -> None:
    """R-104: when the command ends, also without a server."""

    def held(word: bytes) -> list[str]:
        folder = tmp_path / "data/vector_stores"
        return [path.name for path in folder.iterdir() if word in path.read_bytes()]

    (docs / "otters.txt").write_text("Otters hold secretzebra while they sleep.")
    shell.add("docs/otters.txt", "docs/deep/plan.md", "--store", "Notes")
    assert len(held(b"secretzebra")) == 1
    (docs / "otters.txt").write_text("Otters hold plainzebra while they sleep.")
    lines = shell.add("docs/otters.txt", "--store", "Notes", "--replace")
    assert held(b"secretzebra") == []
    assert len(held(b"plainzebra")) == 1
    id_ = ids(lines[:1])["docs/otters.txt"]
    assert shell.files("delete", "file-none", id_).code == 1
    assert held(b"plainzebra") == []
    assert len(held(b"Buy a boat")) == 1


def test_what_waits_is_read_on_the_terms_of_the_last_call(shell: Shell, docs: Path) -> None:
    """If they are to count: `--again`."""
    shell.add("docs/otters.txt", "--store", "Notes", "--no-wait", "--attribute", "year=2025")
    again = ["--again", "--attribute", "year=2026", "--chunk-size", "300"]
    lines = shell.add("docs/otters.txt", "--store", "Notes", *again)
    assert states(lines)["docs/otters.txt"] == "read"
    with closing(sqlite3.connect(docs.parent / "antiphon.db")) as connection:
        rows = connection.execute("SELECT attributes, chunk_size FROM vector_store_files")
        assert rows.fetchall() == [('{"year":2026}', 300)]


def test_what_a_killed_command_leaves_the_next_one_reads(
    shell: Shell, tmp_path: Path, docs: Path
) -> None:
    """R-77, R-101: also without any server."""
    for number in range(60):
        (docs / f"{number}.txt").write_text(f"Otter number {number}")
    adding = launch(tmp_path, ["antiphon.cli", "files", "add", "docs", "--store", "Notes"])
    stdout = adding.process.stdout
    assert stdout is not None
    while ": read" not in stdout.readline():
        assert adding.process.poll() is None
    adding.kill()
    lines = shell.add("docs", "--store", "Notes")
    assert set(states(lines[:-1]).values()) == {"read", "unchanged", "left out"}
    listed = shell.listed("--store", "Notes")
    assert len({row[4] for row in listed}) == 62
    assert {row[5] for row in listed} == {"completed"}


def test_where_there_is_nothing_it_is_said(shell: Shell, tmp_path: Path) -> None:
    """R-12: no store is made for it, and one hears why nothing is added."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/.env").write_text("secret")
    (tmp_path / "large").write_bytes(b"x" * 1_025)
    limit = {"ANTIPHON_MAX_FILE_BYTES": "1024"}
    done = shell.files("add", "docs", "large", "--store", "Notes", **limit)
    assert done.code == 2
    assert done.stdout.splitlines() == [
        "docs/.env: left out (hidden)",
        "large: left out (larger than 1024 bytes)",
    ]
    assert done.stderr.splitlines()[-1] == "antiphon: there is no file to add"
    assert shell.files("list", "--store", "Notes").code == 2


def test_a_command_that_is_interrupted_leaves_no_trace_of_itself(
    tmp_path: Path, docs: Path
) -> None:
    for number in range(200):
        (docs / f"{number}.txt").write_text(f"Otter number {number}")
    adding = launch(tmp_path, ["antiphon.cli", "files", "add", "docs", "--store", "Notes"])
    assert adding.process.stdout is not None
    while ": read" not in adding.process.stdout.readline():
        assert adding.process.poll() is None
    adding.process.send_signal(signal.SIGINT)
    assert adding.process.wait(20) != 0
    adding.process.stdout.close()
    assert "Traceback" not in adding.log()


def test_a_bar_on_a_terminal(tmp_path: Path, docs: Path) -> None:
    (docs / "prog").write_bytes(PROGRAM)
    ours, theirs = pty.openpty()
    adding = subprocess.Popen(
        [sys.executable, "-m", "antiphon.cli", "files", "add", "docs", "--store", "Notes"],
        cwd=tmp_path,
        env={**os.environ, "ANTIPHON_DISCOVER": "false", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b"".join(_read(ours)).decode()
    assert adding.wait(20) == 1
    assert "100%" in shown
    assert "docs/prog: failed" in shown
    assert "otters.txt: read" not in shown


def _read(terminal: int) -> Iterator[bytes]:
    until = time.monotonic() + 40
    with os.fdopen(terminal, "rb", buffering=0) as file:
        while time.monotonic() < until:
            try:
                piece = file.read(4_096)
            except OSError:  # the other side is closed
                return
            if not piece:
                return
            yield piece


def test_a_project_has_its_limit(shell: Shell, docs: Path) -> None:
    """R-102; what could be stored is."""
    lines = shell.add("docs", "--store", "Notes", code=1, ANTIPHON_MAX_PROJECT_BYTES="50")
    assert states(lines)["docs/deep/otters.txt"] == "read"
    assert states(lines)["docs/deep/plan.md"] == "failed"
    assert any("This project may store 50 bytes" in line for line in lines)


REFUSED: Final[tuple[tuple[list[str], str], ...]] = (
    (["nowhere"], "[Errno 2] No such file or directory: 'nowhere'"),
    (["file", "--project", "a b"], "a project is 1 to 64 letters"),
    (["file", "--attribute", "x"], "an attribute is KEY=VALUE, not 'x'"),
    (["file", "--attribute", f"x={'y' * 513}"], "Invalid 'attributes.x'"),
    (["file", "--chunk-size", "99"], "Invalid 'chunking_strategy.static.max_chunk_size"),
    (["file", "--chunk-overlap", "401"], "Invalid 'chunking_strategy.static.chunk_overlap"),
    (["file", "--replace", "--no-wait"], "--replace has to wait until the new files are read"),
    (["file", "--store", "vs_none"], "Vector store with id 'vs_none' not found."),
)


def test_what_cannot_be_done_is_said_in_one_line(
    play: Callable[[Sequence[Case]], list[Ended]],
) -> None:
    cases = [
        Case(["files", "add", "--store", "Notes", *arguments], {}, {"file": "x"})
        for arguments, _ in REFUSED
    ]
    memory = {"ANTIPHON_DATABASE_URL": "memory://"}
    cases.append(Case(["files", "list"], memory))
    says = [*(line for _, line in REFUSED), "memory:// keeps no files"]
    for done, line in zip(play(cases), says, strict=True):
        assert (done.code, done.stdout) == (2, ""), line
        assert done.stderr.splitlines()[-1].startswith(f"antiphon: {line}"), done.stderr


# -- beside a server -----------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveServer]:
    with serve(tmp_path) as server:
        yield server


def test_a_server_finds_what_was_added(shell: Shell, docs: Path, live: LiveServer) -> None:
    terms = ["--attribute", "year=2026", "--attribute", "draft=true", "--attribute", 'no="1"']
    terms += ["--attribute", "kind=plan", "--chunk-size", "200"]
    lines = shell.add("docs", "--store", "Notes", "--project", "first", *terms)
    store_id = lines[-1].split()[2]
    with client_of(live) as api:
        path = f"/v1/vector_stores/{store_id}"
        found = api.post(f"{path}/search", json={"query": "hold hands"}).json()["data"]
        assert found[0]["filename"] == "otters.txt"
        attributes = {"year": 2026, "draft": True, "no": "1", "kind": "plan"}
        assert found[0]["attributes"] == attributes
        file = api.get(f"{path}/files/{found[0]['file_id']}").json()
        sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100}
        assert file["chunking_strategy"]["static"] == sizes
        # Read again, on other terms: it is the same file, and there once.
        again = ["--again", "--attribute", "year=2027"]
        lines = shell.add("docs/otters.txt", "--store", "Notes", "--project", "first", *again)
        assert states(lines)["docs/otters.txt"] == "read"
        found = api.post(f"{path}/search", json={"query": "hold hands"}).json()["data"]
        assert [one["attributes"] for one in found if one["filename"] == "otters.txt"] == [
            {"year": 2027}
        ]
        # Two stores of one name: nobody can know which is meant.
        api.post("/v1/vector_stores", json={"name": "Notes"})
    done = shell.files("add", "docs", "--store", "Notes", "--project", "first")
    assert done.code == 2
    assert "2 stores are called 'Notes'" in done.stderr


def test_who_does_not_wait_leaves_it_to_the_server(
    shell: Shell, docs: Path, live: LiveServer
) -> None:
    lines = shell.add("docs", "--store", "Notes", "--project", "first", "--no-wait")
    assert lines[-1].endswith("2 stored, 1 unchanged, 3 left out")
    store_id = lines[-1].split()[2]
    with client_of(live) as api:
        until = time.monotonic() + 30
        while api.get(f"/v1/vector_stores/{store_id}").json()["status"] != "completed":
            assert time.monotonic() < until
            time.sleep(0.1)  # it has no other way to say so
        found = api.post(f"/v1/vector_stores/{store_id}/search", json={"query": "a boat"}).json()
    assert found["data"][0]["filename"] == "plan.md"
