"""``antiphon keys``: what it refuses, in one line and before anything is stored (R-132)."""

import json

import pytest
import structlog

from antiphon import __version__
from antiphon.api.logs import MAX_TRACE
from antiphon.cli import configure_logging
from antiphon.settings import Settings
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


def _dig(depth: int, secret: str) -> None:
    """Fails `depth` calls deep with the secret in a message of many lines."""
    if depth == 0:
        raise RuntimeError(f"\x1b[31m\n{secret}\n" * 2000)
    _dig(depth - 1, secret)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_logged_exception_is_short_and_without_keys(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-119, R-130: whoever logs it, as `run_crashed` does."""
    secret = "sk-antiphon-abcdefghijklmnop"
    configure_logging(Settings.model_validate({"log_format": log_format}))
    log = structlog.get_logger()
    try:
        _dig(300, secret)
    except RuntimeError:
        log.exception("run_crashed")
    finally:
        structlog.reset_defaults()
    line = capsys.readouterr().err
    assert "run_crashed" in line
    assert "RuntimeError" in line
    assert "_dig" in line
    assert len(line) < MAX_TRACE + 200
    assert secret not in line
    assert "\x1b" not in line
    if log_format == "json":
        assert isinstance(json.loads(line)["exception"], str)
