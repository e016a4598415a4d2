"""``antiphon doctor`` and ``antiphon backup``: what they say, and with which exit status."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.command import Case, Outcome, outcomes
from tests.sandbox_environment import sandbox_environment

URL = "ANTIPHON_DATABASE_URL"
#: Never a server of a test: port 1 needs rights that nobody has here.
NOBODY = (
    '[[backends]]\nname = "gone"\nkind = "chat_completions"\nbase_url = "http://127.0.0.1:1/v1"'
)


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """A port that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def findings(outcome: Outcome) -> list[tuple[str, str]]:
    return [(found["level"], found["text"]) for found in json.loads(outcome.stdout)]


def diagnosis(files: dict[str, str] | None = None, **env: str) -> Outcome:
    (done,) = outcomes([Case(["doctor", "--json"], env, files or {})])
    assert done.stderr == ""
    return done


def test_a_folder_where_nothing_was_started_is_fine() -> None:
    done = diagnosis()
    assert done.code == 0
    assert "error" not in {level for level, _ in findings(done)}
    assert any("the first start makes it" in text for _, text in findings(done))
    assert done.left == [], "a question makes no file"


def test_files_in_a_bucket_are_fine() -> None:
    done = diagnosis(ANTIPHON_BLOBS="s3://bucket/prefix", AWS_REGION="eu-central-1")
    assert (done.code, done.left) == (0, [])
    assert "error" not in {level for level, _ in findings(done)}


def test_backends_that_take_no_connections_are_named(listening: int) -> None:
    """A warning: the others work, and it may come back."""
    here = NOBODY.replace("gone", "here").replace(":1/", f":{listening}/")
    done = diagnosis({"antiphon.toml": f"{NOBODY}\n{here}\n"})
    assert done.code == 0
    said = findings(done)
    (gone,) = (text for level, text in said if "'gone'" in text and level == "warning")
    assert "127.0.0.1:1" in gone
    assert "refused" in gone
    assert ("ok", f"Backend 'here' at 127.0.0.1:{listening} takes connections.") in said


@pytest.mark.parametrize(
    ("files", "env", "says"),
    [
        ({"antiphon.toml": "backends = 5"}, {}, "antiphon.toml"),
        ({"antiphon.db": "this is no database at all, " * 200}, {}, "antiphon.db"),
        ({}, {"ANTIPHON_MIN_FREE_DISK": str(1 << 60)}, "ANTIPHON_MIN_FREE_DISK"),
        ({}, {URL: "postgres://host/x"}, "postgres"),
        ({}, {URL: "sqlite+aiosqlite:////nowhere/x.db"}, "no folder /nowhere"),
        ({"antiphon.toml": NOBODY.replace("127.0.0.1:1", "a..b")}, {}, "base_url"),
    ],
)
def test_what_keeps_a_server_from_working_is_an_error(
    files: dict[str, str], env: dict[str, str], says: str
) -> None:
    done = diagnosis(files, **env)
    assert done.code == 1
    errors = [text for level, text in findings(done) if level == "error"]
    assert len(errors) == 1
    assert says in errors[0]


def test_what_code_interpreter_lacks_is_a_warning() -> None:
    """R-105, R-109: it is refused then; all else works."""
    done = diagnosis(ANTIPHON_SANDBOX="/nowhere")
    (why,) = (text for level, text in findings(done) if level == "warning" and "code_inter" in text)
    assert "`antiphon sandbox install`" in why
    assert done.code == 0


def test_what_holds_code_interpreter_is_said() -> None:
    done = diagnosis(ANTIPHON_SANDBOX=str(sandbox_environment()))
    (what,) = (text for level, text in findings(done) if level == "ok" and "code_inter" in text)
    assert what.startswith("code_interpreter runs code behind bubblewrap.")


def test_a_python_of_another_version_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to("/usr/bin/env")
    (tmp_path / "antiphon-sandbox").write_text("of another lock file\n")
    (done,) = outcomes([Case(["doctor", "--json"], {"ANTIPHON_SANDBOX": str(tmp_path)})])
    said = findings(done)
    assert any("another version" in text and level == "warning" for level, text in said)


def test_a_diagnosis_for_people() -> None:
    (done,) = outcomes([Case(["doctor"], {URL: "memory://"})])
    assert done.code == 0
    assert done.stdout.splitlines()[-1] == "ok      Nothing is kept: the database is memory://."


@pytest.mark.parametrize(
    ("arguments", "files", "env", "says"),
    [
        (["backup", "copy.db"], {}, {}, "There is no database"),
        (["backup", "copy.db"], {}, {URL: "memory://"}, "memory://"),
        (["backup", "taken"], {"antiphon.db": "", "taken": "mine"}, {}, "taken exists"),
        (["worker"], {}, {URL: "memory://"}, "memory:// is nobody else's memory"),
        (["worker"], {}, {"ANTIPHON_BACKGROUND_RUNS": "0"}, "makes nothing"),
        (["worker", "--config", "none.toml"], {}, {}, "none.toml: there is no such file"),
        (["worker"], {"antiphon.db": "no database, " * 400}, {}, "damaged"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], files: dict[str, str], env: dict[str, str], says: str
) -> None:
    """R-132."""
    (done,) = outcomes([Case(arguments, env, files)])
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("antiphon: ")
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "copy.db" not in done.left
