"""Files of this machine, and what became of them.

Rules
1. What is named on the command line is taken; in folders what is hidden, a link, no file or too
   large is left out, and said.
2. Each file comes once, however often it was named.
"""

import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

#: In the order in which they are counted.
State: TypeAlias = Literal[
    "read",
    "stored",
    "unchanged",
    "replaced",
    "stored beside an older version",
    "left out",
    "failed",
]


class Found(NamedTuple):
    """A file on this machine; `size` in bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a path: `detail` is the id of its file or of an older one, or why not."""

    path: Path
    state: State
    detail: str

    def line(self) -> str:
        """For humans, and for scripts that read them."""
        line = f"{self.path}: {self.state} ({self.detail})"
        return "".join(letter if letter.isprintable() else "?" for letter in line)


def collect(paths: Iterable[Path], limit: int) -> Iterator[Found | Outcome]:
    """All files of the paths, each once, folders in the order of their names; and what is left out.
    `limit`: bytes of a file. Raises OSError for a path that is not there."""
    seen: set[Path] = set()
    for given in paths:
        given.stat()
        for path in _walk(given) if given.is_dir() else (given,):
            one = path if isinstance(path, Outcome) else _judged(path, limit, path is given)
            if isinstance(one, Found):
                if (real := one.path.resolve()) in seen:
                    continue
                seen.add(real)
            yield one


def _walk(folder: Path) -> Iterator[Path | Outcome]:
    """What is in a folder; what is left out as a whole is not walked."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield failed(folder, error)
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink() and not _is_hidden(entry):
            yield from _walk(entry)
        else:
            yield entry


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _judged(path: Path, limit: int, is_named: bool) -> Found | Outcome:
    if not is_named and _is_hidden(path):
        return Outcome(path, "left out", "hidden")
    if not is_named and path.is_symlink():
        return Outcome(path, "left out", "a link")
    try:
        status = path.stat()
    except OSError as error:
        return failed(path, error)
    if not stat.S_ISREG(status.st_mode):
        return Outcome(path, "left out", "not a file")
    if status.st_size > limit:
        return Outcome(path, "left out", f"larger than {limit} bytes")
    return Found(path, status.st_size)


def failed(path: Path, error: OSError) -> Outcome:
    """A path that could not be read."""
    return Outcome(path, "failed", error.strerror or "it cannot be read")


def counted(outcomes: Sequence[Outcome]) -> str:
    """How many came to what: ``2 read, 1 failed``."""
    counts = {state: sum(one.state == state for one in outcomes) for state in get_args(State)}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing"
