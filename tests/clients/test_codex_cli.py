"""Codex itself, `codex exec`, against a real server: a command that it runs, and what it says then.

Rules
1. It works in a folder of the test, with a home of its own; the only commands are those that the
   upstream asks for. Its own sandbox is off: not every machine has one.
2. With full access Codex asks for live web search, which is refused without a provider: it is off.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.clients.replies import SLOW, call, needs_node, node_client, node_lock, said
from tests.live import KEY, LiveServer

VERSION: Final = "0.171.0"
CONFIG: Final = """
model = "m"
model_provider = "antiphon"
model_reasoning_summary = "auto"
check_for_update_on_startup = false
web_search = "disabled"

[analytics]
enabled = false

[features]
plugins = false

[model_providers.antiphon]
name = "Antiphon"
base_url = "{base_url}"
env_key = "ANTIPHON_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
COMMAND: Final = json.dumps({"cmd": "echo hi > made.txt; cat made.txt"})
RUN: Final = said(
    sse(chunk(reasoning_content="A file is needed.")),
    sse(chunk(tool_calls=[call(0, "call_x", "exec_command", COMMAND)])),
    finish="tool_calls",
)
_TIMEOUT: Final = 100

pytestmark = needs_node


def codex(server: LiveServer, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """What ``codex exec --json`` says, item by item."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    config = CONFIG.format(base_url=server.base_url)
    (home / "config.toml").write_text(config, encoding="utf-8")
    program = node_client("codex") / "node_modules" / ".bin" / "codex"
    done = subprocess.run(
        [program, "exec", "--json", "--skip-git-repo-check", "--strict-config", *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CODEX_HOME": str(home),
            "ANTIPHON_KEY": KEY,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nserver:\n{server.log()}"
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [event["item"] for event in told if event["type"] == "item.completed"]


def test_it_runs_a_command_and_goes_on_later(
    server: LiveServer, upstream: ChatUpstream, tmp_path: Path
) -> None:
    upstream.script(RUN, Reply.chat("It ", "is made."), Reply.chat("You are welcome."))
    full = "--dangerously-bypass-approvals-and-sandbox"
    _, thought, ran, answer = codex(server, tmp_path, full, "Make a file.")
    assert (thought["type"], thought["text"]) == ("reasoning", "A file is needed.")
    assert (ran["type"], ran["exit_code"]) == ("command_execution", 0)
    assert (answer["type"], answer["text"]) == ("agent_message", "It is made.")
    assert (tmp_path / "made.txt").read_text(encoding="utf-8") == "hi\n"
    asked, done = upstream.requests[1].json["messages"][-2:]
    assert asked["tool_calls"][0]["id"] == done["tool_call_id"] == "call_x"
    assert done["content"].endswith("hi\n")
    *_, answer = codex(server, tmp_path, full, "resume", "--last", "Thanks.")
    assert answer["text"] == "You are welcome."
    roles = [message["role"] for message in upstream.requests[2].json["messages"]]
    assert roles[-5:] == ["user", "assistant", "tool", "assistant", "user"]


def test_it_asks_for_web_search_from_the_cache_and_survives_heartbeats(
    restless: LiveServer, upstream: ChatUpstream, tmp_path: Path
) -> None:
    """As it is set up when nobody says anything: nothing may be written, the web is a cache."""
    upstream.script(SLOW)
    *_, answer = codex(restless, tmp_path, "-c", 'web_search="cached"', "Hi")
    assert answer["text"] == "Hello"
    names = [tool["function"]["name"] for tool in upstream.requests[0].json["tools"]]
    assert {"exec_command", "web_search", "open_page"} <= set(names)


def test_the_lock_names_no_address() -> None:
    assert node_lock("codex")["@openai/codex"]["version"] == VERSION
