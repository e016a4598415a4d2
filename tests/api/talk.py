"""How the live API tests talk to a server: a client with a key, a body, the events of a stream."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import httpx2
import orjson
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.live import KEY, LiveServer

Json: TypeAlias = dict[str, Any]

_OFFICIAL: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
#: A code of OpenAI's wire that its published types do not have (spec §5), and one that they have.
_WIRE_ONLY: Final = ('"code":"context_length_exceeded"', '"code":"invalid_prompt"')
#: The item of a search has no action when it is announced (recordings); the types want one.
_NO_ACTION: Final = (
    '"type":"web_search_call","status":"in_progress"}',
    '"type":"web_search_call","status":"in_progress","action":{"type":"search"}}',
)
#: Events of OpenAI's wire that its types do not have (spec App. E).
_WIRE_EVENTS: Final = (
    "response.apply_patch_call_operation_diff.delta",
    "response.apply_patch_call_operation_diff.done",
)
UNKNOWN: Final = "resp_" + "0" * 48


class Absent:
    """What `at` finds where there is nothing."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


def client_of(server: LiveServer, key: str | None = KEY, timeout: float = 20.0) -> httpx2.Client:
    """A client whose paths begin with a slash: ``/v1/responses``. `timeout` in seconds."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    # There is no TLS here: reading the machine's certificates would take longer than most tests.
    return httpx2.Client(
        base_url=server.root_url, headers=headers, timeout=timeout, verify=False, trust_env=False
    )


def create(client: httpx2.Client, model: str = "m", **body: Any) -> Json:
    """The Response to a request that must work."""
    reply = client.post("/v1/responses", json={"model": model, "input": "Hi", **body})
    assert reply.status_code == 200, reply.text
    made: Json = reply.json()
    return made


def events(text: str) -> list[Json]:
    """The events of a whole stream; it must end with ``[DONE]``, and each event must be one that
    openai-python's own types take."""
    assert text.endswith("data: [DONE]\n\n"), text[-200:]
    return open_events(text.removesuffix("data: [DONE]\n\n"))


def open_events(text: str) -> list[Json]:
    """The events of a stream that may have been left."""
    found = []
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        name, _, payload = block.partition("\n")
        event = orjson.loads(payload.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        official = payload.removeprefix("data: ").replace(*_WIRE_ONLY).replace(*_NO_ACTION)
        if event["type"] not in _WIRE_EVENTS:
            _OFFICIAL.validate_json(official)
        found.append(event)
    return found


def at(value: Any, path: str) -> Any:
    """What stands at a path with dots (``tools.0.name``), or `ABSENT`."""
    for step in path.split("."):
        match value:
            case list() if step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            case Mapping() if step in value:
                value = value[step]
            case _:
                return ABSENT
    return value


def error_of(reply: httpx2.Response) -> Json:
    """The error in OpenAI's envelope: exactly these keys, all always present (R-01)."""
    body = reply.json()
    assert set(body) == {"error"}, body
    error: Json = body["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    return error
