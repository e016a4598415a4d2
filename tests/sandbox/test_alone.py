"""A process that has sandboxes: killed it leaves nothing; the walls hold for an ordinary user."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from antiphon.sandbox.cgroups import Cgroups
from tests.sandbox.bench import SECRET
from tests.sandbox.cases import ESCAPES
from tests.sandbox_environment import sandbox_environment

_ROOT = Path(__file__).parents[2]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.sandbox.alone", *words]


def _mounts() -> list[str]:
    """Those of sandboxes: where bubblewrap puts them, and what they have."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "newroot" in line or "antiphon-sandbox" in line]


def _groups() -> set[Path]:
    return set(Path("/sys/fs/cgroup").glob("*/antiphon-*")) | set(
        Path("/sys/fs/cgroup").glob("antiphon-*")
    )


def test_nothing_is_left_of_a_server_that_is_killed() -> None:
    """R-113."""
    started = subprocess.Popen(
        _command("hold", str(sandbox_environment()), "2"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
    assert started.stdout is not None
    family = json.loads(started.stdout.readline())
    assert len(family) >= 8
    groups = _groups()
    started.kill()
    started.wait()
    started.stdout.close()
    until = time.monotonic() + 2
    while left := [pid for pid in family if Path(f"/proc/{pid}/exe").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.02)
    assert _mounts() == []
    ours = {group for group in groups if f"antiphon-{started.pid}-" in group.name}
    while ours & _groups():  # the next start of a sandbox removes them
        assert time.monotonic() < until + 2
        Cgroups().reap()
        time.sleep(0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is who runs all tests here")
def test_walls_hold_for_an_ordinary_user(tmp_path: Path) -> None:
    """No root, no setpriv: the sandbox has the user of the server, whose files it must not see."""
    folder = sandbox_environment()
    user = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
    if subprocess.run([*user, "test", "-r", __file__], check=False).returncode:
        pytest.skip("an ordinary user cannot read this checkout: it is below a folder of root's")
    command = _command("try", str(folder), *ESCAPES, f"--key={SECRET}")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": "/nowhere",
        "ANTIPHON_API_KEYS": SECRET,
    }
    done = subprocess.run(
        [*user, *command],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said.pop("unusable") == [""]
    assert said.pop("left") == []
    assert said.keys() == ESCAPES.keys()
    for name, (ending, text) in said.items():
        assert ending == "ok", f"{name}: {text}"
        assert "no:" in text, name
        assert "YES" not in text, f"{name}: {[x for x in text.splitlines() if 'YES' in x]}"
        assert SECRET not in text
