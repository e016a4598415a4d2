"""Installing peers from their registries, with the ordinary clients: pip and npm.

Rules
1. What was installed completely has a mark in its folder; a folder without one is made anew.
2. What goes wrong is `NotInstalled` with the last lines of the client, for the table.
"""

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

_MARK: Final = "installed"
#: Seconds for all packages of a peer.
_PATIENCE: Final = 1800.0


class NotInstalled(Exception):
    """A peer that cannot be had here; the message is the reason."""


def installed(cache: Path, folder: str, install: Callable[[Path], None]) -> Path:
    """The peer's folder, filled if it is not yet."""
    place = cache / folder
    if not (place / _MARK).exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        install(place)
        (place / _MARK).touch()
    return place


def packages(pins: Path, least: tuple[int, int] = (3, 12)) -> Callable[[Path], None]:
    """An environment with exactly the packages of a file, which were chosen for Python 3.12."""

    def install(place: Path) -> None:
        run([_python(least), "-m", "venv", str(place)])
        pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        run([*pip, "--requirement", str(pins)])

    return install


def run(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a client; raises `NotInstalled`."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError as error:
        raise NotInstalled(f"there is no {name} here") from error
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{name} took more than {_PATIENCE:.0f} s") from error
    if done.returncode:
        raise NotInstalled(f"{name}: {_reason(done.stderr or done.stdout)}")


def _reason(said: str) -> str:
    """The line that says most, without addresses."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for telling in (r"not found|no matching", r"error"):
        if found := [line for line in lines if re.search(telling, line, re.IGNORECASE)]:
            return re.sub(r"\w+://\S+", "…", found[0])[:160]
    return lines[-1][:160] if lines else "failed without a word"


@functools.cache
def _python(least: tuple[int, int]) -> str:
    """An interpreter that is new enough."""
    for candidate in _interpreters():
        version = "import sys; print(*sys.version_info[:2])"
        done = subprocess.run(
            [candidate, "-c", version], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and tuple(map(int, done.stdout.split())) >= least:
            return candidate
    raise NotInstalled(f"there is no Python {least[0]}.{least[1]} or newer here")


def _interpreters() -> Iterator[str]:
    """This one, those on the path, those of pyenv."""
    yield sys.executable
    for minor in (12, 13, 14):
        yield from filter(None, [shutil.which(f"python3.{minor}")])
        yield from map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
