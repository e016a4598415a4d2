"""Wall clocks decide about no lease and no timeout (R-77)."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from antiphon.testing import assert_valid_log
from tests.api.background import Background, slowly
from tests.api.talk import client_of
from tests.backends.upstream import ChatUpstream
from tests.live import CHAT_TOML, serve, work

HOUR: Final = 3600
#: Python runs this at its start: the clock of the process is wrong by what a file says.
WRONG_CLOCK: Final = """
import pathlib, time

_right, _offset = time.time, pathlib.Path({path!r})
time.time = lambda: _right() + float(_offset.read_text())
"""


class Clock:
    """The wall clock of one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._offset = folder / "offset"
        self.set(0)
        code = WRONG_CLOCK.format(path=str(self._offset))
        (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
        self.env = {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}

    def set(self, offset: float) -> None:
        """Let it be wrong by `offset` seconds."""
        draft = self._offset.with_suffix(".new")
        draft.write_text(str(offset), encoding="utf-8")
        draft.rename(self._offset)


def test_clocks_that_are_wrong_and_jump(tmp_path: Path, upstream: ChatUpstream) -> None:
    """Server and worker are two hours apart, and both jump while a response is made: it stays with
    its worker, no timeout fires, and nothing is out of order."""
    servers, workers = Clock(tmp_path / "server"), Clock(tmp_path / "worker")
    servers.set(HOUR)
    workers.set(-HOUR)
    env = {"ANTIPHON_LEASE": "1", "ANTIPHON_RUN_TIMEOUT": "60"}
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    with ExitStack() as stack:
        nothing = {"ANTIPHON_BACKGROUND_RUNS": "0"}
        live = stack.enter_context(serve(tmp_path, toml, {**env, **servers.env, **nothing}))
        for _ in range(2):
            stack.enter_context(work(tmp_path, env={**env, **workers.env}))
        jobs = Background(stack.enter_context(client_of(live)))
        upstream.script(slowly(*"abcdefgh", pause=0.4))
        ids = [jobs.start() for _ in range(3)]
        for server, worker in ((-HOUR, HOUR), (0, -3 * HOUR), (3 * HOUR, 0)):
            time.sleep(0.8)
            servers.set(server)
            workers.set(worker)
        for id_ in ids:
            assert jobs.reach(id_, "completed")["output_text"] == "abcdefgh"
            log = jobs.log(id_)
            assert_valid_log(log)
            assert [event["type"] for event in log].count("response.in_progress") == 1
        assert len(upstream.requests) == len(ids)
        created = [jobs.get(id_)["created_at"] - time.time() for id_ in ids]
        assert all(HOUR - 60 < ahead < HOUR + 60 for ahead in created), created
        assert "owner_died" not in live.log()
