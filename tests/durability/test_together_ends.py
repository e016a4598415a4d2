"""How a server of two workers ends, and how it goes on when one of them does (R-65, R-73)."""

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import ENDLESS, Background, slowly
from tests.api.raw import eventually
from tests.api.talk import client_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.durability.together import Together, children, lives, serving
from tests.durability.verdict import assert_sound
from tests.live import CHAT_TOML, PROGRAM, launch

#: Seconds in which a busy machine starts a worker.
SOON: Final = 60.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def are_gone(pids: list[int], seconds: float = 10.0) -> bool:
    return eventually(lambda: not any(map(lives, pids)), seconds)


def served_again(together: Together, before: list[int]) -> bool:
    """Whether there are two workers, one of them new, which both serve."""
    return eventually(lambda: len(set(together.pids) - set(before)) == 1, SOON)


# -- one dies --------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_is_replaced(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """R-65, R-66: what it made is made to its end, once; connections that come meanwhile wait."""
    upstream.script(slowly("a", "b", "c", "d", pause=0.5))
    together = stack.enter_context(serving(tmp_path, CHAT_TOML.format(base_url=upstream.base_url)))
    jobs = [Background(client) for client in together.clients()]
    made = [one.start() for one in jobs * 6]
    assert eventually(lambda: len(upstream.requests) >= 12)
    before = together.pids
    os.kill(before[0], signal.SIGKILL)
    # With the address of the server, half of these are for the worker that is not there.
    with ExitStack() as clients:
        for _ in range(8):
            client = clients.enter_context(client_of(together.server, timeout=SOON))
            assert client.get("/health/live").status_code == 200
    assert served_again(together, before)
    assert "worker_died" in together.server.log()
    with client_of(together.server, timeout=SOON) as client:
        found = Background(client)
        for response_id in made:
            assert found.reach(response_id, "completed")["output_text"] == "abcd"
            log = found.log(response_id)
            assert_valid_log(log)
            ends = [event["type"] for event in log]
            assert ends.count("response.completed") == 1
    assert 12 < len(upstream.requests) <= 24, "those of the dead one were begun anew, no others"
    with client_of(together.server) as client:
        text = client.get("/metrics").text
    ended = re.findall(r'^antiphon_responses_total{status="completed"} (\S+)$', text, re.MULTILINE)
    assert ended == ["12.0"]


