"""Code that runs when processes die, stop, or change their mind (R-58, R-66, R-113)."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.raw import eventually
from tests.api.talk import Json, client_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve, work
from tests.sandbox_environment import sandbox_environment

PYTHON: Final = {"type": "code_interpreter", "container": {"type": "auto"}}
WRITES: Final = "x = 1; open('/mnt/data/kept.txt', 'w').write('kept')"
WAITS: Final = "open('/mnt/data/lost.txt', 'w').write('lost')\nimport time; time.sleep(50)"


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    return {"ANTIPHON_SANDBOX": str(sandbox_environment()), "ANTIPHON_LEASE": "1"}


def script(upstream: ChatUpstream, *codes: str) -> str:
    """A turn for each code, then an answer; the configuration."""
    asked = [Reply.calls(("code_interpreter", {"code": code})) for code in codes]
    upstream.script(*asked, Reply.chat("Done."))
    return CHAT_TOML.format(base_url=upstream.base_url)


def begin(api: httpx2.Client, **more: Any) -> str:
    body = {"model": "m", "input": "Go.", "tools": [PYTHON], "background": True, **more}
    made = api.post("/v1/responses", json={**body, "include": ["code_interpreter_call.outputs"]})
    id_: str = made.json()["id"]
    return id_


def replay(api: httpx2.Client, id_: str) -> Json:
    found = events(api.get(f"/v1/responses/{id_}", params={"stream": "true"}).text)
    return assert_valid_log(found)


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    waiting = [pid]
    while waiting:
        yield (one := waiting.pop())
        for task in Path(f"/proc/{one}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())


def sandboxed(server: LiveServer) -> list[int]:
    """The processes of sandboxes of a server."""
    return [
        pid
        for pid in family(server.process.pid)
        if b"inside.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        or b"ipykernel" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def is_gone(pid: int) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return b"inside.py" not in line and b"ipykernel" not in line


def until_it_waits(server: LiveServer, upstream: ChatUpstream, turns: int) -> list[int]:
    """Until the code of that turn runs; the processes of its sandbox."""
    assert eventually(lambda: len(upstream.requests) == turns and len(sandboxed(server)) > 2, 20)
    time.sleep(0.5)
    return sandboxed(server)


def test_kill_9_ends_sandboxes_and_leaves_files(
    tmp_path: Path, upstream: ChatUpstream, env: dict[str, str]
) -> None:
    """The call that ran has failed; the next one has the files, and no variables."""
    toml = script(upstream, WRITES, WAITS, "print(open('/mnt/data/kept.txt').read()); x")
    with serve(tmp_path, toml, env) as server, client_of(server) as api:
        id_ = begin(api)
        pids = until_it_waits(server, upstream, 2)
        server.kill()
    assert eventually(lambda: all(map(is_gone, pids)), 2), "R-113"
    mounts = Path("/proc/self/mounts").read_text()
    assert not any(word in mounts for word in ("/mnt/data", "newroot", env["ANTIPHON_SANDBOX"]))
    with serve(tmp_path, toml, env) as server, client_of(server) as api:
        final = replay(api, id_)
        calls = final["output"][:3]
        files = api.get(f"/v1/containers/{calls[0]['container_id']}/files").json()["data"]
    assert [call["status"] for call in calls] == ["completed", "failed", "completed"]
    assert "outcome is unknown" in calls[1]["outputs"][0]["logs"]
    assert calls[2]["outputs"][0]["logs"].startswith("kept")
    assert "NameError" in calls[2]["outputs"][0]["logs"]
    assert len({call["container_id"] for call in calls}) == 1
    assert [file["path"] for file in files] == ["/mnt/data/kept.txt"]
    assert "started anew" in str(upstream.requests[-1].json["messages"][-1])


def test_an_orderly_end_ends_sandboxes(
    tmp_path: Path, upstream: ChatUpstream, env: dict[str, str]
) -> None:
    with serve(tmp_path, script(upstream, WRITES), env) as server, client_of(server) as api:
        replay(api, begin(api))
        pids = sandboxed(server)
        assert len(pids) > 2, "it stays for the next call"
    assert eventually(lambda: all(map(is_gone, pids)), 2)


def test_a_cancel_interrupts_the_code(
    tmp_path: Path, upstream: ChatUpstream, env: dict[str, str]
) -> None:
    """R-58: and the session goes on with the next response."""
    toml = script(upstream, WRITES, "while True: pass")
    with serve(tmp_path, toml, env) as server, client_of(server) as api:
        id_ = begin(api)
        until_it_waits(server, upstream, 2)
        assert api.post(f"/v1/responses/{id_}/cancel").json()["status"] == "cancelled"
        script(upstream, "x")
        began = time.monotonic()
        container = api.get(f"/v1/responses/{id_}").json()["output"][0]["container_id"]
        final = replay(api, begin(api, tools=[{**PYTHON, "container": container}]))
        assert time.monotonic() - began < 5
    assert final["output"][0]["outputs"] == [{"type": "logs", "logs": "1"}]


def test_a_client_that_leaves_interrupts_the_code(
    tmp_path: Path, upstream: ChatUpstream, env: dict[str, str]
) -> None:
    """R-53: the processors are free again."""
    with (
        serve(tmp_path, script(upstream, "while True: pass"), env) as server,
        client_of(server) as api,
    ):
        body = {"model": "m", "input": "Go.", "tools": [PYTHON], "stream": True}
        with api.stream("POST", "/v1/responses", json=body) as reply:
            for line in reply.iter_lines():
                if "interpreting" in line:
                    break
            time.sleep(1)
        pids = sandboxed(server)

        def spent() -> float:
            """Seconds of processors."""
            stats = [Path(f"/proc/{pid}/stat").read_text() for pid in pids if not is_gone(pid)]
            ticks = sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)
            return ticks / os.sysconf("SC_CLK_TCK")

        def is_idle() -> bool:
            before = spent()
            time.sleep(0.5)
            return spent() - before < 0.1

        assert eventually(is_idle, 10)


def test_a_server_and_a_worker_share_a_container(
    tmp_path: Path, upstream: ChatUpstream, env: dict[str, str]
) -> None:
    """Files go with it, variables do not, and the model is told."""
    toml = script(upstream, WRITES)
    alone = {**env, "ANTIPHON_BACKGROUND_RUNS": "0"}
    with serve(tmp_path, toml, alone) as server, client_of(server) as api:
        body = {"model": "m", "input": "Go.", "tools": [PYTHON]}
        first = api.post("/v1/responses", json=body).json()
        with work(tmp_path, toml, env):
            script(upstream, "print(open('/mnt/data/kept.txt').read()); x = 2")
            final = replay(api, begin(api, previous_response_id=first["id"]))
        assert final["output"][0]["container_id"] == first["output"][0]["container_id"]
        assert final["output"][0]["outputs"][0]["logs"] == "kept"
        assert "started anew" in str(upstream.requests[-1].json["messages"][-1])
