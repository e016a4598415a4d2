"""Official SDKs on the log of a response whose first maker was killed (issue 3/8, must show 1, 3).

Such a log has an item that was taken back, and indices with a gap in the final `output`: newer SDKs
throw at an index that comes twice, older ones at one that is left out (spec §4.3, decision 0005).
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import Background
from tests.api.talk import client_of
from tests.clients.replies import CLIENTS, node_client, python_client, run_flows
from tests.clients.test_openai_node import PACKAGES
from tests.clients.test_openai_versions import VERSIONS
from tests.live import KEY, LiveServer, serve

TOML: Final = '[[backends]]\nname = "simulator"\nkind = "simulator"\nmodels = ["simulator"]\n'
#: Reasoning and text, about a second of it.
SLOWLY: Final = "[[reason=6]] [[tokens=30]] [[pace=30ms]]"
#: What the first maker had said when it was killed → what it leaves half said.
MOMENTS: Final = {
    "response.reasoning_text.delta": "reasoning",
    "response.output_text.delta": "message",
}


def begun(client: httpx2.Client, moment: str) -> str:
    """The id of a response that says its third such delta."""
    jobs = Background(client)
    made = jobs.start("simulator", input=SLOWLY)
    with jobs.reading(made) as found:
        deltas = (event for event in found if event["type"] == moment)
        for _ in range(3):
            next(deltas)
    return made


@pytest.fixture(scope="module", params=MOMENTS, ids=list(MOMENTS.values()))
def taken_over(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveServer, str, str]]:
    """A server, a response that it took over from one that was killed, the type of what was half
    said."""
    folder = tmp_path_factory.mktemp("taken-over")
    with serve(folder, TOML) as live, client_of(live) as client:
        made = begun(client, request.param)
        live.process.kill()
        live.process.wait(10)
    with serve(folder, TOML) as live:
        with client_of(live) as client:
            Background(client).log(made)
        yield live, made, MOMENTS[request.param]


def test_the_log_has_an_item_that_was_taken_back(
    taken_over: tuple[LiveServer, str, str],
) -> None:
    """R-65, R-66: one log, each number once; what was taken back is not in the Response."""
    live, made, half_said = taken_over
    with client_of(live) as client:
        log = Background(client).log(made)
        shown = Background(client).get(made)
    assert assert_valid_log(log) == shown
    assert shown["status"] == "completed"
    assert [item["type"] for item in shown["output"]] == ["reasoning", "message"]
    done = [event["item"] for event in log if event["type"] == "response.output_item.done"]
    kept = {item["id"] for item in shown["output"]}
    assert [item["type"] for item in done if item["id"] not in kept][-1] == half_said
    assert [event["type"] for event in log].count("response.in_progress") == 2


def check(shown: Any, taken_over: tuple[LiveServer, str, str]) -> None:
    _, _, half_said = taken_over
    gone = 1 if half_said == "reasoning" else 2
    assert shown["indices"] == list(range(gone + 2))
    assert shown["text"].startswith("This is the simulator")


@pytest.mark.parametrize("version", VERSIONS)
def test_openai_python_reads_it(taken_over: tuple[LiveServer, str, str], version: str) -> None:
    """Raw and with the helper, from every event on."""
    live, made, _ = taken_over
    lock = VERSIONS[version]
    env = {} if lock is None else {"PYTHONPATH": str(python_client(lock))}
    command = [sys.executable, "-W", "error", str(CLIENTS / "openai_flows.py"), "replay"]
    summary = json.loads(run_flows(command, live, RESPONSE_ID=made, **env))
    assert summary["version"] == version
    check(summary["flows"]["replay"], taken_over)


@pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="NOT TESTED: openai-node needs `node` and `npm` (20 or newer), which are not installed",
)
@pytest.mark.parametrize("package", PACKAGES)
def test_openai_node_reads_it(
    taken_over: tuple[LiveServer, str, str], tmp_path: Path, package: str
) -> None:
    live, made, _ = taken_over
    shutil.copy(CLIENTS / "node" / "flows.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(node_client() / "node_modules")
    command = ["node", str(tmp_path / "flows.mjs"), package, "replay"]
    summary = json.loads(run_flows(command, live, RESPONSE_ID=made))
    assert summary["version"] == PACKAGES[package]
    check(summary["flows"]["replay"], taken_over)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_reader_stays_through_the_take_over(tmp_path: Path, moment: str) -> None:
    """R-61: who comes back to the next server with the last number misses nothing and sees nothing
    twice; the accumulating helper begins before the restart and ends after it."""
    with serve(tmp_path, TOML) as live, client_of(live) as client:
        made = begun(client, moment)
        with Background(client).reading(made) as found:
            seen = [event for event, _ in zip(found, range(5), strict=False)]
        live.process.kill()
        live.process.wait(10)
    with (
        serve(tmp_path, TOML) as live,
        openai.OpenAI(base_url=live.base_url, api_key=KEY) as sdk,
    ):
        after = seen[-1]["sequence_number"]
        rest = list(sdk.responses.retrieve(made, stream=True, starting_after=after))
        with sdk.responses.stream(response_id=made) as helper:
            helper.until_done()
            final = helper.get_final_response()
    whole = seen + [event.to_dict() for event in rest]
    assert assert_valid_log(whole)["output_text"] == final.output_text
