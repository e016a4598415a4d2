"""``kill -9`` after an image was made: it is not made again, and everybody sees the same one (R-66,
decision 0010)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from antiphon.testing import assert_valid_log
from tests.api.talk import Json, client_of, events, open_events
from tests.backends.upstream import ChatUpstream, Reply
from tests.images.image_server import TOKENS, USAGE, b64, files, made, picture
from tests.live import CHAT_TOML, serve

ENV: Final = {"ANTIPHON_LEASE": "1"}
TOML: Final = '\n[image_generation]\nkind = "openai"\nbase_url = "{base_url}"\nmodel = "drawer"\n'
OTTER: Final = picture("png")
TOOL: Final = {"type": "image_generation"}


@pytest.fixture
def painter() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        server.script(made(OTTER, usage=USAGE))
        yield server


def asking(action: str) -> Reply:
    return Reply.calls(("image_generation", {"prompt": "An otter", "action": action}))


def test_killed_after_an_image(
    tmp_path: Path, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """The next process goes on: it changes the image that the dead one has made."""
    toml = CHAT_TOML.format(base_url=upstream.base_url) + TOML.format(base_url=painter.base_url)
    upstream.script(asking("generate"), Reply(body=["stall"]), asking("edit"), Reply.chat("Done."))
    body = {"model": "m", "input": "Draw", "tools": [TOOL], "background": True}
    with serve(tmp_path, toml, ENV) as server, client_of(server) as api:
        id_: str = api.post("/v1/responses", json=body).json()["id"]
        until = time.monotonic() + 10
        while len(upstream.requests) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        seen = ""
        with api.stream("GET", f"/v1/responses/{id_}", params={"stream": "true"}) as reply:
            for text in reply.iter_text():
                seen += text
                if "response.output_item.done" in seen and seen.endswith("\n\n"):
                    break
        server.kill()
    with serve(tmp_path, env=ENV) as server, client_of(server) as api:
        path = f"/v1/responses/{id_}"
        said = events(api.get(path, params={"stream": "true"}).text)
        final = assert_valid_log(said)
        assert api.get(path).json() == final
    assert said[: len(open_events(seen))] == open_events(seen)
    assert results(final["output"]) == [b64(OTTER), b64(OTTER)]
    assert final["tool_usage"]["image_gen"] == (TOKENS + TOKENS).body()
    assert [request.path for request in painter.requests] == [
        "/v1/images/generations",
        "/v1/images/edits",
    ]
    assert files(painter.requests[1]) == [("image", "image/png", OTTER)]
    assert len(list((tmp_path / "data" / "files").glob("*/iblob_*"))) == 2


def results(items: list[Json]) -> list[str]:
    return [item["result"] for item in items if item["type"] == "image_generation_call"]
