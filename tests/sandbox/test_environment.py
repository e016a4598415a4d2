"""Reading what an environment says of itself; `install` is tested with its command."""

from pathlib import Path

import pytest

from antiphon.sandbox import environment as module
from antiphon.sandbox.environment import NoEnvironment, environment
from tests.sandbox_environment import sandbox_environment


def test_the_one_of_the_tests_is_whole() -> None:
    found = environment(sandbox_environment())
    assert found.is_current
    assert (found.folder / "bin" / "python").exists()
    assert all(part.exists() for part in found.parts)


#: Of a Python of the system.
_CONFIG = b"home = /usr/bin\nversion = 3.11.2\n"


def _made(folder: Path, config: bytes = _CONFIG, mark: bytes = b"x", python: str = "") -> Path:
    """A folder that says it is an environment of `python`, a path."""
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(python or "/usr/bin/env")
    (folder / "pyvenv.cfg").write_bytes(config)
    (folder / "antiphon-sandbox").write_bytes(mark)
    return folder


def _prefix(folder: Path) -> Path:
    """Somebody's home, with a Python in it that was built there, and much else."""
    for name in ("bin", "lib/python3.11", "lib64/python3.11", "thesis"):
        (folder / name).mkdir(parents=True)
    for name in (
        "bin/python3.11",
        "bin/secret",
        "lib/python3.11/os.py",
        "lib/libpython3.11.so.1.0",
    ):
        (folder / name).touch()
    (folder / "lib/libx.sock").touch()
    (folder / "bin/python3").symlink_to("python3.11")
    return folder


def test_of_another_python_it_has_what_it_needs(tmp_path: Path) -> None:
    """Never the folder around: that may be a home."""
    home = _prefix(tmp_path / "home")
    (tmp_path / "made").mkdir()
    made = _made(tmp_path / "made", python=str(home / "bin/python3"))
    needed = ("bin/python3", "bin/python3.11", "lib/libpython3.11.so.1.0")
    folders = ("lib/python3.11", "lib64/python3.11")
    assert set(environment(made).parts) == {home / name for name in (*needed, *folders)}


def test_a_link_to_the_system_needs_nothing_of_its_place(tmp_path: Path) -> None:
    for name in ("bin", "made"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/python3").symlink_to("/usr/bin/env")
    config = f"home = {tmp_path}/bin\nversion = 3.11.2\n".encode()
    assert (
        environment(_made(tmp_path / "made", config, b"x", f"{tmp_path}/bin/python3")).parts == ()
    )


@pytest.mark.parametrize("lacks", ["lib/python3.11/os.py", ""])
def test_a_folder_of_no_python_is_refused(lacks: str, tmp_path: Path) -> None:
    home = _prefix(tmp_path / "home")
    (tmp_path / "made").mkdir()
    if lacks:
        (home / lacks).unlink()
    else:
        (home / "bin").rename(home / "tools")
    python = home / ("bin" if lacks else "tools") / "python3.11"
    with pytest.raises(NoEnvironment, match=r"is not in a folder of a Python.*--python"):
        environment(_made(tmp_path / "made", python=str(python)))


def test_the_root_is_no_folder_of_a_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(NoEnvironment):
        module._parts(Path("/bin/python3"), "3.11")


@pytest.mark.parametrize("config", [b"", b"home = /usr/bin\n", b"versions = 3.12\n", b"\xff"])
def test_half_an_environment_is_none(config: bytes, tmp_path: Path) -> None:
    with pytest.raises(NoEnvironment, match="not installed"):
        environment(_made(tmp_path, config))


@pytest.mark.parametrize("mark", [b"", b"\xff\xfe"])
def test_one_that_is_not_finished_is_none(mark: bytes, tmp_path: Path) -> None:
    made = _made(tmp_path, mark=mark)
    with pytest.raises(NoEnvironment):
        environment(made)
    (made / "antiphon-sandbox").unlink()
    with pytest.raises(NoEnvironment):
        environment(made)


def test_one_whose_python_is_gone_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoEnvironment, match="not installed"):
        environment(_made(tmp_path, python=str(tmp_path / "gone")))


def test_one_of_another_lock_file_is_not_current(tmp_path: Path) -> None:
    made = _made(tmp_path, b"include = no\nversion = 3.12.1\n", b"of before")
    assert not environment(made).is_current
