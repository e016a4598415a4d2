"""The command line of the walls: what is in it, in which order, and what is not."""

import os
from pathlib import Path

import pytest

from antiphon.sandbox import bubblewrap
from antiphon.sandbox.base import Limits
from antiphon.sandbox.bubblewrap import Walls, command
from antiphon.sandbox.environment import Environment

LIMITS = Limits(memory=1, disk=7 << 20, scratch=3 << 20)
PYTHON = Environment(Path("/srv/antiphon/sandbox"))


def _command(walls: Walls | None = None, environment: Environment = PYTHON) -> list[str]:
    return command(walls or Walls("/usr/bin/bwrap"), environment, LIMITS, 10, 11)


def _sources(words: list[str]) -> set[str]:
    kinds = ("--bind", "--ro-bind", "--ro-bind-try", "--dev-bind", "--bind-try")
    return {words[at + 1] for at, word in enumerate(words) if word in kinds}


def test_all_namespaces_and_no_rights() -> None:
    words = _command()
    for word in ("--unshare-all", "--disable-userns", "--die-with-parent", "--new-session"):
        assert word in words
    assert "--share-net" not in words
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert "--clearenv" in words
    assert "--as-pid-1" in words


def test_what_is_there_is_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_API_KEYS", "sk-secret")
    words = _command()
    assert not [word for word in words if "sk-secret" in word]
    for source in _sources(words) - {str(PYTHON.folder), os.devnull}:
        assert source.startswith(("/usr/", "/lib", "/bin", "/sbin", "/etc/")), source
    assert not _sources(words) & {"/", "/usr", "/etc", "/home", "/root", "/var", "/run", "/tmp"}  # noqa: S108
    assert not {one for one in _sources(words) if one.startswith("/usr/src")}
    assert "--bind" not in words
    assert "--dev-bind" not in words


def test_another_python_is_there_too() -> None:
    """What it needs, and not the folder around."""
    parts = (Path("/home/me/py/bin/python3.12"), Path("/home/me/py/lib/python3.12"))
    words = _command(environment=Environment(PYTHON.folder, parts))
    assert _sources(words) - _sources(_command()) == set(map(str, parts))


def test_what_can_be_written_has_a_size() -> None:
    words = _command()
    places = [at for at, word in enumerate(words) if word == "--tmpfs"]
    assert {words[at + 1]: int(words[at - 1]) for at in places} == {
        "/dev/shm": 64 << 20,  # noqa: S108
        "/tmp": 3 << 20,  # noqa: S108
        "/run": 1 << 20,
        "/mnt/data": 7 << 20,
    }
    assert all(words[at - 2] == "--size" for at in places)


def test_it_is_closed_after_all_is_there() -> None:
    words = _command()
    root = max(at for at, word in enumerate(words) if word == "--remount-ro")
    assert words[root + 1] == "/"
    mounts = ("--ro-bind", "--tmpfs", "--proc", "--dev", "--ro-bind-data", "--symlink")
    assert all(at < root for at, word in enumerate(words) if word in mounts)
    assert words.index("--proc") < words.index("/proc", words.index("--proc") + 2)
    assert words[words.index("--seccomp") + 1] == "11"
    assert words[-1] == "--"


def test_how_the_machine_was_started_is_not_told() -> None:
    words = _command()
    at = words.index("/proc/cmdline")
    assert words[at - 2 : at] == ["--ro-bind", os.devnull]
    assert words.index("--proc") < at < words.index("--remount-ro", words.index("--dev") + 9)


def test_without_proc_or_filter() -> None:
    assert "/proc/cmdline" not in _command(Walls("bwrap", has_proc=False))
    assert "--proc" not in _command(Walls("bwrap", has_proc=False))
    assert "--seccomp" not in command(Walls("bwrap"), PYTHON, LIMITS, 10, None)


def test_the_program_of_the_system_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bubblewrap.program() == str(program)
    monkeypatch.setenv("PATH", "/nowhere")
    found = bubblewrap.program()
    assert found is None or os.access(found, os.X_OK)
    monkeypatch.setattr(bubblewrap, "find_spec", lambda _: None)
    assert bubblewrap.program() is None
