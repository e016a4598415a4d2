"""openai-node, old and newest, against a real server (issue 1/8, must show 2; spec §4.3)."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from tests.backends.upstream import ChatUpstream
from tests.clients.replies import (
    CLIENTS,
    FLOWS,
    SCRIPT,
    SLOW,
    assert_beats_between_deltas,
    assert_upstream_got,
    node_client,
    run_flows,
)
from tests.live import LiveServer

#: Name in ``node/package.json`` → the version that its lock has.
PACKAGES: Final = {"openai-5": "5.23.2", "openai-6": "6.49.0", "openai": "7.57.0"}

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="NOT TESTED: openai-node needs `node` and `npm` (20 or newer), which are not installed",
)


def flows(server: LiveServer, folder: Path, package: str, *names: str) -> dict[str, Any]:
    """Node looks for packages beside the program: it is copied, they are linked."""
    shutil.copy(CLIENTS / "node" / "flows.mjs", folder)
    (folder / "node_modules").symlink_to(node_client() / "node_modules")
    summary = json.loads(run_flows(["node", str(folder / "flows.mjs"), package, *names], server))
    assert summary["version"] == PACKAGES[package]
    shown: dict[str, Any] = summary["flows"]
    return shown


@pytest.mark.parametrize("package", PACKAGES)
def test_all_flows(
    server: LiveServer, upstream: ChatUpstream, tmp_path: Path, package: str
) -> None:
    upstream.script(*SCRIPT)
    assert list(flows(server, tmp_path, package)) == list(FLOWS)
    assert_upstream_got(upstream.requests)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_stream_helper_survives_heartbeats(
    restless: LiveServer, upstream: ChatUpstream, tmp_path: Path, package: str
) -> None:
    """Design §5: comments, and response.in_progress in the middle for clients that need bytes."""
    upstream.script(SLOW)
    assert_beats_between_deltas(flows(restless, tmp_path, package, "stream")["stream"])


def test_the_lock_names_no_address() -> None:
    """R-134: whole, hashed, and from wherever the machine's own npm is set up to look."""
    text = (CLIENTS / "node" / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text.replace("https://github.com/sponsors/", "")
    packages = json.loads(text)["packages"]
    locked = {path.removeprefix("node_modules/"): entry for path, entry in packages.items()}
    root = locked.pop("")
    assert set(locked) == set(root["dependencies"])
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert {name: locked[name]["version"] for name in PACKAGES} == PACKAGES
