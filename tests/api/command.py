"""The command line, as a process of its own: ``antiphon keys list`` and the like.

``python -m tests.api.command`` plays many commands in one process: starting Python takes longer
than all of them. It reads a list of `Case` as JSON and writes a list of `Outcome`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    """A command in an empty folder with these files."""

    arguments: list[str]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What the command said, and the files that it left."""

    code: int
    stdout: str
    stderr: str
    left: list[str]


def outcomes(cases: Sequence[Case]) -> list[Outcome]:
    """Play the cases, in order, in one new process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.command"],
        input=json.dumps([asdict(case) for case in cases]),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [Outcome(**outcome) for outcome in json.loads(done.stdout)]


def _play(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in case.files.items():
            (folder / file).write_text(text, encoding="latin-1")
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
        left = sorted(path.name for path in folder.iterdir() if path.name not in case.files)
    return Outcome(code, stdout.getvalue(), stderr.getvalue(), left)


if __name__ == "__main__":
    print(json.dumps([asdict(_play(Case(**case))) for case in json.load(sys.stdin)]))
