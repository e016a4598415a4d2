"""How the tests of background responses make them, wait for them, and read their streams."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpx2
import orjson

from tests.api.raw import eventually
from tests.api.talk import Json, create, events
from tests.backends.upstream import DONE, Reply, Step, chunk, sse

HELLO: Final = sse(chunk(content="Hello"))
#: What the upstream says of a response that only a cancel ends.
ENDLESS: Final = Reply(body=[HELLO, "stall"])
DONE_ONLY: Final = "data: [DONE]\n\n"


def slowly(*texts: str, pause: float) -> Reply:
    """`texts` with `pause` seconds after each."""
    steps: list[Step] = []
    for text in texts:
        steps += [sse(chunk(content=text)), pause]
    return Reply(body=[*steps, sse(chunk(finish="stop")), DONE])


def path_of(response_id: str) -> str:
    return f"/v1/responses/{response_id}"


class Background:
    """Background responses of one client; `forget` deletes them all, so that none is left to run
    into the next test."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self._made: list[str] = []

    def start(self, model: str = "m", **body: Any) -> str:
        """The id of a new one that is queued."""
        made = create(self.client, model, background=True, **body)
        self._made.append(made["id"])
        assert made["status"] == "queued"
        assert made["background"] is True
        response_id: str = made["id"]
        return response_id

    def get(self, response_id: str) -> Json:
        """As it is now."""
        reply = self.client.get(path_of(response_id))
        assert reply.status_code == 200, reply.text
        shown: Json = reply.json()
        return shown

    def reach(self, response_id: str, status: str) -> Json:
        """As it is when it has this status."""
        assert eventually(lambda: self.get(response_id)["status"] == status, 10), self.get(
            response_id
        )
        return self.get(response_id)

    def say(self, response_id: str, text: str) -> None:
        """Wait until a running one has said `text`."""
        with self.reading(response_id) as found:
            said = ""
            for event in found:
                said += event.get("delta", "")
                if text in said:
                    return
        raise AssertionError(f"it ended before it said {text!r}")

    def stream(self, response_id: str, **query: Any) -> str:
        """Its whole stream, to the end."""
        reply = self.client.get(path_of(response_id), params={"stream": "true", **query})
        assert reply.status_code == 200, reply.text
        text: str = reply.text
        return text

    def log(self, response_id: str, **query: Any) -> list[Json]:
        """The events of that stream."""
        return events(self.stream(response_id, **query))

    @contextlib.contextmanager
    def reading(self, response_id: str, **query: Any) -> Iterator[Iterator[Json]]:
        """The events of its stream as they come."""
        with self.client.stream(
            "GET", path_of(response_id), params={"stream": "true", **query}
        ) as reply:
            assert reply.status_code == 200
            yield live_events(reply.iter_lines())

    @contextlib.contextmanager
    def posting(self, model: str = "m", **body: Any) -> Iterator[Iterator[Json]]:
        """The events of a new one, streamed, as they come; they can be left."""
        asked = {"model": model, "input": "Hi", "background": True, "stream": True, **body}
        with self.client.stream("POST", "/v1/responses", json=asked) as reply:
            assert reply.status_code == 200, reply.read()
            yield self._noting(live_events(reply.iter_lines()))

    def _noting(self, found: Iterator[Json]) -> Iterator[Json]:
        for event in found:
            if event["type"] == "response.created":
                self._made.append(event["response"]["id"])
            yield event

    def forget(self) -> None:
        """Delete them."""
        for response_id in self._made:
            self.client.delete(path_of(response_id))


def live_events(lines: Iterable[str]) -> Iterator[Json]:
    """The events in the lines of a stream."""
    for line in lines:
        if line.startswith("data: {"):
            yield orjson.loads(line.removeprefix("data: "))
