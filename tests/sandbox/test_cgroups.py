"""Groups of sandboxes: where they may be made, what is written, and that they go again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from antiphon.sandbox.cgroups import Cgroups, Group


def _own(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "own"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def _first(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    for name in ("memory", "pids", "cpu"):
        (root / name).mkdir(parents=True)
    return root


def test_without_any_there_is_an_empty_group(tmp_path: Path) -> None:
    for groups in (
        Cgroups(tmp_path / "none", tmp_path / "none"),
        Cgroups(tmp_path, _own(tmp_path, "0::/")),
    ):
        assert groups.limits == frozenset()
        group = groups.make(1, 1)
        assert group == Group()
        assert group.doors == ()
        assert group.remove()


def test_v1_is_used_where_this_process_is_at_the_root(tmp_path: Path) -> None:
    own = _own(tmp_path, "3:memory:/of/somebody", "2:pids:/", "1:cpu,cpuacct:/", "0::/")
    groups = Cgroups(_first(tmp_path), own)
    assert groups.limits == {"pids", "cpu"}


def test_v2_is_used_where_the_group_above_is_ours(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    own = root / "antiphon.service" / "server"
    own.mkdir(parents=True)
    for folder in (own, own.parent, root):
        for name in ("cgroup.controllers", "cgroup.type", "cgroup.procs"):
            (folder / name).write_text("")
    control = own.parent / "cgroup.subtree_control"
    control.write_text("cpu memory pids")
    line = _own(tmp_path, "0::/antiphon.service/server")
    assert Cgroups(root, line).limits == {"memory", "pids", "cpu"}
    group = Cgroups(root, line).make(5, 6)
    assert group.folders[0].parent == own.parent
    assert group.doors == (str(group.folders[0] / "cgroup.procs"),)
    assert group.remove()
    assert Cgroups(root, _own(tmp_path, "0::/")).limits == frozenset()


def test_groups_of_the_dead_are_removed(tmp_path: Path) -> None:
    root = _first(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, live = (root / "pids" / f"antiphon-{pid}-0" for pid in (gone.pid, os.getppid()))
    dead.mkdir()
    live.mkdir()
    Cgroups(root, _own(tmp_path, "1:pids:/")).reap()
    assert not dead.exists()
    assert live.exists()


def _is_root_of(limit: str) -> bool:
    return limit in Cgroups().limits


@pytest.mark.skipif(not _is_root_of("pids"), reason="no cgroup for pids may be made here")
def test_the_kernel_keeps_to_it() -> None:
    group = Cgroups().make(1 << 30, 5)
    code = (
        "import os, sys\n"
        "for door in sys.argv[1:]: open(door, 'w').write(str(os.getpid()))\n"
        "made = 0\ntry:\n  while True:\n"
        "    if not os.fork(): __import__('time').sleep(99)\n    made += 1\n"
        "except OSError: print(made, flush=True)\nos.killpg(0, 9)"
    )
    words = [sys.executable, "-c", code, *group.doors]
    done = subprocess.run(
        words, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.stdout == "4\n"
    for _ in range(50):
        if group.remove():
            break
        time.sleep(0.05)
    assert not any(folder.exists() for folder in group.folders)