def test_one_is_replaced_when_somebody_has_tidied_up(tmp_path: Path, stack: ExitStack) -> None:
    """The folder for temporary files is everybody's."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    together = stack.enter_context(serving(tmp_path, "", {"TMPDIR": str(temporary)}))
    (folder,) = temporary.glob("antiphon-workers-*")
    shutil.rmtree(folder)
    before = together.pids
    os.kill(before[0], signal.SIGKILL)
    assert served_again(together, before)
    assert eventually(lambda: len(list(folder.glob("*.figures"))) == 2, SOON)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_workers_that_die_again_and_again_end_the_server(tmp_path: Path) -> None:
    """Whoever looks after the server shall see it."""
    with serving(tmp_path) as together:
        began = time.monotonic()
        while lives(together.server.process.pid) and time.monotonic() - began < 3 * SOON:
            if pids := together.pids:
                os.kill(pids[0], signal.SIGKILL)
            time.sleep(0.2)
        assert together.server.process.wait(10) == 1
        assert "workers_die_too_often" in together.server.log()


# -- all end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_order(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack, sig: signal.Signals
) -> None:
    """R-73: what runs may end, at both; exit status 0, and nobody is left."""
    upstream.script(slowly("a", "b", pause=0.4))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    together = stack.enter_context(serving(tmp_path, toml, {"ANTIPHON_SHUTDOWN_GRACE": "20"}))
    pids = together.pids
    clients = together.clients()
    streams = [
        stack.enter_context(
            client.stream(
                "POST", "/v1/responses", json={"model": "m", "input": "Hi", "stream": True}
            )
        )
        for client in clients
    ]
    assert eventually(lambda: len(upstream.requests) == 2)
    together.server.process.send_signal(sig)
    for stream in streams:
        assert "response.completed" in stream.read().decode()
    assert together.server.process.wait(30) == 0
    assert are_gone(pids)
    assert "Traceback" not in together.server.log()
    with pytest.raises(httpx2.ConnectError), client_of(together.server) as client:
        client.get("/health/live")
    assert_sound(tmp_path)


def test_a_second_signal_ends_all_at_once(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """R-73: with the status of the signal; the next start makes what was to be made."""
    upstream.script(ENDLESS)
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    env = {"ANTIPHON_SHUTDOWN_GRACE": "60"}
    together = stack.enter_context(serving(tmp_path, toml, env))
    pids, (client, _) = together.pids, together.clients()
    body = {"model": "m", "input": "Hi", "stream": True}
    reply = stack.enter_context(client.stream("POST", "/v1/responses", json=body))
    lines = reply.iter_lines()
    next(lines)
    together.server.process.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert lives(together.server.process.pid)
    together.server.process.send_signal(signal.SIGTERM)
    assert together.server.process.wait(10) == 128 + signal.SIGTERM
    assert are_gone(pids)


def test_no_worker_outlives_the_server(
    tmp_path: Path, upstream: ChatUpstream, stack: ExitStack
) -> None:
    """``kill -9`` of it is one of all; the next server has the port at once, and the work."""
    upstream.script(ENDLESS, ENDLESS, Reply.chat("Done"))
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    together = stack.enter_context(serving(tmp_path, toml))
    pids = together.pids
    made = [Background(client).start() for client in together.clients()]
    assert eventually(lambda: len(upstream.requests) == 2)
    together.server.kill()
    assert are_gone(pids, 5)
    port = {"ANTIPHON_PORT": str(together.server.port)}
    again = stack.enter_context(serving(tmp_path, toml, port))
    found = Background(stack.enter_context(client_of(again.server)))
    for response_id in made:
        assert found.reach(response_id, "completed")["output_text"] == "Done"


def test_not_even_a_worker_that_is_being_started(tmp_path: Path, stack: ExitStack) -> None:
    """It has its socket from its first instant on."""
    slow = "import sys, time\nif sys.flags.safe_path:\n    time.sleep(60)\n"  # ``python -P``
    (tmp_path / "sitecustomize.py").write_text(slow, encoding="utf-8")
    env = {"ANTIPHON_WORKERS": "2", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    started = launch(tmp_path, [PROGRAM, "serve"], "", env)
    stack.callback(started.stop)
    assert eventually(lambda: len(children(started.process.pid)) == 2, SOON)
    pids = children(started.process.pid)
    started.kill()
    assert are_gone(pids, 5)


# -- the start -------------------------------------------------------------------------------------


def outcome(folder: Path, env: dict[str, str], toml: str | None = None) -> tuple[int, str]:
    """Exit status of a start that is refused, and why."""
    started = launch(folder, [PROGRAM, "serve"], toml, {"ANTIPHON_WORKERS": "2", **env})
    status = started.process.wait(SOON)
    if started.process.stdout is not None:
        started.process.stdout.close()
    return status, started.log().splitlines()[-1]


_UP: Final = (
    '[[backends]]\nname = "up"\nkind = "chat_completions"\nbase_url = "http://127.0.0.1:1"\n'
)


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    status, why = outcome(tmp_path, {"ANTIPHON_DATABASE_URL": "memory://"})
    assert (status, "memory://" in why) == (2, True)
    status, why = outcome(tmp_path, {}, _UP + "max_concurrency = 1\n")
    assert (status, "max_concurrency = 1" in why) == (2, True)


def test_a_port_that_is_in_use_is_refused(tmp_path: Path) -> None:
    """Also when another server of several workers has it, which would let it be shared."""
    (tmp_path / "other").mkdir()
    with serving(tmp_path) as together:
        status, why = outcome(tmp_path / "other", {"ANTIPHON_PORT": str(together.server.port)})
    assert (status, "in use" in why) == (3, True)


def test_the_first_key_is_shown_once_and_is_everybodys(tmp_path: Path) -> None:
    started = launch(tmp_path, [PROGRAM, "serve", "--workers", "2"], env={"ANTIPHON_API_KEYS": ""})
    try:
        url = started.wait_for_url()
        key = started.wait_for(re.compile(r"sk-antiphon-\S+$"))
        assert len(children(started.process.pid)) == 2
        for _ in range(12):
            with httpx2.Client(headers={"authorization": f"Bearer {key}"}, verify=False) as client:
                assert client.get(f"{url}/models").status_code == 200
    finally:
        started.stop()
