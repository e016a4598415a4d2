"""What the upstream says while a client runs its flows, and where clients are installed.

Rules
1. `openai_flows.py` and `node/flows.mjs` do the same flows in the same order: one script for both.
   The last reply is an error that no flow asks for: one request too many is seen.
2. A client that is not in the dev lock is installed from its own lock into the environment that
   runs the tests (`sys.prefix`), once for each content of the lock; never into the tree.
3. Locks are whole and hashed, and name no address: packages come from wherever the machine's own
   pip and npm are set up to look (R-134).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from tests.backends.upstream import DONE, Reply, Request, Step, chunk, sse
from tests.live import KEY, LiveServer

CLIENTS: Final = Path(__file__).parent
REQUIREMENTS: Final = CLIENTS.parents[1] / "requirements"
_INSTALL_TIMEOUT: Final = 300
_FLOWS_TIMEOUT: Final = 120
#: Flow → what the upstream answers meanwhile, in the order of the flows.
Flows: TypeAlias = Mapping[str, Sequence[Reply]]

needs_node: Final = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="NOT TESTED: it needs `node` and `npm` (20 or newer), which are not installed",
)


def call(index: int, id_: str, name: str, arguments: str) -> dict[str, Any]:
    """The first fragment of a tool call, as chat-completions servers send it."""
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": id_, "type": "function", "function": function}


def said(*steps: Step, finish: str = "stop") -> Reply:
    """`steps`, then the finish reason, usage and ``[DONE]``."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    body = [*steps, sse(chunk(finish=finish)), sse({"choices": [], "usage": usage}), DONE]
    return Reply(body=body)


def calling(*calls: tuple[str, str, str]) -> Reply:
    """One turn of whole tool calls: (call id, name, arguments)."""
    parts = (sse(chunk(tool_calls=[call(n, *parts)])) for n, parts in enumerate(calls))
    return said(*parts, finish="tool_calls")


#: The tool that the calls below are for.
WEATHER: Final[dict[str, Any]] = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
#: Two parallel calls whose fragments interleave.
TWO_CALLS: Final = said(
    sse(chunk(tool_calls=[call(0, "call_a", "weather", '{"city"')])),
    sse(chunk(tool_calls=[call(1, "call_b", "weather", '{"city":"Rome"}')])),
    sse(chunk(tool_calls=[{"index": 0, "function": {"arguments": ':"Paris"}'}}])),
    finish="tool_calls",
)
#: A call that the model thinks about first.
THOUGHT: Final = said(
    sse(chunk(reasoning_content="I need the weather.")),
    sse(chunk(tool_calls=[call(0, "call_a", "weather", '{"city":"Rome"}')])),
    finish="tool_calls",
)
ADA: Final = Reply.chat('{"name":"Ada",', '"age":36}')
SUNNY: Final = Reply.chat("Both are sunny.")
HALF: Final = said(sse(chunk(content="half")), finish="length")
CUT: Final = Reply(body=[sse(chunk(content="half")), 0.1, "cut"])
LIMITED: Final = Reply.json({"error": {}}, 429, retry_after="7")
_TOO_MANY: Final = Reply.json({"error": {"message": "no flow asks for this"}}, 418)

#: The flows of the official SDKs.
FLOWS: Final[Flows] = {
    "create": [Reply.chat("Hello")],
    "events": [Reply.chat("Hel", "lo", " there")],
    "stream": [Reply.chat("Hel", "lo")],
    "parse": [ADA, ADA],
    "tools_chained": [TWO_CALLS, SUNNY],
    "tools_whole_history": [TWO_CALLS, SUNNY],
    "custom_tool": [calling(("call_c", "shout", '{"input":"LOUD"}')), Reply.chat("Heard.")],
    "reasoning": [said(sse(chunk(reasoning_content="Let me think.")), sse(chunk(content="42")))],
    "refusal": [said(sse(chunk(refusal="I cannot."))), said(sse(chunk(refusal="I cannot.")))],
    "image": [Reply.chat("A cat.")],
    "input_items": [Reply.chat("Hello"), Reply.chat("Hello")],
    "retrieve_and_delete": [Reply.chat("Hello")],
    "incomplete": [HALF, HALF],
    "failed": [CUT, CUT],
    "errors": [LIMITED, LIMITED],
    "background": [Reply.chat("Hello", pause=0.2)],
    "background_resume": [Reply.chat("Hel", "lo", " there", pause=0.2)],
    "background_stream": [Reply.chat('{"name":"Ada",', '"age":36}', pause=0.2)],
    "background_cancel": [Reply(body=[sse(chunk(content="Hel")), "stall"]), Reply.chat("Hello")],
    "background_failed": [CUT],
    "container_files": [],
}
#: A pause in the middle of the answer, longer than every heartbeat of the server under test.
SLOW: Final = Reply(body=[sse(chunk(content="Hel")), 1.0, *said(sse(chunk(content="lo"))).body])


def script_of(flows: Flows) -> list[Reply]:
    """For `ChatUpstream.script`."""
    return [*(reply for replies in flows.values() for reply in replies), _TOO_MANY]


