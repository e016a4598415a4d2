"""Starting: keys, settings, configuration files and databases that cannot be used (C, M)."""

import re
import socket
import time
from pathlib import Path
from typing import Final

import pytest

from tests.api.command import Case, Outcome, antiphon, outcomes
from tests.api.raw import eventually
from tests.api.talk import client_of, create
from tests.live import KEY, LiveServer, serve

NO_KEYS = {"ANTIPHON_API_KEYS": ""}


def banner(live: LiveServer) -> str:
    """What the start printed behind its first line."""
    lines = []
    assert live.process.stdout is not None
    for line in live.process.stdout:
        lines.append(line)
        if "curl" in line:
            break
    return "".join(lines)


def allowed(live: LiveServer, key: str) -> bool:
    with client_of(live, key) as client:
        status = client.get("/v1/models").status_code
    assert status in (200, 401)
    return status == 200


def files_of(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.glob("antiphon.db*"))


# -- keys ----------------------------------------------------------------------------------------


def test_the_first_start_makes_a_key_and_shows_it_once(tmp_path: Path) -> None:
    """Never an open server (R-35); the key is stored as a hash only (R-28)."""
    with serve(tmp_path, env=NO_KEYS) as live:
        shown = banner(live)
        (key,) = set(re.findall(r"sk-antiphon-[\w-]{43}", shown))
        assert "shown only now" in shown
        assert f"Authorization: Bearer {key}" in shown
        assert not allowed(live, "sk-other")
        with client_of(live, key) as client:
            create(client, "simulator")
        with client_of(live, None) as stranger:
            assert stranger.get("/v1/models").status_code == 401
    with serve(tmp_path, env=NO_KEYS) as live:
        assert "sk-antiphon-" not in banner(live)
        assert allowed(live, key)
    assert key.encode() not in files_of(tmp_path)
    assert key not in (tmp_path / "stderr.log").read_text()


