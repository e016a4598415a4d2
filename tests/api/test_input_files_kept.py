"""Files in what is kept: histories, conversations, templates, jobs, connections, summaries
(decision 0008: shown to the model, not stored; R-30, R-104)."""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import orjson
import pytest

from antiphon.protocol.inline import inlined
from tests.api.background import Background
from tests.api.filing import by_id, filing, rows, told, upload, user
from tests.api.forms import made
from tests.api.talk import Json, client_of, create, error_of, events
from tests.api.talk_socket import plugged
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import OTHER_KEY, LiveServer
from tests.protocol.test_images import png

SECRET: Final = "otters are plotting"
NOTE: Final = "is not available any more.]"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream) -> Iterator[LiveServer]:
    with filing(tmp_path_factory, _upstream) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


@pytest.fixture
def file_id(api: httpx2.Client) -> str:
    return upload(api, "plan.txt", SECRET.encode())


def delete(api: httpx2.Client, file_id: str) -> None:
    assert api.delete(f"/v1/files/{file_id}").status_code == 200


# -- histories -----------------------------------------------------------------------------------


def test_a_history_keeps_the_id_alone(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, file_id: str
) -> None:
    """The model sees the file in each turn; rows have neither its text nor its base64."""
    picture = upload(api, "a.png", png(5, 5))
    parts = (by_id(file_id), {"type": "input_image", "file_id": picture, "detail": "auto"})
    first = create(api, input=[user(*parts)])
    second = create(api, input="And now?", previous_response_id=first["id"])
    seen = upstream.requests[-1].json["messages"][0]["content"]
    assert SECRET in seen[1]["text"]
    assert seen[2]["image_url"]["url"] == inlined("image/png", png(5, 5))
    (item,) = api.get(f"/v1/responses/{first['id']}/input_items").json()["data"]
    assert tuple(item["content"][1:]) == parts
    body = orjson.dumps(api.get(f"/v1/responses/{second['id']}").json())
    database = rows(live.folder)
    assert file_id.encode() in database
    for kept in (body, database):
        assert SECRET.encode() not in kept
        assert b"iVBORw0KGgo" not in kept


def test_a_file_that_was_deleted_is_a_note(
    api: httpx2.Client, upstream: ChatUpstream, file_id: str
) -> None:
    first = create(api, input=[user(by_id(file_id))])
    delete(api, file_id)
    create(api, input="And now?", previous_response_id=first["id"])
    assert f"[The file {file_id} {NOTE}" in told(upstream)
    assert SECRET not in told(upstream)
    body = {"model": "m", "input": [user(by_id(file_id))], "previous_response_id": first["id"]}
    reply = api.post("/v1/responses", json=body)
    assert reply.status_code == 404, "one that is sent now is an error"
    assert error_of(reply)["param"] == "input[0].content[1].file_id"


@pytest.mark.parametrize("in_items", [True, False])
def test_conversations_have_files(
    api: httpx2.Client, upstream: ChatUpstream, file_id: str, *, in_items: bool
) -> None:
    items = [{"type": "message", **user(by_id(file_id))}]
    reply = api.post("/v1/conversations", json={"items": items if in_items else []})
    conversation = made(reply)["id"]
    if not in_items:
        create(api, input=items, conversation=conversation)
    create(api, input="And now?", conversation=conversation)
    assert SECRET in told(upstream)
    kept = api.get(f"/v1/conversations/{conversation}/items", params={"order": "asc"}).json()
    assert kept["data"][0]["content"][1] == by_id(file_id)
    delete(api, file_id)
    create(api, input="And now?", conversation=conversation)
    assert NOTE in told(upstream)


def test_ids_of_another_project_in_a_conversation_stay_unknown(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, file_id: str
) -> None:
    """R-30: whoever wrote them there."""
    with client_of(live, OTHER_KEY) as other:
        items = [{"type": "message", **user(by_id(file_id))}]
        conversation = made(other.post("/v1/conversations", json={"items": items}))["id"]
        create(other, input="Show me.", conversation=conversation)
    assert NOTE in told(upstream)
    assert SECRET not in told(upstream)


# -- templates -----------------------------------------------------------------------------------


def prompt_of(api: httpx2.Client, content: list[Json]) -> str:
    template = {"input": [{"role": "user", "content": content}]}
    id_: str = made(api.post("/v1/prompts", json={"name": "x", "template": template}))["id"]
    return id_


