"""Servers that are killed again and again lose nothing that they said (issue 2/8, must show 1).

``KILL_ROUNDS=200`` makes it long; ``python -m tests.durability.kill_loop`` is the same without
pytest.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.api.talk import client_of
from tests.clients.replies import node_client, run_flows
from tests.clients.test_openai_node import PACKAGES
from tests.durability.kill_loop import run
from tests.durability.verdict import Aftermath, Found, judge, read_all, was_taken_over

ROUNDS: Final = int(os.environ.get("KILL_ROUNDS", "10"))
REPLAY: Final = Path(__file__).parent / "replay.mjs"
#: Logs that each version of openai-node replays.
SAMPLE: Final = 8


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """A dozen rounds, and the server after them."""
    left = asyncio.run(run(tmp_path_factory.mktemp("killed"), ROUNDS, seed=ROUNDS))
    yield left
    left.server.stop()


@pytest.fixture(scope="module")
def found(aftermath: Aftermath) -> Found:
    """Every log."""
    with client_of(aftermath.server) as client:
        return read_all(client, aftermath.witnesses)


@pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="NOT TESTED: openai-node needs `node` and `npm` (20 or newer), which are not installed",
)
@pytest.mark.parametrize("package", PACKAGES)
def test_openai_node_replays_every_log(
    aftermath: Aftermath, found: Found, tmp_path: Path, package: str
) -> None:
    """Logs in which somebody else went on come first."""
    ids = sorted(found.logs, key=lambda id_: not was_taken_over(found.logs[id_]))
    ids = [id_ for id_ in ids if found.body(id_)["status"] != "cancelled"][:SAMPLE]
    shutil.copy(REPLAY, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_client() / "node_modules")
    command = ["node", str(tmp_path / REPLAY.name), package, *ids]
    replayed = json.loads(run_flows(command, aftermath.server))
    for response_id in ids:
        body, got = found.body(response_id), replayed[response_id]
        text = body["output_text"] if body["status"] == "completed" else body["error"]["code"]
        assert (got["status"], got["text"]) == (body["status"], text)
        assert got["numbers"] == list(range(len(got["numbers"])))


def test_nothing_is_lost_and_nothing_is_unsaid(aftermath: Aftermath) -> None:
    """R-61, R-62, R-63, R-65, R-66, R-68; the replays of openai-python are part of it."""
    summary = judge(aftermath)
    assert summary.taken_over > 0
    assert summary.calls > 0
