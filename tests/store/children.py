"""Start `tests.store.writing` in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]

Child: TypeAlias = "subprocess.Popen[str]"


@contextmanager
def started(task: str, path: Path) -> Iterator[Child]:
    """The process, with pipes for its lines; killed and reaped at the end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writing", task, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def line(child: Child) -> str:
    """The next line that it prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: Child, text: str) -> None:
    assert child.stdin is not None
    child.stdin.write(text + "\n")
    child.stdin.flush()
