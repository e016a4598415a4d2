"""The Python that runs in sandboxes: an environment of its own, apart from the server's.

Rules
1. It is a virtual environment in one folder, made by ``antiphon sandbox install`` out of a lock
   file with hashes. Nothing of the server is in it.
2. In a sandbox it stands at `PLACE`, and what it needs of the Python that it was made of where that
   was: program, modules and libraries, by name. The folder that these are in is never there as a
   whole: it may be somebody's home. Whoever code runs as must be able to read both: for a server of
   root that is somebody without rights.
3. A folder is ours if it has our mark and nothing that no environment has; another one is not
   touched, unless it is empty. The mark is there first and says at last what the environment was
   made of: what was interrupted is begun anew.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final, TextIO

PLACE: Final = "/opt/python"
#: Pythons that may be there besides the one that runs.
_PYTHONS: Final = ("python3.13", "python3.12", "python3.11", "/usr/bin/python3")
_FONTS: Final = "share/matplotlib"
#: The file that says whose the folder is: the hash of the lock file, or nothing while it is made.
_MARK: Final = "antiphon-sandbox"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_MOST_MARK: Final = 100
#: What a folder of ours can have in it.
_ENTRIES: Final = frozenset(
    {*("bin", "include", "lib", "lib64", "share", "etc", "pyvenv.cfg", ".gitignore"), _MARK}
)
#: Pythons whose programs and libraries are there with those of the system.
_SYSTEM: Final = (Path("/usr"), Path("/usr/local"))
_VERSION: Final = re.compile(r"3\.\d+")
_PROGRAM: Final = re.compile(r"python[\d.]*t?")
_LIBRARY: Final = re.compile(r"lib[\w.+-]+\.so[\d.]*")
#: File descriptor for what programs say: stdout is for answers (`cli.common`).
_STDERR: Final = 2
_INSTALL: Final = "run `antiphon sandbox install`"


class NoEnvironment(Exception):
    """It is not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The folder, and what code needs of the Python that it was made of besides the system: files,
    and folders of modules. `is_current`: of our lock file."""

    folder: Path
    parts: tuple[Path, ...] = ()
    is_current: bool = True


def environment(folder: Path) -> Environment:
    """Raises `NoEnvironment`."""
    try:
        lines = (folder / "pyvenv.cfg").read_text().splitlines()
        made_of = (folder / _MARK).read_text().strip()
        python = (folder / "bin" / "python").resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise NoEnvironment(f"its Python is not installed: {_INSTALL}") from None
    words = {
        name.strip(): value.strip() for name, _, value in (one.partition("=") for one in lines)
    }
    version = _VERSION.match(words.get("version", ""))
    if not (version and made_of):
        raise NoEnvironment(f"its Python is not installed: {_INSTALL}")
    return Environment(folder, _parts(python, version[0]), made_of == _lock())


def _parts(python: Path, version: str) -> tuple[Path, ...]:
    """See rule 2. `python` is no link. Raises `NoEnvironment`."""
    base = python.parent.parent
    if base in _SYSTEM:
        return ()
    modules = [base / name / f"python{version}" for name in ("lib", "lib64")]
    if base == Path("/") or python.parent.name != "bin" or not (modules[0] / "os.py").is_file():
        raise NoEnvironment(
            f"{python} is not in a folder of a Python: {_INSTALL} with another one (--python)"
        )
    try:
        programs = [one for one in python.parent.iterdir() if _PROGRAM.fullmatch(one.name)]
        libraries = [one for one in (base / "lib").iterdir() if _LIBRARY.fullmatch(one.name)]
    except OSError:
        raise NoEnvironment(f"{base} cannot be read: {_INSTALL} with another Python") from None
    named = sorted(one for one in (*programs, *libraries) if one.is_file())
    return (*named, *(one for one in modules if one.is_dir() and not one.parent.is_symlink()))


def install(
    folder: Path, python: str | None = None, say: Callable[[str], None] = lambda _: None
) -> None:
    """Make it, of this or some Python; what is there already is made again. `say` is told of each
    step. Raises `NoEnvironment` and OSError."""
    made_of = _python(python)
    with _claimed(folder) as mark:
        _clear(folder)
        inner = str(folder / "bin" / "python")
        say(f"1/3 A virtual environment of {made_of} in {folder}")
        _run(mark, made_of, "-I", "-m", "venv", str(folder))
        say("2/3 Packages: about 100 MB to download, 400 MB on disk")
        with as_file(files("antiphon.sandbox").joinpath("requirements.txt")) as locks:
            packages = ("--require-hashes", "--only-binary=:all:", "-r", str(locks))
            _run(mark, inner, "-I", "-m", "pip", "install", "--no-input", *packages)
        say("3/3 Fonts")
        fonts = {"MPLCONFIGDIR": str(folder / _FONTS)}
        _run(mark, inner, "-I", "-c", "import matplotlib.font_manager", **fonts)
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        mark.write(_lock() + "\n")


@contextmanager
def _claimed(folder: Path) -> Iterator[TextIO]:
    """The folder is ours, and for so long nobody else makes an environment in it; its mark."""
    mark = folder / _MARK
    if os.geteuid() == 0 and not _is_open(folder.parent):
        raise NoEnvironment(
            f"for a server of root, code runs as a user who cannot read {folder.parent}: name "
            "another folder with ANTIPHON_SANDBOX, here and for the server, for example "
            "/opt/antiphon-sandbox"
        )
    if not _is_ours(folder):
        raise NoEnvironment(
            f"{folder} is no environment of Antiphon, and not empty: name another folder with "
            "ANTIPHON_SANDBOX, or move away what is there"
        )
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(mark, flags, 0o666), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoEnvironment(f"somebody else makes an environment in {folder} now") from None
        file.truncate(0)
        yield file


def _is_ours(folder: Path) -> bool:
    """Whether it may be emptied: see rule 3. Raises OSError when it cannot be read."""
    if not folder.exists():
        return not folder.is_symlink()
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or (names <= _ENTRIES and _is_mark(folder / _MARK))


def _is_mark(path: Path) -> bool:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return False
        words = file.read(_MOST_MARK).decode(errors="replace").strip()
    return not words or _HASH.fullmatch(words) is not None


def _clear(folder: Path) -> None:
    """The folder itself stays: it may be where a disk is mounted."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _MARK:
            path.unlink()


