"""openai-python, old and newest, in processes of their own (issue 1/8, must show 2)."""

import json
import sys
from typing import Any, Final

import openai
import pytest

from tests.backends.upstream import ChatUpstream
from tests.clients.replies import (
    CLIENTS,
    FLOWS,
    SLOW,
    assert_beats_between_deltas,
    assert_upstream_got,
    python_client,
    python_lock,
    run_flows,
    script_of,
)
from tests.live import LiveServer

#: Version → its lock; the newest is in the dev lock.
VERSIONS: Final = {
    "1.109.1": "clients-openai-1.109",
    "2.8.1": "clients-openai-2.8",
    openai.__version__: None,
}


def flows(server: LiveServer, version: str, *names: str) -> dict[str, Any]:
    lock = VERSIONS[version]
    env = {} if lock is None else {"PYTHONPATH": str(python_client(lock))}
    command = [sys.executable, "-W", "error", str(CLIENTS / "openai_flows.py"), *names]
    summary = json.loads(run_flows(command, server, **env))
    assert summary["version"] == version
    shown: dict[str, Any] = summary["flows"]
    return shown


@pytest.mark.parametrize("version", VERSIONS)
def test_all_flows(server: LiveServer, upstream: ChatUpstream, version: str) -> None:
    upstream.script(*script_of(FLOWS))
    shown = flows(server, version)
    assert list(shown) == list(FLOWS)
    assert_upstream_got(upstream.requests)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stream_helper_survives_heartbeats(
    restless: LiveServer, upstream: ChatUpstream, version: str
) -> None:
    """Design §5: comments, and response.in_progress in the middle for clients that need bytes."""
    upstream.script(SLOW)
    assert_beats_between_deltas(flows(restless, version, "stream")["stream"])


@pytest.mark.parametrize("version", [version for version, lock in VERSIONS.items() if lock])
def test_the_locks_of_old_versions_name_no_address(version: str) -> None:
    assert f"\nopenai=={version} " in python_lock(f"{VERSIONS[version]}")
