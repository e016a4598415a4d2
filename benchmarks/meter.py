"""Servers as child processes on cores of their own, and what they use (Linux: ``/proc``).

Rules
1. CPU is user and system time of a process and all its children, living and gone, in seconds.
2. A server gets the first core, the generator and the upstream share the last, so that neither
   takes time from the other. With one core they share it, and the figures say so.
3. Whatever was started is stopped, and its folder removed, however the block is left.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import KEY, ServerError

if sys.platform != "linux":
    sys.exit("scripts/bench needs Linux: it reads /proc and gives processes cores of their own")

_ROOT: Final = Path(__file__).parents[1]
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CORES: Final = sorted(os.sched_getaffinity(0))
_SERVER_CORES: Final = {_CORES[0]}
_LOAD_CORES: Final = {_CORES[-1]}
#: Seconds in which a server must answer, or stop.
_PATIENCE: Final = 60.0

_CONFIG: Final = """
[[backends]]
name = "bench"
kind = "chat_completions"
base_url = "http://127.0.0.1:{port}/v1"
models = ["*"]
"""


class Meter:
    """What a running server uses."""

    def __init__(self, pid: int, port: int, folder: Path | None = None) -> None:
        """`folder`: where its database is."""
        self.pid = pid
        self.port = port
        self._folder = folder

    def cpu(self) -> float:
        """Seconds of CPU since the start."""
        return sum(_cpu(pid) for pid in _tree(self.pid))

    def rss(self) -> float:
        """Resident megabytes now."""
        return sum(_rss(pid) for pid in _tree(self.pid)) / 1e6

    def indexed(self) -> int:
        """Bytes of the indexes of vector stores."""
        assert self._folder is not None
        return sum(path.stat().st_size for path in self._folder.glob("data/vector_stores/**/*.db*"))

    def stored(self) -> int:
        """Bytes of the database and what is still to be folded into it."""
        assert self._folder is not None
        return sum(path.stat().st_size for path in self._folder.glob("antiphon.db*"))


@dataclass(frozen=True)
class Command:
    """How a server is started, and where it says that it is ready."""

    argv: Sequence[str]
    #: Its whole environment.
    environment: Mapping[str, str]
    folder: Path
    port: int
    ready: str
    #: Seconds until it must be.
    patience: float = _PATIENCE


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            for child in children.read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _cpu(pid: int) -> float:
    """The process's CPU clock, all its threads: clock_getcpuclockid(3) in nanoseconds, where
    ``/proc/PID/stat`` counts in hundredths of a second; those are good enough for children that
    have ended (its fields 16 and 17)."""
    with contextlib.suppress(OSError):  # it ended: its parent has its time
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        gone = (int(stat[13]) + int(stat[14])) / _TICKS
        return gone + time.clock_gettime_ns(~pid << 3 | 2) / 1e9
    return 0.0


def _rss(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return 0


def cores_are_shared() -> bool:
    """Whether server and generator take time from each other."""
    return _SERVER_CORES == _LOAD_CORES


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Children inherit the cores that their parent has at the time."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _LOAD_CORES)


@contextlib.contextmanager
def upstream() -> Iterator[Meter]:
    """The benchmark's own model server."""
    command = [sys.executable, "-m", "benchmarks.upstream"]
    with (
        _on(_LOAD_CORES),
        subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        try:
            assert server.stdout is not None
            yield Meter(server.pid, int(server.stdout.readline()))
        finally:
            server.terminate()


@contextlib.contextmanager
def running(command: Command, *, alone: bool = True) -> Iterator[Meter]:
    """The server while it runs, on a core of its own or, not `alone`, on all."""
    log = command.folder / "log"
    with log.open("wb") as output, _on(_SERVER_CORES if alone else set(_CORES)):
        server = subprocess.Popen(
            list(command.argv),
            cwd=command.folder,
            env=dict(command.environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await_ready(server, command)
        yield Meter(server.pid, command.port, command.folder)
    except ServerError as error:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise ServerError(f"{error}\nThe server's log ends with:\n{tail}") from error
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """It and all that it started, which is a session of its own."""
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextlib.contextmanager
def antiphon(
    upstream_port: int, config: str = "", *, alone: bool = True, workers: int = 1
) -> Iterator[Meter]:
    """``antiphon serve`` in front of the upstream, with a database file in a folder of its own.
    `config`: more of it; not `alone`: on all cores."""
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as name:
        folder = Path(name)
        command = antiphon_command(folder, free_port(), upstream_port, config, workers)
        with running(command, alone=alone) as meter:
            yield meter


def antiphon_command(
    folder: Path, port: int, upstream_port: int, config: str = "", workers: int = 1
) -> Command:
    """How the server of this checkout is started."""
    text = _CONFIG.format(port=upstream_port) + config
    (folder / "antiphon.toml").write_text(text, encoding="utf-8")
    environment = environment_without_settings() | {
        "PYTHONPATH": str(_ROOT / "src"),
        "ANTIPHON_HOST": "127.0.0.1",
        "ANTIPHON_PORT": str(port),
        "ANTIPHON_WORKERS": str(workers),
        "ANTIPHON_CONFIG": str(folder / "antiphon.toml"),
        "ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/antiphon.db",
        "ANTIPHON_API_KEYS": KEY,
        "ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "ANTIPHON_BACKGROUND_RUNS": "256",
    }
    argv = [sys.executable, "-m", "antiphon.cli", "serve"]
    return Command(argv, environment, folder, port, "/health/ready")


def environment_without_settings() -> dict[str, str]:
    """The environment, less what would configure a server."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("ANTIPHON_", "OPENAI_"))}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_ready(server: subprocess.Popen[bytes], command: Command) -> None:
    deadline = time.monotonic() + command.patience
    while server.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", command.port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", command.ready)
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.05)
    raise ServerError("It is not ready." if server.poll() is None else "It ended at its start.")
