"""The command line, as a process of its own: ``antiphon keys list`` and the like.

``python -m tests.api.command`` plays many commands in one process: starting Python takes longer
than all of them. It reads lists of `Case`, each a line of JSON, and writes a list of `Outcome` for
each.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from antiphon.cli import cli


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(folder),
        "ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/antiphon.db",
        "ANTIPHON_DISCOVER": "false",
        "ANTIPHON_PORT": "0",
    }


def antiphon(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``antiphon`` in `folder` with the database of `tests.live.serve` there."""
    return subprocess.run(
        [sys.executable, "-m", "antiphon.cli", *arguments],
        cwd=folder,
        env={**_environment(folder), **(env or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@dataclass(frozen=True)
class Case:
    """A command in a folder, or else in an empty one with these files."""

    arguments: list[str]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    folder: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the command said, and the files that it left in an empty folder."""

    code: int
    stdout: str
    stderr: str
    left: list[str]


def outcomes(cases: Sequence[Case]) -> list[Outcome]:
    """Play the cases, in order, in one new process."""
    with shell() as play:
        return play(cases)


@contextlib.contextmanager
def shell() -> Iterator[Callable[[Sequence[Case]], list[Outcome]]]:
    """A process that plays cases, in order, as often as it is asked to."""
    player = subprocess.Popen(
        [sys.executable, "-m", "tests.api.command"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )

    def play(cases: Sequence[Case]) -> list[Outcome]:
        assert player.stdin is not None
        assert player.stdout is not None
        late = threading.Timer(60, player.kill)
        late.start()
        try:
            print(json.dumps([asdict(case) for case in cases]), file=player.stdin, flush=True)
            return [Outcome(**outcome) for outcome in json.loads(player.stdout.readline())]
        finally:
            late.cancel()

    with player:
        yield play


def _play(case: Case) -> Outcome:
    if case.folder is not None:
        return _played(case, Path(case.folder))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in case.files.items():
            (folder / file).write_text(text, encoding="latin-1")
        outcome = _played(case, folder)
        left = sorted(path.name for path in folder.iterdir() if path.name not in case.files)
    return replace(outcome, left=left)


def _played(case: Case, folder: Path) -> Outcome:
    environment = {**_environment(folder), **case.env}
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # Kept open, not `CliRunner`: a logger remembers the stream of its first line.
    stdout, stderr = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            cli(case.arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    os.chdir("/")
    return Outcome(code, stdout.getvalue(), stderr.getvalue(), [])


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps([asdict(_play(Case(**case))) for case in json.loads(line)]), flush=True)
