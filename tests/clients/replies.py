"""What the upstream says while a client runs its flows, and where old clients are installed.

Rules
1. `openai_flows.py` and `node/flows.mjs` do the same flows in the same order: one script for both.
   The last reply is an error that no flow asks for: one request too many is seen.
2. A client that is not in the dev lock is installed from its own lock into the environment that
   runs the tests (`sys.prefix`), once for each content of the lock; never into the tree.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.backends.upstream import DONE, Reply, Request, Step, chunk, sse
from tests.live import KEY, LiveServer

CLIENTS: Final = Path(__file__).parent
REQUIREMENTS: Final = CLIENTS.parents[1] / "requirements"
_INSTALL_TIMEOUT: Final = 300
_FLOWS_TIMEOUT: Final = 120


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
_ADA: Final = Reply.chat('{"name":"Ada",', '"age":36}')
_SUNNY: Final = Reply.chat("Both are sunny.")
_HALF: Final = said(sse(chunk(content="half")), finish="length")
_CUT: Final = Reply(body=[sse(chunk(content="half")), 0.1, "cut"])
_LIMITED: Final = Reply.json({"error": {}}, 429, retry_after="7")
_TOO_MANY: Final = Reply.json({"error": {"message": "no flow asks for this"}}, 418)

#: Flow → what the upstream answers meanwhile. The order is that of the flows.
FLOWS: Final[dict[str, Sequence[Reply]]] = {
    "create": [Reply.chat("Hello")],
    "events": [Reply.chat("Hel", "lo", " there")],
    "stream": [Reply.chat("Hel", "lo")],
    "parse": [_ADA, _ADA],
    "tools_chained": [TWO_CALLS, _SUNNY],
    "tools_whole_history": [TWO_CALLS, _SUNNY],
    "custom_tool": [calling(("call_c", "shout", '{"input":"LOUD"}')), Reply.chat("Heard.")],
    "reasoning": [said(sse(chunk(reasoning_content="Let me think.")), sse(chunk(content="42")))],
    "refusal": [said(sse(chunk(refusal="I cannot."))), said(sse(chunk(refusal="I cannot.")))],
    "image": [Reply.chat("A cat.")],
    "input_items": [Reply.chat("Hello"), Reply.chat("Hello")],
    "retrieve_and_delete": [Reply.chat("Hello")],
    "incomplete": [_HALF, _HALF],
    "failed": [_CUT, _CUT],
    "errors": [_LIMITED, _LIMITED],
    "background": [Reply.chat("Hello", pause=0.2)],
    "background_resume": [Reply.chat("Hel", "lo", " there", pause=0.2)],
    "background_stream": [Reply.chat('{"name":"Ada",', '"age":36}', pause=0.2)],
    "background_cancel": [Reply(body=[sse(chunk(content="Hel")), "stall"]), Reply.chat("Hello")],
    "background_failed": [_CUT],
}
SCRIPT: Final = [*(reply for replies in FLOWS.values() for reply in replies), _TOO_MANY]
#: A pause in the middle of the answer, longer than every heartbeat of the server under test.
SLOW: Final = Reply(body=[sse(chunk(content="Hel")), 1.0, *said(sse(chunk(content="lo"))).body])


def assert_upstream_got(requests: Sequence[Request]) -> None:
    """What the flows of every client make of the conversation, as the model sees it."""
    assert len(requests) == len(SCRIPT) - 1
    bodies = iter([request.json for request in requests])
    sent = {flow: [next(bodies) for _ in replies] for flow, replies in FLOWS.items()}
    assert sent["create"][0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    for flow in ("tools_chained", "tools_whole_history"):
        user, turn, *outputs = sent[flow][1]["messages"]
        assert user == {"role": "user", "content": "Paris and Rome?"}
        assert [call["id"] for call in turn["tool_calls"]] == ["call_a", "call_b"]
        assert [(out["role"], out["tool_call_id"], out["content"]) for out in outputs] == [
            ("tool", "call_a", "sunny call_a"),
            ("tool", "call_b", "sunny call_b"),
        ]
    for body in sent["parse"]:
        schema = body["response_format"]["json_schema"]
        assert schema["strict"] is True
        assert schema["schema"]["required"] == ["name", "age"]
    kinds = [part["type"] for part in sent["image"][0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url", "image_url"]


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


def python_client(lock: str) -> Path:
    """The folder with the packages of ``requirements/<lock>.txt``, for ``PYTHONPATH``."""
    path = REQUIREMENTS / f"{lock}.txt"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
    command = [*pip, "--require-hashes", "--requirement", str(path), "--target", "."]
    return _installed(lock, [path], command)


def node_client() -> Path:
    """The folder with ``node_modules`` from ``node/package-lock.json``."""
    files = [CLIENTS / "node" / "package.json", CLIENTS / "node" / "package-lock.json"]
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    return _installed("node", files, command)


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
