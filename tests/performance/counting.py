"""A server whose work is counted, and what one request of it takes.

Rules
1. The whole way is real: processes, HTTP on loopback, SQLite. Only the model is not.
2. A request is counted several times and the least is taken: what else the server does on its own,
   every so often, comes on top of a count and never makes it less.
3. Opcodes are told as those of Python 3.11: others are scaled by the same work counted there.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import orjson

from tests.live import CHAT_TOML, KEY, LiveServer, serve

_ROOT: Final = Path(__file__).parents[2]
_COUNTED: Final = re.compile(r"^counted .*$", re.MULTILINE)
#: What `tests.performance.counted.reference` takes in Python 3.11.
_REFERENCE: Final = 60_281
_HEADERS: Final = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


@dataclass(frozen=True)
class Cost:
    """Opcodes of Python 3.11, and bytes of JSON."""

    opcodes: float
    json: float
    #: The part of each function, by its place.
    functions: Mapping[str, float]


class Counted:
    """A running server: `ask` it, or learn what asking it costs."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(self, body: dict[str, Any]) -> None:
        """One request, until its answer is whole."""
        self._client.request("POST", "/v1/responses", orjson.dumps(body), _HEADERS)
        reply = self._client.getresponse()
        text = reply.read()
        assert reply.status == 200, text
        assert b'"status":"completed"' in text, text

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def cost(self, body: dict[str, Any], times: int, units: int = 1) -> Cost:
        """Of one of the `units` (tokens) of such a request: the least of so many times. One more
        comes before them: caches are filled, and Python 3.13 begins to count in a function after
        its first call."""
        self._counted(body, units)
        return min((self._counted(body, units) for _ in range(times)), key=attrgetter("opcodes"))

    def _counted(self, body: dict[str, Any], units: int) -> Cost:
        self._toggle()
        self.ask(body)
        count = self._toggle()
        scale = _REFERENCE / count["reference"] / units
        functions = {place: number * scale for place, number in count["opcodes"].items()}
        return Cost(sum(functions.values()), count["json"] / units, functions)

    def _toggle(self) -> Any:
        os.kill(self._server.process.pid, signal.SIGUSR2)
        return orjson.loads(self._server.wait_for(_COUNTED).removeprefix("counted "))


@contextmanager
def counted(folder: Path) -> Iterator[Counted]:
    """``antiphon serve`` in `folder`, in front of the benchmark's upstream."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as upstream:
        try:
            assert upstream.stdout is not None
            url = f"http://127.0.0.1:{int(upstream.stdout.readline())}/v1"
            toml = CHAT_TOML.format(base_url=url)
            with (
                serve(folder, toml, program="tests.performance.counted") as server,
                closing(Counted(server)) as client,
            ):
                yield client
        finally:
            upstream.terminate()