def sent_in(flows: Flows, requests: Sequence[Request]) -> dict[str, list[Any]]:
    """Flow → the bodies that the upstream got meanwhile."""
    assert len(requests) == sum(map(len, flows.values()))
    bodies = iter([request.json for request in requests])
    return {flow: [next(bodies) for _ in replies] for flow, replies in flows.items()}


def assert_upstream_got(requests: Sequence[Request]) -> None:
    """What the flows of every client make of the conversation, as the model sees it."""
    sent = sent_in(FLOWS, requests)
    assert sent["create"][0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    for flow in ("tools_chained", "tools_whole_history"):
        assert_both_ran(sent[flow][1]["messages"], "sunny call_a", "sunny call_b")
    for body in sent["parse"]:
        schema = body["response_format"]["json_schema"]
        assert schema["strict"] is True
        assert schema["schema"]["required"] == ["name", "age"]
    kinds = [part["type"] for part in sent["image"][0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url", "image_url"]


def assert_both_ran(messages: Sequence[Any], *outputs: str) -> None:
    """The model sees the question, `TWO_CALLS` and their outputs, and nothing else."""
    user, turn, *told = messages
    assert (user["role"], said_in(user)) == ("user", "Paris and Rome?")
    assert [call["id"] for call in turn["tool_calls"]] == ["call_a", "call_b"]
    assert [(out["role"], out["tool_call_id"], said_in(out)) for out in told] == [
        ("tool", "call_a", outputs[0]),
        ("tool", "call_b", outputs[1]),
    ]


def said_in(message: Any) -> str:
    """The text of a message, in either of its forms."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def assert_beats_between_deltas(types: Sequence[str]) -> None:
    """`SLOW` through the fixture `restless`: events in the pause, not only comments."""
    first, second = (n for n, type_ in enumerate(types) if type_ == "response.output_text.delta")
    assert 2 <= types[first:second].count("response.in_progress") <= 6


def run_flows(command: Iterable[str], server: LiveServer, **env: str) -> str:
    """Run a program with the SDKs' own variables for address and key; its standard output."""
    done = subprocess.run(
        list(command),
        env={
            "PATH": os.environ["PATH"],
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": KEY,
            **env,
        },
        capture_output=True,
        text=True,
        timeout=_FLOWS_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nserver:\n{server.log()}"
    return done.stdout


def run_python(server: LiveServer, program: str, lock: str, *arguments: str) -> Any:
    """What a program beside this module prints, run with the packages of `lock`."""
    command = [sys.executable, str(CLIENTS / program), *arguments]
    return json.loads(run_flows(command, server, PYTHONPATH=str(python_client(lock))))


def python_client(lock: str) -> Path:
    """The folder with the packages of ``requirements/<lock>.txt``, for ``PYTHONPATH``."""
    path = REQUIREMENTS / f"{lock}.txt"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
    command = [
        *pip,
        "--no-compile",
        "--require-hashes",
        "--requirement",
        str(path),
        "--target",
        ".",
    ]
    return _installed(lock, [path], command)


def node_client(name: str = "node") -> Path:
    """The folder with ``node_modules`` from the lock in the folder `name`."""
    files = [CLIENTS / name / "package.json", CLIENTS / name / "package-lock.json"]
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    return _installed(name, files, command)


def run_node(folder: Path, server: LiveServer, name: str, *arguments: str) -> Any:
    """What ``flows.mjs`` of `name` prints. Node looks for packages beside the program: it is copied
    to `folder`, they are linked."""
    shutil.copy(CLIENTS / name / "flows.mjs", folder)
    (folder / "node_modules").symlink_to(node_client(name) / "node_modules")
    return json.loads(run_flows(["node", str(folder / "flows.mjs"), *arguments], server))


def node_lock(name: str) -> dict[str, Any]:
    """The packages of a lock of npm, of which every one is hashed and none has an address."""
    text = (CLIENTS / name / "package-lock.json").read_text(encoding="utf-8")
    assert not re.search(r"://(?!github\.com/sponsors/)", text)
    packages: dict[str, Any] = json.loads(text)["packages"]
    locked = {path.removeprefix("node_modules/"): entry for path, entry in packages.items() if path}
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    return locked


def python_lock(lock: str) -> str:
    """A lock of pip without addresses; that every package is hashed, pip itself holds."""
    text = (REQUIREMENTS / f"{lock}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert set(re.findall(r"(?<!\S)--?[a-z-]+", text)) == {"--hash"}
    return text


def _installed(name: str, files: Sequence[Path], command: Sequence[str]) -> Path:
    """Run `command` in a new folder with copies of `files`, unless that has been done before."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}".encode()
    digest = hashlib.sha256(version + b"".join(path.read_bytes() for path in files)).hexdigest()
    folder = Path(sys.prefix) / "clients" / f"{name}-{digest[:16]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}-"))
    try:
        for path in files:
            shutil.copy(path, draft)
        done = subprocess.run(
            list(command),
            cwd=draft,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        # Another worker may have been quicker: then its folder stays.
        if not folder.exists():
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
