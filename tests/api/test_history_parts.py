"""A history may hold parts that the next backend cannot carry: a 400 before any token (R-02). Files
and images by id are another matter (`test_input_files_kept.py`)."""

from typing import Any

import httpx2
import pytest

from tests.api.talk import create, error_of
from tests.backends.upstream import ChatUpstream
from tests.live import LiveServer

SOUND = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}
IMAGE = {"type": "input_image", "image_url": "http://example.com/a.png"}


def _message(role: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "input_text", "text": "Look."}, part]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize(
    "item",
    [_message("assistant", SOUND), _message("system", IMAGE)],
    ids=["sound of the assistant", "image of the system"],
)
def test_a_part_of_the_history_that_cannot_be_sent(
    client: httpx2.Client,
    server: LiveServer,
    upstream: ChatUpstream,
    item: dict[str, Any],
    store: bool,
    stream: bool,
) -> None:
    first = create(client, "simulator", input=[item])
    body = {"model": "m", "input": "And now?", "stream": stream, "store": store}
    reply = client.post("/v1/responses", json={**body, "previous_response_id": first["id"]})
    assert reply.status_code == 400, reply.text
    error = error_of(reply)
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "unsupported_value"
    assert error["param"].startswith("input")
    assert upstream.requests == []
    assert "Traceback" not in server.log()
