"""openai-node, old and newest, against a real server (issue 1/8, must show 2; spec §4.3)."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.backends.upstream import ChatUpstream
from tests.clients.replies import (
    FLOWS,
    SLOW,
    assert_beats_between_deltas,
    assert_upstream_got,
    needs_node,
    node_lock,
    run_node,
    script_of,
)
from tests.live import LiveServer

#: Name in ``node/package.json`` → the version that its lock has.
PACKAGES: Final = {"openai-5": "5.23.2", "openai-6": "6.49.0", "openai": "7.57.0"}

pytestmark = needs_node


def flows(server: LiveServer, folder: Path, package: str, *names: str) -> dict[str, Any]:
    summary = run_node(folder, server, "node", package, *names)
    assert summary["version"] == PACKAGES[package]
    shown: dict[str, Any] = summary["flows"]
    return shown


@pytest.mark.parametrize("package", PACKAGES)
def test_all_flows(
    server: LiveServer, upstream: ChatUpstream, tmp_path: Path, package: str
) -> None:
    upstream.script(*script_of(FLOWS))
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
    locked = node_lock("node")
    assert set(locked) == {*PACKAGES, "zod"}
    assert {name: locked[name]["version"] for name in PACKAGES} == PACKAGES
