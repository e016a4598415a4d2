"""``antiphon keys``: what it refuses, in one line and before anything is stored (R-132)."""

import pytest

from antiphon import __version__
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


def test_the_version() -> None:
    (done,) = outcomes([Case(["--version"])])
    assert (done.code, done.stdout, done.stderr, done.left) == (
        0,
        f"antiphon {__version__}\n",
        "",
        [],
    )