def test_a_template_names_files(api: httpx2.Client, upstream: ChatUpstream, file_id: str) -> None:
    prompt = prompt_of(api, [{"type": "input_text", "text": "Read."}, by_id(file_id)])
    create(api, prompt={"id": prompt})
    assert SECRET in told(upstream)
    delete(api, file_id)
    body = {"model": "m", "input": "Hi", "prompt": {"id": prompt}}
    reply = api.post("/v1/responses", json=body)
    assert reply.status_code == 404
    assert error_of(reply)["param"] == "prompt"


def test_a_variable_is_a_file(api: httpx2.Client, upstream: ChatUpstream, file_id: str) -> None:
    prompt = prompt_of(api, [{"type": "input_text", "text": "{{paper}}"}])
    asked = {"id": prompt, "variables": {"paper": by_id(file_id)}}
    shown = create(api, prompt=asked)
    assert SECRET in told(upstream)
    assert SECRET not in orjson.dumps(shown).decode()


# -- ways to ask ---------------------------------------------------------------------------------


def test_a_stream(api: httpx2.Client, upstream: ChatUpstream, file_id: str) -> None:
    body = {"model": "m", "input": [user(by_id(file_id))], "stream": True}
    reply = api.post("/v1/responses", json=body)
    assert reply.status_code == 200
    assert events(reply.text)[-1]["type"] == "response.completed"
    assert SECRET in told(upstream)
    assert SECRET not in reply.text
    body["input"] = [user(by_id("file-none"))]
    assert api.post("/v1/responses", json=body).status_code == 404


def test_a_background_response(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, file_id: str
) -> None:
    jobs = Background(api)
    response_id = jobs.start(input=[user(by_id(file_id))])
    jobs.reach(response_id, "completed")
    assert SECRET in told(upstream)
    assert SECRET.encode() not in rows(live.folder)
    body = {"model": "m", "input": [user(by_id("file-none"))], "background": True}
    assert api.post("/v1/responses", json=body).status_code == 404


def test_a_connection(live: LiveServer, upstream: ChatUpstream, file_id: str) -> None:
    with plugged(live) as socket:
        first = socket.made([user(by_id(file_id))], model="m", store=False)
        assert SECRET in told(upstream)
        socket.made("And now?", model="m", store=False, previous_response_id=first["id"])
        assert SECRET in told(upstream)
        assert SECRET in upstream.requests[-1].json["messages"][0]["content"]
        error = socket.refused([user(by_id("file-none"))], model="m")
        assert error["status"] == 404
        assert error["error"]["param"] == "input[0].content[1].file_id"


# -- summaries -----------------------------------------------------------------------------------

_LONG: Final = {"role": "assistant", "content": " lorem ipsum dolor" * 400}
_SUMMARY: Final = Reply.chat("They talked.")
_HELLO: Final = Reply.chat("Hello")


def long_talk(*parts: Json) -> list[Json]:
    return [user(words="First."), _LONG, user(*parts)]


def compacted(**more: Any) -> Json:
    return {"context_management": [{"type": "compaction", "compact_threshold": 1_000}], **more}


def test_a_context_is_compacted_while_a_file_is_read(
    api: httpx2.Client, upstream: ChatUpstream, file_id: str
) -> None:
    """What stays of it was sealed without the contents; the model sees them all the same."""
    upstream.script(_SUMMARY, _HELLO)
    first = create(api, **compacted(input=long_talk(by_id(file_id))))
    assert [item["type"] for item in first["output"]] == ["compaction", "message"]
    assert "Summary" in told(upstream)
    assert SECRET in told(upstream)
    create(api, input="And now?", previous_response_id=first["id"])
    assert "lorem" not in told(upstream)
    assert SECRET in told(upstream)
    delete(api, file_id)
    create(api, input="And now?", previous_response_id=first["id"])
    assert NOTE in told(upstream)


def test_a_summary_on_its_own(api: httpx2.Client, upstream: ChatUpstream, file_id: str) -> None:
    upstream.script(_SUMMARY, _HELLO)
    body = {"model": "m", "input": long_talk(by_id(file_id))}
    reply = made(api.post("/v1/responses/compact", json=body))
    assert SECRET not in orjson.dumps(reply).decode()
    create(api, input=[*reply["output"], user(words="And now?")])
    assert SECRET in told(upstream)
    assert "lorem" not in told(upstream)
