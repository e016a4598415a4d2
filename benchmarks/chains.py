"""What a long history costs: ``python -m benchmarks.chains [TURNS]``.

Rules
1. One chain of responses and one conversation grow turn by turn, in front of the benchmark's own
   upstream, which gets the whole history each time: there is no cheating about that part.
2. Then turns 10, 100 … are started again and again, in turns, as branches of the chain. "To start"
   is the time until the first event of a stream, which comes when the upstream has accepted the
   prompt.
3. A conversation cannot be branched: its figures are those of the turns while it grows, the median
   of the ten around each.
"""

import http.client
import platform
import statistics
import sys
import time
from typing import Any, Final

import orjson

from benchmarks.load import KEY, ServerError
from benchmarks.meter import Meter, antiphon, upstream

TURNS: Final = 1000
_REPEATS: Final = 21
_AROUND: Final = 5


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def post(self, path: str, **fields: Any) -> tuple[float, dict[str, Any]]:
        """Seconds until the answer's first bytes, and the answer: the last event of a stream."""
        body = orjson.dumps(fields)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        start = time.perf_counter()
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        first = answer.read1()
        taken = time.perf_counter() - start
        said = first + answer.read()
        if answer.status != 200:
            raise ServerError(said.decode())
        if fields.get("stream"):
            last = said.rsplit(b"\ndata: ", 2)[-2]
            return taken, orjson.loads(last.partition(b"\n\n")[0])["response"]
        return taken, orjson.loads(said)

    def turn(self, number: int, **fields: Any) -> tuple[float, str]:
        """Seconds until the turn started, and the id of its response."""
        text = f"Turn {number}: what do you say to that?"
        taken, response = self.post(
            "/v1/responses", model="plain", input=text, stream=True, **fields
        )
        return taken, response["id"]


def _chain(client: Client, server: Meter, turns: int, shown: list[int]) -> dict[str, list[float]]:
    ids: list[str | None] = [None]
    sizes: dict[int, int] = {}
    for number in range(1, turns + 1):
        ids.append(client.turn(number, previous_response_id=ids[-1])[1])
        sizes[number] = server.stored()
    times: dict[int, list[float]] = {number: [] for number in shown}
    for _ in range(_REPEATS):
        for number in shown:
            times[number].append(client.turn(number, previous_response_id=ids[number - 1])[0])
    grown = [sizes[turns] - sizes[turns * 3 // 4], sizes[turns * 3 // 4] - sizes[turns // 2]]
    return {
        "chain: to start, ms": [statistics.median(times[number]) * 1000 for number in shown],
        "chain: kB of database per turn, third and fourth quarter": [
            size / (turns // 4) / 1000 for size in reversed(grown)
        ],
    }


def _conversation(client: Client, turns: int, shown: list[int]) -> dict[str, list[float]]:
    _, conversation = client.post("/v1/conversations")
    times = [0.0]
    times += [
        client.turn(number, conversation=conversation["id"])[0]
        for number in range(1, turns + _AROUND + 1)
    ]
    around = [times[number - _AROUND + 1 : number + _AROUND + 1] for number in shown]
    return {"conversation: to start, ms": [statistics.median(each) * 1000 for each in around]}


def main(turns: int) -> None:
    """Measure and print a table."""
    shown = [number for number in (10, 100, turns // 2, turns) if number <= turns]
    with upstream() as model, antiphon(model.port) as server:
        figures = _chain(Client(server.port), server, turns, shown)
        figures |= _conversation(Client(server.port), turns, shown)
    print(f"Python {platform.python_version()}, {platform.machine()}; turns {shown}\n")
    for name, values in figures.items():
        ratio = f"  (× {values[-1] / values[0]:.2f})" if values[0] else ""
        print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in values) + f" |{ratio}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TURNS)
