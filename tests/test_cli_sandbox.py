"""``antiphon sandbox install | check`` (docs/tools.md, "Code interpreter"). A real environment is
made by `tests.sandbox_environment`; here its packages come from a fake."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from antiphon.sandbox.environment import NoEnvironment, environment, install
from tests.api.command import Case, Outcome, shell
from tests.sandbox_environment import sandbox_environment

#: Does what `install` asks of a Python. What stands in FAKE_PIP is done by its pip.
FAKE: Final = """#!/bin/sh
case "$2 $3" in
  "-m venv") mkdir -p "$4/bin" "$4/lib"; ln -s "$0" "$4/bin/python"
    echo version = 3.12.1 > "$4/pyvenv.cfg" ;;
  "-m pip") echo "pip $*" >&2; eval "$FAKE_PIP"; umask 077; echo x > "${0%/bin/python}/lib/new" ;;
  "-c import matplotlib"*) mkdir -p "$MPLCONFIGDIR"; echo x > "$MPLCONFIGDIR/fonts" ;;
esac
"""
MARK: Final = "antiphon-sandbox"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody can read, with a Python in it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        python = place / "fake/bin/python3.12"
        modules = place / "fake/lib/python3.12"
        for folder in (python.parent, modules, place / "links"):
            folder.mkdir(parents=True)
        python.write_text(FAKE)
        python.chmod(0o755)
        (modules / "os.py").touch()
        (place / "links/python3").symlink_to(python)
        yield place


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[Sequence[Case]], list[Outcome]]]:
    with shell() as play:
        yield play


class Antiphon:
    """``antiphon sandbox …``."""

    def __init__(self, play: Callable[[Sequence[Case]], list[Outcome]], place: Path) -> None:
        self._play = play
        self._place = place

    def says(self, *arguments: str, **env: str) -> Outcome:
        return self._play([Case(["sandbox", *arguments], env)])[0]

    def installs(self, **env: str) -> Outcome:
        """Of the fake, behind a link."""
        made_of = str(self._place / "links/python3")
        made = {"ANTIPHON_SANDBOX": str(self._place / "made")}
        return self.says("install", "--python", made_of, **made, **env)


@pytest.fixture
def antiphon(play: Callable[[Sequence[Case]], list[Outcome]], place: Path) -> Antiphon:
    return Antiphon(play, place)


def is_made(place: Path) -> bool:
    try:
        return environment(place / "made").is_current
    except NoEnvironment:
        return False


# -- install -------------------------------------------------------------------------------------


def test_an_environment_is_made_and_made_again(antiphon: Antiphon, place: Path) -> None:
    """It is for all to read, and says what it was made of. Each step is told."""
    made = place / "made"
    for _ in range(2):
        done = antiphon.installs()
        assert done.code == 0, done.stderr
        assert done.stdout.startswith(f"{made}: ready.")
        assert [line[:3] for line in done.stderr.splitlines()] == ["1/3", "2/3", "3/3"]
        fake = place.resolve() / "fake"
        assert environment(made).parts == (fake / "bin/python3.12", fake / "lib/python3.12")
        assert (made / "bin/python").readlink() == fake / "bin/python3.12"
        assert is_made(place)
        assert {path.stat().st_mode & 0o444 for path in made.rglob("*")} == {0o444}
        assert not (made / "lib/old").exists()
        (made / "lib/old").write_text("of the last one")


def test_packages_are_those_of_the_lock_file(antiphon: Antiphon, place: Path) -> None:
    """R-134: with hashes, and nothing that has to be built."""
    said = place / "said"
    assert antiphon.installs(FAKE_PIP=f'echo "$*" > {said}').code == 0
    words = said.read_text().split()
    assert {"--require-hashes", "--only-binary=:all:", "-r"} <= set(words)
    assert words[-1].endswith("requirements.txt")


@pytest.mark.parametrize("name", ["made/mine.txt", "made"])
def test_what_is_somebody_elses_is_not_touched(antiphon: Antiphon, place: Path, name: str) -> None:
    mine = place / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    done = antiphon.installs()
    assert (done.code, done.stdout) == (2, "")
    assert "is no environment of Antiphon, and not empty" in done.stderr
    assert mine.read_text() == "mine"
    assert not (place / "made" / MARK).exists()


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("#!/bin/sh\n# a script of that name\n", "lib/mine"),
        ("0" * 65, "lib/mine"),
        ("", "thesis/chapter"),
        ("0" * 64, "thesis/chapter"),
        ("0" * 64, "bin.txt"),
        (None, "lib/mine"),
    ],
)
def test_a_file_of_that_name_does_not_make_it_ours(
    antiphon: Antiphon, place: Path, mark: str | None, name: str
) -> None:
    """Neither without what a mark says, nor as a link, nor beside what no environment has."""
    made = place / "made"
    mine = made / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    (place / "empty").touch()
    if mark is None:
        (made / MARK).symlink_to(place / "empty")
    else:
        (made / MARK).write_text(mark)
    done = antiphon.installs()
    assert (done.code, done.stdout) == (2, "")
    assert "is no environment of Antiphon, and not empty" in done.stderr
    assert mine.read_text() == "mine"
    assert (made / MARK).read_text() == (mark or "")


def test_an_empty_folder_may_be_a_link(antiphon: Antiphon, place: Path) -> None:
    """To another disk, or where one is mounted: the folder itself stays."""
    (place / "disk").mkdir()
    (place / "made").symlink_to(place / "disk")
    for _ in range(2):
        assert antiphon.installs().code == 0
        assert is_made(place)
        assert (place / "made").is_symlink()


def test_what_was_interrupted_is_begun_anew(antiphon: Antiphon, place: Path) -> None:
    done = antiphon.installs(FAKE_PIP="exit 3")
    assert (done.code, done.stdout) == (2, "")
    assert "-m pip install …` ended with 3" in done.stderr.splitlines()[-1]
    assert not is_made(place)
    assert antiphon.installs().code == 0
    assert is_made(place)


def test_two_do_not_make_one_environment(antiphon: Antiphon, place: Path) -> None:
    """Nor does the next one begin while a program of one that was killed is at work."""
    command = [sys.executable, "-m", "antiphon.cli", "sandbox", "install", "--python"]
    waits = f"echo x > {place}/begun; while [ ! -e {place}/goes ]; do sleep 0.05; done"
    env = {**os.environ, "ANTIPHON_SANDBOX": str(place / "made"), "FAKE_PIP": waits}
    with subprocess.Popen([*command, str(place / "fake/bin/python3.12")], env=env) as first:
        until = time.monotonic() + 20
        while not (place / "begun").exists() and time.monotonic() < until:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    done = antiphon.installs()
    assert (done.code, done.stdout) == (2, "")
    assert "somebody else makes an environment" in done.stderr
    (place / "goes").touch()
    while (done := antiphon.installs()).code and time.monotonic() < until:
        pass
    assert done.code == 0, done.stderr
    assert is_made(place)


def test_a_python_that_does_not_fit(antiphon: Antiphon) -> None:
    for python in ("no-such-python", "/bin/false"):
        done = antiphon.says("install", "--python", python)
        assert (done.code, done.stdout) == (2, "")
        assert f"{python} is no Python 3.11 to 3.14 with venv" in done.stderr


def test_the_data_folder_stays_private(antiphon: Antiphon, tmp_path: Path) -> None:
    """What else will be in there is nobody's business."""
    antiphon.says("install", "--python", "/bin/false", ANTIPHON_DATA_DIR=str(tmp_path / "data"))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_root_needs_what_everybody_can_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-109: its code runs as somebody else. Others are themselves in a sandbox, too."""
    python = place / "fake/bin/python3.12"
    (place / "private").mkdir(mode=0o700)
    shutil.copytree(place / "fake", place / "private/fake")
    for user in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        refused = []
        for folder, made_of in (
            ("private/made", python),
            ("made", place / "private/fake/bin/python3.12"),
        ):
            try:
                install(place / folder, str(made_of))
            except NoEnvironment as error:
                refused.append(str(error))
        assert len(refused) == (0 if user else 2), refused
        assert all("a user who cannot read" in text for text in refused)


# -- check ---------------------------------------------------------------------------------------


def test_a_check_without_an_environment(antiphon: Antiphon, place: Path) -> None:
    done = antiphon.says("check", ANTIPHON_SANDBOX=str(place / "made"))
    assert (done.code, done.stderr) == (1, "")
    assert "Code does not run here: its Python is not installed" in done.stdout


def test_a_check_starts_a_sandbox(antiphon: Antiphon) -> None:
    """Walls, limits and times; the code says what it is."""
    env = {"ANTIPHON_SANDBOX": str(sandbox_environment()), "ANTIPHON_TOOL_TIMEOUT": "30"}
    done = antiphon.says("check", **env)
    assert done.code == 0, done.stdout
    assert "runs behind bubblewrap:" in done.stdout
    assert "\n  yes  own user, processes, network" in done.stdout
    assert "1024 MiB of memory, 512 MiB in /mnt/data" in done.stdout
    assert "and 30 seconds for each run" in done.stdout
    assert "It is user 1000 on sandbox with the networks lo\n" in done.stdout
    assert "The next run takes" in done.stdout.splitlines()[-1]