def _python(wanted: str | None) -> str:
    """That one, or one that fits. Raises `NoEnvironment`."""
    if wanted is None:
        running = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        candidates = filter(None, map(_found, (running, *_PYTHONS)))
        found = next((one for one in candidates if _is_readable(one) and _fits(one)), None)
        if found is None:
            raise NoEnvironment(
                "there is no Python 3.11 to 3.14 with venv that code could run with: name one with "
                "--python, or install the system's (Debian: python3-venv)"
            )
        return found
    path = _found(wanted)
    if path is None or not _fits(path):
        raise NoEnvironment(f"{wanted} is no Python 3.11 to 3.14 with venv")
    if not _is_readable(path):
        raise NoEnvironment(f"for a server of root, code runs as a user who cannot read {wanted}")
    return path


def _found(python: str) -> str | None:
    """Where it is, behind all links: they would lead nowhere in a sandbox."""
    path = shutil.which(python)
    return None if path is None else str(Path(path).resolve())


def _is_readable(python: str) -> bool:
    """Whether those that code runs as can read it (rule 2)."""
    return os.geteuid() != 0 or _is_open(Path(python).resolve().parent.parent)


def _is_open(folder: Path) -> bool:
    """Whether everybody may read this folder, and reach it; what is not there yet will be."""
    real = folder.resolve()
    above = (real, *real.parents)
    return all(one.stat().st_mode & 0o005 == 0o005 for one in above if one.exists())


def _fits(python: str) -> bool:
    code = "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))"
    words = (python, "-I", "-c", code)
    return subprocess.run(words, check=False, capture_output=True).returncode == 0  # noqa: S603


def _run(mark: TextIO, *words: str, **environment: str) -> None:
    """A step. Its program has the mark, too: nobody else begins as long as it runs."""
    done = subprocess.run(  # noqa: S603
        words,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        pass_fds=(mark.fileno(),),
    )
    if done.returncode:
        raise NoEnvironment(f"`{' '.join(words[:5])} …` ended with {done.returncode}")


def _lock() -> str:
    """What tells the lock file from others."""
    content = files("antiphon.sandbox").joinpath("requirements.txt").read_bytes()
    return hashlib.sha256(content).hexdigest()
