"""Every official SDK, old and newest, opens what a server delivers (spec §2.5, R-93)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from openai import OpenAI

from tests.clients.replies import CLIENTS, node_client, python_client
from tests.clients.test_openai_node import PACKAGES
from tests.clients.test_openai_versions import VERSIONS
from tests.live import KEY, serve
from tests.receiver import Receiver

_LIMIT: Final = 60
_PYTHON: Final = """
import json, sys, openai
given = json.load(sys.stdin)
client = openai.OpenAI(api_key="k", webhook_secret=given["secret"])
try:
    event = client.webhooks.unwrap(given["body"], given["headers"])
    print(event.to_json(indent=None))
except openai.OpenAIError as error:
    print(json.dumps({"thrown": type(error).__name__}))
except ValueError as error:  # what 1.x throws
    print(json.dumps({"thrown": type(error).__name__}))
"""


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One delivery of a live server: what a program reads from its standard input."""
    env = {"ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.0/8"}
    folder = tmp_path_factory.mktemp("webhooks")
    with (
        Receiver() as receiver,
        serve(folder, env=env) as server,
        OpenAI(base_url=server.base_url, api_key=KEY) as client,
    ):
        made = client.webhooks.create(
            name="hook", url=receiver.url, event_types=["response.completed"]
        )
        client.responses.create(model="simulator", input="Hi", background=True)
        (got,) = receiver.wait(1)
        yield {
            "body": got.body.decode(),
            "headers": got.headers,
            "secret": made.signing_secret,
        }


def opened(command: list[str], given: dict[str, Any], **env: str) -> dict[str, Any]:
    done = subprocess.run(
        command,
        input=json.dumps(given),
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    event: dict[str, Any] = json.loads(done.stdout)
    return event


@pytest.mark.parametrize("version", VERSIONS)
def test_python(delivered: dict[str, Any], version: str) -> None:
    lock = VERSIONS[version]
    env = {} if lock is None else {"PYTHONPATH": str(python_client(lock))}
    command = [sys.executable, "-c", _PYTHON]
    assert opened(command, delivered, **env) == json.loads(delivered["body"])
    changed = {**delivered, "body": delivered["body"].replace("completed", "failed")}
    assert "thrown" in opened(command, changed, **env)


@pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="NOT TESTED: openai-node needs `node` and `npm` (20 or newer), which are not installed",
)
@pytest.mark.parametrize("package", PACKAGES)
def test_node(delivered: dict[str, Any], tmp_path: Path, package: str) -> None:
    shutil.copy(CLIENTS / "node" / "unwrap.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(node_client() / "node_modules")
    command = ["node", str(tmp_path / "unwrap.mjs"), package]
    assert opened(command, delivered) == json.loads(delivered["body"])
    changed = {**delivered, "body": delivered["body"].replace("completed", "failed")}
    assert opened(command, changed) == {"thrown": "InvalidWebhookSignatureError"}
