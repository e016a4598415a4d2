"""``antiphon keys``: what it refuses, in one line and before anything is stored (R-132)."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from antiphon import __version__
from antiphon.cli.common import Group
from tests.api.command import Case, outcomes


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["--project", "no such: project"], {}, "a project is 1 to 64 letters"),
        (["--name", "laptop\nkey_forged"], {}, "a name has only printable characters"),
        # The key would be gone with the process that made it.
        ([], {"ANTIPHON_DATABASE_URL": "memory://"}, "memory:// keeps no keys"),
    ],
)
def test_a_key_that_is_not_made(arguments: list[str], env: dict[str, str], says: str) -> None:
    (done,) = outcomes([Case(["keys", "create", *arguments], env)])
    assert (done.code, done.stdout, done.left) == (2, "", [])
    assert done.stderr.startswith(f"antiphon: {says}")


def test_the_keys_of_sealed_contents(tmp_path: Path) -> None:
    """Issue: key rotation. Old keys stay until they are dropped."""
    env = {"ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/antiphon.db"}

    def played(*commands: list[str]) -> list[tuple[int, list[str]]]:
        done = outcomes([Case(["keys", *command], env) for command in commands])
        return [(one.code, (one.stdout or one.stderr).splitlines()) for one in done]

    nothing, first, second, listed = played(
        ["list-encryption"], ["rotate-encryption"], ["rotate-encryption"], ["list-encryption"]
    )
    assert nothing == (0, [])
    old, new = (line.split()[0] for _, (line,) in (first, second))
    assert [line.split("\t")[::2] for line in listed[1]] == [[new, "seals"], [old, "opens"]]
    gone, again, rest = played(
        ["drop-encryption", new], ["drop-encryption", new], ["list-encryption"]
    )
    assert gone == (0, [f"{new} is dropped."])
    assert again == (1, [f"antiphon: no encryption key {new}"])
    assert [line.split("\t")[::2] for line in rest[1]] == [[old, "seals"]]


def test_keys_that_the_environment_gives_are_rotated_there() -> None:
    env = {"ANTIPHON_ENCRYPTION_KEYS": "x" * 32}
    commands = ["rotate-encryption", "list-encryption", "drop-encryption x"]
    for done in outcomes([Case(["keys", *command.split()], env) for command in commands]):
        assert (done.code, done.stdout, done.left) == (2, "", [])
        assert done.stderr.startswith("antiphon: ANTIPHON_ENCRYPTION_KEYS is set")


def test_the_version() -> None:
    (done,) = outcomes([Case(["--version"])])
    assert (done.code, done.stdout, done.stderr, done.left) == (
        0,
        f"antiphon {__version__}\n",
        "",
        [],
    )


def test_it_is_a_module_too() -> None:
    """For who has an interpreter but no ``PATH``."""
    asked = [sys.executable, "-m", "antiphon", "--version"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == f"antiphon {__version__}\n"


def test_ctrl_c_ends_a_command_silently() -> None:
    @click.command()
    def wait() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(Group(commands=[Group("inner", commands=[wait])]), ["inner", "wait"])
    assert (done.exit_code, done.output) == (130, "")
