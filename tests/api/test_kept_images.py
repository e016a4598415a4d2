"""Where images of stored responses are, over real HTTP (issue 7, must show 4: stored size; decision
0010; R-30, R-102, R-104)."""

import io
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from PIL import Image

from antiphon.testing import assert_valid_log
from tests.api.raw import eventually
from tests.api.talk import Json, client_of, create, error_of, events
from tests.api.talk_socket import plugged
from tests.backends.upstream import ChatUpstream, Reply
from tests.images.image_server import b64, files, made, picture, refused, streamed
from tests.live import CHAT_TOML, KEY, OTHER_KEY, LiveServer, serve

TOML: Final = '\n[image_generation]\nkind = "openai"\nbase_url = "{base_url}"\nmodel = "drawer"\n'
TOOL: Final[Json] = {"type": "image_generation"}
DONE: Final = Reply.chat("Done.")
SMALL: Final = picture("png")
WEBP: Final = picture("webp")
#: What a database may grow by beside an image of a megabyte.
LITTLE: Final = 100_000


def noise() -> bytes:
    """A PNG of a megabyte: nothing makes it smaller."""
    width, height = 640, 560
    pixels = random.Random(7).randbytes(width * height * 3)
    written = io.BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(written, "PNG")
    return written.getvalue()


BIG: Final = noise()


@pytest.fixture(scope="module")
def painter() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        yield server


@pytest.fixture
def toml(upstream: ChatUpstream, painter: ChatUpstream) -> str:
    painter.requests.clear()
    painter.script(made(BIG))
    chat = CHAT_TOML.format(base_url=upstream.base_url)
    chat = chat.replace('models = ["*"]', 'models = ["*"]\nvision = ["seeing-*"]', 1)
    return chat + TOML.format(base_url=painter.base_url)


@pytest.fixture
def live(tmp_path: Path, toml: str) -> Iterator[LiveServer]:
    with serve(tmp_path, toml) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def drawing(upstream: ChatUpstream, action: str = "generate") -> None:
    arguments = {"prompt": "An otter", "action": action}
    upstream.script(Reply.calls(("image_generation", arguments)), DONE)


def results(items: list[Json]) -> list[str | None]:
    return [item["result"] for item in items if item["type"] == "image_generation_call"]


def blobs(folder: Path) -> list[Path]:
    """The files of images."""
    return sorted((folder / "data" / "files").glob("*/iblob_*"))


def asked(folder: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "antiphon.db")) as connection:
        return connection.execute(question).fetchall()


