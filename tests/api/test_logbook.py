"""The log neither floods nor stops the server, and says no secrets (R-119, R-130)."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from antiphon.api.limits import WireLimits
from antiphon.api.logs import MAX_TRACE
from tests.api.log_app import SECRET
from tests.api.raw import replies, serving
from tests.api.watch import cpu_seconds_of


def started(form: str, what: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.api.log_app", form, what],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(what: str, form: str = "json") -> str:
    with started(form, what) as program:
        said, log = program.communicate(timeout=30)
    assert (program.returncode, said) == (0, "")
    assert "the end" in log.splitlines()[-1], "a line after the close is written too"
    return log


def events(what: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(what).splitlines()[:-1]]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_logged_exception_is_short_and_without_keys(form: str) -> None:
    """Whoever logs it: our own loggers or those of the standard library."""
    log = written("deep", form)
    assert log.count("RuntimeError") == 2
    assert "run_crashed" in log
    assert "Task exception was never retrieved" in log
    assert "_dig" in log
    assert len(log) < 2 * (MAX_TRACE + 300)
    assert SECRET not in log
    assert "\x1b" not in log


def test_every_line_is_json_when_it_shall_be() -> None:
    ours, foreign = events("deep")
    assert {"event", "level", "timestamp", "exception"} == ours.keys() == foreign.keys()
    assert (ours["level"], foreign["level"]) == ("error", "error")
    assert abs(len(ours["timestamp"]) - len(foreign["timestamp"])) <= 1


def test_few_traces_of_a_kind_are_written_and_the_rest_is_counted() -> None:
    """R-119: another kind is not lost in the flood of the first."""
    said = events("kinds")
    crashes = [line["exception"].rsplit("\n", 1)[-1] for line in said if "exception" in line]
    assert sum(line.startswith("ValueError") for line in crashes) == 5
    assert sum(line.startswith("KeyError") for line in crashes) == 1
    (more,) = (line for line in said if line["event"] == "more_traces_of_a_kind")
    assert more["count"] == 295
    assert more["kind"].startswith("ValueError in kinds:")
    assert said.index(more) < [line["event"] for line in said].index("later")


def test_nothing_is_lost_at_a_normal_end() -> None:
    assert [line["number"] for line in events("lines")] == list(range(1500))


def test_the_mistake_of_a_library_is_a_line_and_its_keys_are_starred() -> None:
    mistaken, with_key = events("mistaken")
    assert mistaken["event"] == "%d of %d"
    assert with_key["event"] == "Authorization: Bearer ****"


def test_a_log_that_is_read_late_stops_nobody() -> None:
    """10,000 lines, of which the pipe holds a few dozen and the queue some: none is lost unsaid."""
    with started("json", "late") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdin is not None
        assert float(program.stdout.readline()) < 0.5
        heard = [program.stderr.readline() for _ in range(1000)]
        print(file=program.stdin, flush=True)
        heard += program.stderr.readlines()
    said = [json.loads(line) for line in heard]
    dropped = sum(line["count"] for line in said if line["event"] == "log_lines_dropped")
    assert sum(line["event"] == "line" for line in said) + dropped == 10_000
    assert "read again" in [line["event"] for line in said]


def test_a_log_that_is_never_read_does_not_keep_the_program() -> None:
    with started("json", "stuck") as program:
        assert program.stdout is not None
        assert float(program.stdout.readline()) < 0.5
        began = time.monotonic()
        assert program.wait(10) == 0
        assert time.monotonic() - began < 8


def test_a_thousand_crashing_requests_hold_nobody_up() -> None:
    """R-118, R-119, R-131: each gets its 500, the log some lines, and the loop goes on."""
    with serving(WireLimits()) as wire:
        crash = b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n" * 10
        worst = 0.0
        for _ in range(100):
            with wire.connect() as sock:
                sock.sendall(crash[:-2] + b"Connection: close\r\n\r\n")
                began, worked = time.monotonic(), cpu_seconds_of(wire.pid)
                assert wire.get("/count").status == 200
                waited = time.monotonic() - began
                worst = max(worst, min(waited, cpu_seconds_of(wire.pid) - worked))
                received = b""
                while chunk := sock.recv(1 << 16):
                    received += chunk
            assert [answer.status for answer in replies(received)] == [500] * 10
        assert worst < 0.1
        time.sleep(1.2)  # until those left out are counted
        lines = [line for line in wire.log().splitlines() if '"event": "request"' not in line]
        said = [json.loads(line) for line in lines]
        crashed = sum(line["event"] == "unhandled exception" for line in said)
        assert crashed <= 20
        assert crashed + sum(line.get("count", 0) for line in said) == 1000
        assert sum(map(len, lines)) < 16 * 1024