def test_a_start_that_cannot_listen_keeps_no_key_to_itself(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = antiphon(tmp_path, "serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (3, "")
    assert "already in use" in done.stderr
    with serve(tmp_path, env=NO_KEYS) as live:
        assert "shown only now" in banner(live)


def keys(folder: Path, *commands: list[str]) -> list[Outcome]:
    """``antiphon keys …`` on the database in `folder`, one after the other."""
    env = {"ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/antiphon.db"}
    return outcomes([Case(["keys", *command], env) for command in commands])


def test_keys_of_the_command_line(tmp_path: Path) -> None:
    """R-28, R-37: created, listed and revoked beside a running server, in force within 5 s."""
    with serve(tmp_path) as live:
        assert "sk-antiphon-" not in banner(live)  # one is configured: none is made
        create_key = ["create", "--name", "laptop", "--project", "first"]
        foreign, made, listed = keys(tmp_path, ["create", "--project", "x"], create_key, ["list"])
        key = made.stdout.strip()
        assert re.fullmatch(r"sk-antiphon-[\w-]{43}", key)
        with client_of(live, key) as client, client_of(live, KEY) as colleague:
            mine = create(client, "simulator")
            assert colleague.get(f"/v1/responses/{mine['id']}").status_code == 200
        with client_of(live, foreign.stdout.strip()) as stranger:
            assert stranger.get(f"/v1/responses/{mine['id']}").status_code == 404

        (line,) = (line for line in listed.stdout.splitlines() if "laptop" in line)
        key_id, hint, project, _, state, name = line.split("\t")
        assert (project, state, name) == ("first", "active", "laptop")
        assert hint == "…" + key[-4:]
        assert key[:-4] not in listed.stdout
        assert key.encode() not in files_of(tmp_path)

        revoke = ["revoke", key_id]
        *revoked, listed = keys(tmp_path, ["revoke", "key_unknown"], revoke, revoke, ["list"])
        began = time.monotonic()
        assert [outcome.code for outcome in revoked] == [1, 0, 1]
        assert listed.stdout.count("\trevoked\t") == 1
        assert eventually(lambda: not allowed(live, key), within=6)
        assert time.monotonic() - began <= 5.2
        assert allowed(live, KEY)
        assert key not in live.log()


# -- what refuses to start -----------------------------------------------------------------------

_UP = '[[backends]]\nname = "up"\nkind = "chat_completions"\nbase_url = "http://127.0.0.1:1/v1"\n'


def _with_toml(toml: str) -> Case:
    return Case(["serve", "--check"], files={"antiphon.toml": toml})


def _with_env(name: str, value: str) -> Case:
    return Case(["serve", "--check"], env={name: value})


#: A start that is refused, and what the message must name.
BAD: Final[list[tuple[Case, str]]] = [
    (_with_toml("[[backends"), "antiphon.toml"),
    (_with_toml("backends = 5\n"), "backends"),
    (_with_toml("[server]\nport = 1\n"), "server"),
    (_with_toml(_UP + "colour = 'red'\n"), "backends.0.colour"),
    (_with_toml(_UP + "max_retries = 'many'\n"), "backends.0.max_retries"),
    (_with_toml(_UP + "idle_timeout = 0\n"), "backends.0.idle_timeout"),
    (_with_toml(_UP + "api_key_env = 'NOT_SET'\n"), "NOT_SET"),
    (_with_toml(_UP + "profile = 'nobody'\n"), "nobody"),
    (_with_toml(_UP + _UP), "same name"),
    (_with_toml(_UP.replace("chat_completions", "telepathy")), "backends.0.kind"),
    (_with_toml(_UP.replace('"http://127.0.0.1:1/v1"', '""')), "base_url"),
    (_with_toml("\xed\xa0\x80"), "antiphon.toml"),
    (_with_env("ANTIPHON_PROT", "8000"), "ANTIPHON_PROT"),
    (_with_env("ANTIPHON_API_KEY", KEY), "ANTIPHON_API_KEY"),
    (_with_env("ANTIPHON_PORT", "eighty"), "ANTIPHON_PORT"),
    (_with_env("ANTIPHON_PORT", "70000"), "ANTIPHON_PORT"),
    (
        _with_env("ANTIPHON_CORS_ORIGINS", "https://a.example,https://b.example/"),
        "b.example/' is no",
    ),
    (_with_env("ANTIPHON_CORS_ORIGINS", "a.example"), "ANTIPHON_CORS_ORIGINS"),
    (_with_env("ANTIPHON_LOG_LEVEL", "loud"), "ANTIPHON_LOG_LEVEL"),
    (_with_env("ANTIPHON_WORKERS", "0"), "ANTIPHON_WORKERS"),
    (Case(["serve", "--workers", "65", "--check"]), "ANTIPHON_WORKERS"),
    (_with_env("ANTIPHON_RETENTION_DAYS", "-1"), "ANTIPHON_RETENTION_DAYS"),
    (_with_env("ANTIPHON_RUN_TIMEOUT", "0"), "ANTIPHON_RUN_TIMEOUT"),
    (_with_env("ANTIPHON_API_KEYS", "a key with spaces"), "ANTIPHON_API_KEYS, entry 1"),
    (_with_env("ANTIPHON_API_KEYS", f"a:b,{KEY}:bad project"), "ANTIPHON_API_KEYS, entry 2"),
    (_with_env("ANTIPHON_ENCRYPTION_KEYS", "short"), "ANTIPHON_ENCRYPTION_KEYS, entry 1"),
    (_with_env("ANTIPHON_CONFIG", "/" + "x" * 300), "File name too long"),
    (Case(["serve", "--config", "/" + "x" * 300, "--check"]), "File name too long"),
    (_with_env("ANTIPHON_DATA_DIR", "/" + "x" * 300), "File name too long"),
    (_with_env("ANTIPHON_DATABASE_URL", "mysql://x"), "No store for mysql:// URLs"),
    (Case(["serve", "--check"], files={".env": "ANTIPHON_PROT=1\n"}), "ANTIPHON_PROT"),
    (Case(["serve", "--check"], files={".env": "X=\xe9\n"}), ".env: "),
    (Case(["serve", "--port", "70000", "--check"]), "ANTIPHON_PORT"),
    (Case(["serve", "--config", "/nonexistent.toml", "--check"]), "/nonexistent.toml: there is no"),
    (Case(["models"], files={"antiphon.toml": "backends = 5"}), "backends"),
    (Case(["migrate"], env={"ANTIPHON_DATABASE_URL": "mysql://x"}), "SQLite URL"),
    (Case(["keys", "list"], env={"ANTIPHON_DATABASE_URL": "mysql://x"}), "mysql"),
    (Case(["keys", "list"], env={"ANTIPHON_DATABASE_URL": "sqlite:////no/x.db"}), "/no"),
]


@pytest.fixture(scope="module")
def refusals() -> list[Outcome]:
    """What became of `BAD`; behind them, two that are good."""
    optional = _with_env("ANTIPHON_CONFIG", "/nonexistent.toml")  # as in the container image
    return outcomes([*(case for case, _ in BAD), optional, _with_toml(_UP)])


@pytest.mark.parametrize("place", range(len(BAD)), ids=[message for _, message in BAD])
def test_a_start_that_is_refused(refusals: list[Outcome], place: int) -> None:
    """R-132: exit status 2, one line with the place and the reason, no trace, no key."""
    outcome, message = refusals[place], BAD[place][1]
    assert outcome.code == 2, outcome
    assert outcome.stdout == ""
    line = outcome.stderr.splitlines()[-1]
    assert line.startswith("antiphon: ")
    assert message in line
    assert "Traceback" not in outcome.stderr
    assert KEY not in outcome.stderr
    assert outcome.left == []


def test_a_good_configuration_can_be_checked(refusals: list[Outcome]) -> None:
    for outcome in refusals[-2:]:
        assert (outcome.code, outcome.stderr, outcome.left) == (0, "", [])


def test_a_process_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "antiphon.toml").write_text("backends = 5")
    done = antiphon(tmp_path, "serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("antiphon: ")


def test_a_damaged_database(tmp_path: Path) -> None:
    """R-78: refused with a clear message, and not touched."""
    path = tmp_path / "antiphon.db"
    path.write_bytes(b"this is no database at all, " * 200)
    before = path.read_bytes()
    done = antiphon(tmp_path, "serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"antiphon: The database {path} is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