def stored(folder: Path) -> int:
    """Bytes of the database, with all that is in its log."""
    with closing(sqlite3.connect(folder / "antiphon.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in folder.glob("antiphon.db*"))


def got(api: httpx2.Client, path: str, **params: Any) -> Json:
    reply = api.get(path, params=params)
    assert reply.status_code == 200, reply.text
    body: Json = reply.json()
    return body


def finished(api: httpx2.Client, id_: str) -> Json:
    """A background response, once it is over."""
    path = f"/v1/responses/{id_}"
    eventually(lambda: got(api, path)["status"] not in ("queued", "in_progress"))
    return got(api, path)


def test_the_bytes_are_stored_once(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """Streamed, in the background, in a conversation; and everybody sees the same base64."""
    big = b64(BIG)
    conversation = api.post("/v1/conversations", json={}).json()["id"]
    create(api, "simulator")
    before = stored(live.folder)
    drawing(upstream)
    painter.script(streamed([SMALL], BIG))
    body = {"model": "m", "input": "Draw", "conversation": conversation, "background": True}
    tools = [{**TOOL, "partial_images": 1}]
    reply = api.post("/v1/responses", json={**body, "stream": True, "tools": tools})
    said = events(reply.text)
    final = assert_valid_log(said)
    assert results(final["output"]) == [big]
    assert sum("partial_image_b64" in event for event in said) == 1
    id_, path = final["id"], f"/v1/responses/{final['id']}"
    assert stored(live.folder) - before < LITTLE
    (blob,) = blobs(live.folder)
    assert blob.read_bytes() == BIG
    for (frames,) in asked(live.folder, "SELECT frames FROM events"):
        assert big[:200].encode() not in frames
    # The same for everybody.
    assert got(api, path) == final
    assert events(api.get(path, params={"stream": "true"}).text) == said
    last = api.get(path, params={"stream": "true", "starting_after": len(said) - 3})
    assert events(last.text) == said[-2:]
    (listed,) = [one for one in got(api, "/v1/responses")["data"] if one["id"] == id_]
    assert listed == final
    items = f"/v1/conversations/{conversation}/items"
    assert results(got(api, items, limit=100)["data"]) == [big]
    (image,) = [item for item in final["output"] if item["type"] == "image_generation_call"]
    assert got(api, f"{items}/{image['id']}") == image
    follower = create(api, "m", input="And?", previous_response_id=id_)
    shown = got(api, f"/v1/responses/{follower['id']}/input_items")["data"]
    assert results(shown) == [big]
    assert stored(live.folder) - before < LITTLE


@pytest.mark.parametrize("body", [{}, {"stream": True}, {"background": True}])
def test_every_way_to_ask(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, body: Json
) -> None:
    drawing(upstream)
    reply = api.post("/v1/responses", json={"model": "m", "input": "x", "tools": [TOOL], **body})
    if "stream" in body:
        final = assert_valid_log(events(reply.text))
    else:
        final = reply.json() if not body else finished(api, reply.json()["id"])
    assert results(final["output"]) == [b64(BIG)]
    assert finished(api, final["id"]) == final
    assert len(blobs(live.folder)) == 1
    (row,) = asked(live.folder, "SELECT body FROM responses WHERE status = 'completed'")
    assert len(row[0]) < LITTLE


def test_in_a_websocket(live: LiveServer, upstream: ChatUpstream) -> None:
    """With a lane, and without: what is not stored has its bytes in itself."""
    for more in ({}, {"stream_id": "a"}, {"store": False}):
        drawing(upstream)
        with plugged(live) as socket:
            final = socket.made("Draw", model="m", tools=[TOOL], **more)
            assert results(final["output"]) == [b64(BIG)]
            upstream.script(DONE)
            drawing(upstream, "edit")
            again = socket.made(
                "Change", model="m", tools=[TOOL], previous_response_id=final["id"], **more
            )
            assert results(again["output"]) == [b64(BIG)]
    assert len(blobs(live.folder)) == 4


@pytest.mark.parametrize("body", [{}, {"background": True}])
def test_without_store_nothing_is_kept(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, body: Json
) -> None:
    drawing(upstream)
    made_ = create(api, "m", tools=[TOOL], store=False, **body)
    final = finished(api, made_["id"]) if body else made_
    assert results(final["output"]) == [b64(BIG)]
    assert blobs(live.folder) == []
    assert asked(live.folder, "SELECT * FROM images") == []


@pytest.mark.parametrize("where", ["chain", "conversation"])
def test_bytes_that_come_back_to_where_they_were_made_are_not_stored_again(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, painter: ChatUpstream, where: str
) -> None:
    on: Json = {}
    if where == "conversation":
        on = {"conversation": api.post("/v1/conversations", json={}).json()["id"]}
    drawing(upstream)
    first = create(api, "m", tools=[TOOL], **on)
    (image,) = [item for item in first["output"] if item["type"] == "image_generation_call"]
    before = stored(live.folder)
    drawing(upstream, "edit")
    on = on or {"previous_response_id": first["id"]}
    sent = [image, {"role": "user", "content": "Change it"}]
    second = create(api, "m", input=sent, tools=[TOOL], **on)
    assert files(painter.requests[-1]) == [("image", "image/png", BIG)]
    assert stored(live.folder) - before < LITTLE
    path = f"/v1/responses/{second['id']}/input_items"
    if where == "conversation":
        path = f"/v1/conversations/{on['conversation']}/items"
    ids = [item["id"] for item in got(api, path)["data"]]
    assert ids.count(image["id"]) == 1


def test_bytes_that_were_sent_stay_when_what_made_them_goes(
    tmp_path: Path, toml: str, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """A client's bytes are never given up for a reference that may die first."""
    with serve(tmp_path, toml) as server, client_of(server) as api:
        drawing(upstream)
        maker = create(api, "m", tools=[TOOL])
        image = maker["output"][0]
        upstream.script(DONE)
        once = create(api, "m", input=[image])
        talk = api.post("/v1/conversations", json={"items": [image]}).json()["id"]
        named = {"type": "image_generation_call", "id": image["id"]}
        chain = create(api, "m", input=[named])
        both = create(api, "m", input=[image], previous_response_id=chain["id"])
        filled = api.post("/v1/conversations", json={"items": [named]}).json()["id"]
        create(api, "m", input=[image], conversation=filled)
        api.delete(f"/v1/responses/{maker['id']}")
    with serve(tmp_path, toml) as server, client_of(server) as api:
        eventually(lambda: blobs(tmp_path) == [])
        for path, shown in (
            (f"/v1/responses/{once['id']}/input_items", [b64(BIG)]),
            (f"/v1/conversations/{talk}/items", [b64(BIG)]),
            (f"/v1/responses/{both['id']}/input_items", [b64(BIG), None]),
            (f"/v1/conversations/{filled}/items", [b64(BIG), None]),
        ):
            assert results(got(api, path)["data"]) == shown
        for more in (
            {"input": [image]},
            {"previous_response_id": once["id"]},
            {"previous_response_id": chain["id"], "input": [image]},
            {"previous_response_id": both["id"]},
            {"conversation": talk},
            {"conversation": filled},
        ):
            drawing(upstream, "edit")
            painter.requests.clear()
            create(api, "m", tools=[TOOL], **more)
            assert files(painter.requests[-1]) == [("image", "image/png", BIG)]
        upstream.script(DONE)
        upstream.requests.clear()
        create(api, "seeing-m", input=[image])
        assert b64(BIG) in upstream.requests[-1].body.decode()


@pytest.mark.parametrize("where", ["chain", "conversation", "background"])
def test_an_image_that_is_named_is_the_newest(
    api: httpx2.Client, upstream: ChatUpstream, painter: ChatUpstream, where: str
) -> None:
    """Wherever in the history it is: the user points at it."""
    on: Json = {}
    if where == "conversation":
        on = {"conversation": api.post("/v1/conversations", json={}).json()["id"]}
    images = []
    for drawn in (SMALL, BIG):
        painter.script(made(drawn))
        drawing(upstream)
        last = create(api, "m", tools=[TOOL], **on)
        images.append(last["output"][0])
        if where != "conversation":
            on = {"previous_response_id": last["id"]}
    first = images[0]
    url = f"data:image/webp;base64,{b64(WEBP)}"
    new = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    small, big = ("image", "image/png", SMALL), ("image", "image/png", BIG)
    for sent, edited in (
        ([], big),
        ([{"type": "image_generation_call", "id": first["id"]}], small),
        ([{"type": "item_reference", "id": first["id"]}], small),
        ([first], small),
        ([first, images[1]], big),
        ([images[1], first], small),
        ([first, new], ("image", "image/webp", WEBP)),
        ([new, first], small),
    ):
        drawing(upstream, "edit")
        painter.requests.clear()
        body = {"input": [*sent, {"role": "user", "content": "A hat"}], "store": True, **on}
        if where == "background":
            finished(api, create(api, "m", tools=[TOOL], background=True, **body)["id"])
        else:
            made_ = create(api, "m", tools=[TOOL], **body)
            if where == "conversation":
                api.delete(
                    f"/v1/conversations/{on['conversation']}/items/{made_['output'][0]['id']}"
                )
        assert files(painter.requests[-1]) == [edited], sent


@pytest.mark.parametrize("way", ["compact", "threshold"])
def test_an_image_is_changed_behind_a_compaction(
    api: httpx2.Client, upstream: ChatUpstream, painter: ChatUpstream, way: str
) -> None:
    drawing(upstream)
    first = create(api, "m", tools=[TOOL])
    upstream.script(Reply.chat("They swim. " * 200))
    second = create(api, "m", input="And?", previous_response_id=first["id"])
    after = {"model": "m", "previous_response_id": second["id"]}
    upstream.script(Reply.chat("Summary."), DONE)
    if way == "compact":
        reply = api.post("/v1/responses/compact", json=after)
        items = [*reply.json()["output"], {"role": "user", "content": "A hat"}]
        more: Json = {"input": items}
    else:
        management = [{"type": "compaction", "compact_threshold": 1000}]
        third = create(api, input="so " * 6000, context_management=management, **after)
        assert third["output"][0]["type"] == "compaction"
        more = {"previous_response_id": third["id"]}
    drawing(upstream, "edit")
    create(api, "m", tools=[TOOL], **more)
    assert files(painter.requests[-1]) == [("image", "image/png", BIG)]


def test_an_image_that_failed_comes_back_as_it_is(
    api: httpx2.Client, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """Whoever stores nothing sends back what was said: there is nothing to look up."""
    painter.script(refused(400))
    drawing(upstream)
    output = create(api, "m", tools=[TOOL], store=False)["output"]
    assert (output[0]["status"], output[0]["result"]) == ("failed", None)
    for more in ({"store": False}, {}):
        upstream.script(DONE)
        create(api, "m", input=[*output, {"role": "user", "content": "Again"}], **more)
        assert output[0]["error"]["message"] in upstream.requests[-1].body.decode()
    id_ = api.post("/v1/conversations", json={"items": output}).json()["id"]
    kept = got(api, f"/v1/conversations/{id_}/items/{output[0]['id']}")
    assert {**kept, "result": None} == output[0]


def test_nobody_gets_an_image_by_its_reference(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """R-30: what somebody writes is text, whoever knows the name of an image."""
    drawing(upstream)
    create(api, "m", tools=[TOOL])
    ((blob,),) = asked(live.folder, "SELECT blob FROM images")
    forged = blob.replace("iblob_", "antiphon-image:")
    for key, expected in ((KEY, b64(BIG)), (OTHER_KEY, None)):
        with client_of(live, key) as client:
            _forge(client, upstream, forged)
            structured = {"output_format": "png", "result": forged, "revised_prompt": "x"}
            # What looks like one of our items: of its own what it has anyway, of others nothing.
            assert create(client, "m", metadata=structured)["metadata"]["result"] == expected


def _forge(client: httpx2.Client, upstream: ChatUpstream, forged: str) -> None:
    """Say a reference wherever a text may stand; it is not accepted as an image."""
    said = f'"result":"{forged}","revised_prompt":'
    upstream.script(Reply.chat(said))
    metadata = {"result": forged, forged: said}
    answer = create(client, "m", input=said, metadata=metadata, instructions=forged)
    assert (answer["output_text"], answer["metadata"]) == (said, metadata)
    assert got(client, f"/v1/responses/{answer['id']}") == answer
    shown = got(client, f"/v1/responses/{answer['id']}/input_items")["data"]
    assert shown[0]["content"][0]["text"] == said
    assert got(client, "/v1/responses")["data"][0] == answer
    item = {"type": "image_generation_call", "id": "ig_x", "result": forged}
    for path, body, param in (
        ("/v1/responses", {"model": "m", "input": [item]}, "input[0].result"),
        ("/v1/conversations", {"items": [item]}, "items[0].result"),
    ):
        refused = client.post(path, json=body)
        assert (refused.status_code, error_of(refused)["param"]) == (400, param)


def test_an_image_goes_with_what_it_belongs_to(
    tmp_path: Path, toml: str, upstream: ChatUpstream
) -> None:
    """R-104: with the response, or with the conversation when that is the last; a sweep follows
    each start."""
    ids: dict[str, Json] = {}
    with serve(tmp_path, toml) as server, client_of(server) as api:
        for name in ("alone", "kept", "talk"):
            more = {}
            if name != "alone":
                more = {"conversation": api.post("/v1/conversations", json={}).json()["id"]}
            drawing(upstream)
            ids[name] = {**create(api, "m", tools=[TOOL], **more), **more}
        referring = [{"type": "image_generation_call", "id": ids["alone"]["output"][0]["id"]}]
        upstream.script(DONE)
        later = create(api, "m", input=referring)
        api.delete(f"/v1/responses/{ids['alone']['id']}")
        api.delete(f"/v1/responses/{ids['kept']['id']}")
        api.delete(f"/v1/conversations/{ids['talk']['conversation']}")
        assert len(blobs(tmp_path)) == 3
    with serve(tmp_path, toml) as server, client_of(server) as api:
        eventually(lambda: len(blobs(tmp_path)) == 2)
        items = got(api, f"/v1/conversations/{ids['kept']['conversation']}/items")["data"]
        assert results(items) == [b64(BIG)]
        assert results(got(api, f"/v1/responses/{ids['talk']['id']}")["output"]) == [b64(BIG)]
        # What refers to one that is gone shows null, and the model is told.
        path = f"/v1/responses/{later['id']}/input_items"
        assert results(got(api, path)["data"]) == [None]
        upstream.requests.clear()
        upstream.script(DONE)
        create(api, "seeing-m", previous_response_id=later["id"])
        assert "not available any more" in upstream.requests[-1].body.decode()
        drawing(upstream, "edit")
        failed = create(api, "m", tools=[TOOL], previous_response_id=later["id"])
        assert failed["output"][0]["status"] == "failed"
        assert "not available any more" in failed["output"][0]["error"]["message"]
        api.delete(f"/v1/conversations/{ids['kept']['conversation']}")
        api.delete(f"/v1/responses/{ids['talk']['id']}")
    with serve(tmp_path, toml):
        eventually(lambda: blobs(tmp_path) == [])
    assert asked(tmp_path, "SELECT * FROM images") == []


def test_an_image_is_changed_by_its_id_after_a_restart(
    tmp_path: Path, toml: str, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    drawing(upstream)
    with serve(tmp_path, toml) as server, client_of(server) as api:
        image = create(api, "m", tools=[TOOL])["output"][0]
    drawing(upstream, "edit")
    sent = [{"type": "image_generation_call", "id": image["id"]}, {"role": "user", "content": "x"}]
    with serve(tmp_path, toml) as server, client_of(server) as api:
        create(api, "m", input=sent, tools=[TOOL])
        assert files(painter.requests[-1]) == [("image", "image/png", BIG)]
        upstream.script(DONE)
        upstream.requests.clear()
        create(api, "seeing-m", input=sent)
        assert b64(BIG) in upstream.requests[-1].body.decode()


def test_a_store_that_forgets(tmp_path: Path, toml: str, upstream: ChatUpstream) -> None:
    environment = {"ANTIPHON_DATABASE_URL": "memory://"}
    drawing(upstream)
    with serve(tmp_path, toml, environment) as server, client_of(server) as api:
        made_ = create(api, "m", tools=[TOOL])
        assert results(made_["output"]) == [b64(BIG)]
        assert got(api, f"/v1/responses/{made_['id']}") == made_
    assert blobs(tmp_path) == []


def test_a_project_that_is_full(tmp_path: Path, toml: str, upstream: ChatUpstream) -> None:
    """R-102: the call fails, and the model is told."""
    drawing(upstream)
    environment = {"ANTIPHON_MAX_PROJECT_BYTES": str(len(BIG) + 10)}
    with serve(tmp_path, toml, environment) as server, client_of(server) as api:
        assert create(api, "m", tools=[TOOL])["output"][0]["status"] == "completed"
        drawing(upstream)
        image = create(api, "m", tools=[TOOL])["output"][0]
        assert (image["status"], image["result"]) == ("failed", None)
        assert "not enough left" in image["error"]["message"]
        assert len(blobs(tmp_path)) == 1
