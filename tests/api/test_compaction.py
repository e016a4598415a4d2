"""Compaction over HTTP: on its own, inside a response, asked for by an item (spec §1, §2.1, §9)."""

from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest

from tests.api.background import Background
from tests.api.talk import Json, client_of, create, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, KEY, OTHER_KEY, LiveServer, serve

COMPACT: Final = "/v1/responses/compact"
IGNORED: Final = "x-antiphon-ignored"
LONG: Final = " lorem ipsum dolor" * 200
THRESHOLD: Final = [{"type": "compaction", "compact_threshold": 1_000}]
TRIGGER: Final = {"type": "compaction_trigger"}
FOREIGN: Final = {"type": "compaction", "encrypted_content": "gAAAAABother"}
SUMMARY: Final = Reply.chat("They talked.", usage={"prompt_tokens": 70, "completion_tokens": 5})
HELLO: Final = Reply.chat("Hello", usage={"prompt_tokens": 20, "completion_tokens": 3})
FAILED: Final = Reply.json({"error": {"message": "down"}}, 500)
TOO_LONG: Final = Reply.json({"error": {"message": "x", "code": "context_length_exceeded"}}, 400)


def talk(turns: int) -> list[Json]:
    """Turns 1, 2 …, of a question and a long answer; then one more question."""
    items = [
        {"role": role, "content": text}
        for number in range(1, turns + 1)
        for role, text in (("user", str(number)), ("assistant", f"{number}a{LONG}"))
    ]
    return [*items, {"role": "user", "content": str(turns + 1)}]


def seen(upstream: ChatUpstream) -> list[list[str]]:
    """The first word of each message of each request."""
    return [
        [str(message["content"]).split()[0] for message in request.json["messages"]]
        for request in upstream.requests
    ]


def compact(client: httpx2.Client, **body: Any) -> Json:
    reply = client.post(COMPACT, json={"model": "m", **body})
    assert reply.status_code == 200, reply.text
    made: Json = reply.json()
    return made


# -- on its own ----------------------------------------------------------------------------------


def test_its_output_is_all_that_the_next_request_needs(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(SUMMARY, HELLO)
    made = compact(client, input=talk(2), instructions="Be terse.")
    assert made["object"] == "response.compaction"
    assert made["id"].startswith("resp_")
    assert made["usage"]["total_tokens"] == 75
    assert [item["type"] for item in made["output"]] == ["message"] * 3 + ["compaction"]
    assert made["output"][-1]["id"].startswith("cmp_")
    assert "talked" not in made["output"][-1]["encrypted_content"]
    create(client, input=[*made["output"], {"role": "user", "content": "4"}], store=False)
    assert seen(upstream) == [
        ["Be", "1", "1a", "2", "2a", "Your"],
        ["1", "2", "Summary", "3", "4"],
    ]
    assert client.get(f"/v1/responses/{made['id']}").status_code == 404, "nothing is stored"


# Its types of the output know no messages of the user, which OpenAI's own answer has (spec §2.1).
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_openai_python_goes_on_from_it(server: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(SUMMARY, HELLO)
    with openai.OpenAI(base_url=server.base_url, api_key=KEY) as sdk:
        first = sdk.responses.create(model="simulator", input="1")
        made = sdk.responses.compact(model="m", previous_response_id=first.id)
        passed_on: Any = [*made.output, {"role": "user", "content": "2"}]
        answer = sdk.responses.create(model="m", input=passed_on)
    assert answer.output_text == "Hello"
    assert seen(upstream)[1] == ["Summary", "1", "Simulator:", "2"]


def test_another_project_cannot_open_it(
    client: httpx2.Client, other: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-29: in the words of OpenAI, and before the upstream is asked."""
    upstream.script(SUMMARY)
    item = compact(client, input=talk(2))["output"][-1]
    upstream.requests.clear()
    reply = other.post("/v1/responses", json={"model": "m", "input": [item, *talk(0)]})
    assert reply.status_code == 400
    error = error_of(reply)
    assert error["code"] == "invalid_encrypted_content"
    assert error["message"] == (
        f"The encrypted content for item {item['id']} could not be verified. "
        "Reason: Encrypted content could not be decrypted or parsed."
    )
    assert upstream.requests == []


def test_a_changed_one_is_refused(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(SUMMARY)
    item = compact(client, input=talk(2))["output"][-1]
    sealed = item["encrypted_content"]
    changed = {**item, "encrypted_content": sealed[:-2] + ("AA" if sealed[-2:] != "AA" else "BB")}
    reply = client.post("/v1/responses", json={"model": "m", "input": [changed, *talk(0)]})
    assert error_of(reply)["code"] == "invalid_encrypted_content"


def test_a_foreign_one_is_left_out_and_named(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """What is before it stays."""
    body = {"model": "m", "input": [*talk(1), FOREIGN, {"role": "user", "content": "3"}]}
    reply = client.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers[IGNORED] == "input[3].encrypted_content"
    assert seen(upstream) == [["1", "1a", "2", "3"]]


def test_one_in_the_middle_stands_for_all_before_it(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Of two of ours the last one, wherever they stand."""
    upstream.script(SUMMARY, SUMMARY, HELLO)
    old = compact(client, input=talk(2))["output"][-1]
    new = compact(client, input=[{"role": "user", "content": "new"}])["output"][-1]
    mixed = [{"role": "user", "content": "a"}, old, *talk(0), new, {"role": "user", "content": "z"}]
    create(client, input=mixed)
    assert seen(upstream)[-1] == ["Summary", "new", "z"]


@pytest.mark.parametrize(
    ("reply", "status"), [(FAILED, 502), (TOO_LONG, 400), (Reply.chat(" "), 502)]
)
def test_without_a_summary_there_is_none(
    reply: Reply, status: int, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(reply)
    answer = client.post(COMPACT, json={"model": "m", "input": talk(1)})
    assert answer.status_code == status
    error_of(answer)


# -- inside a response ---------------------------------------------------------------------------


def test_a_long_context_is_compacted_in_the_stream(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(SUMMARY, HELLO, HELLO)
    body = {"model": "m", "input": talk(3), "stream": True, "context_management": THRESHOLD}
    told = events(client.post("/v1/responses", json=body).text)
    types = [event["type"] for event in told]
    assert types[2:5] == [
        "response.output_item.added",
        "response.compaction.compacting",
        "response.output_item.done",
    ]
    final = told[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["compaction", "message"]
    assert final["usage"]["total_tokens"] == 75 + 23
    create(client, input="5", previous_response_id=final["id"])
    assert seen(upstream)[1:] == [
        ["1", "2", "3", "Summary", "4"],
        ["1", "2", "3", "Summary", "4", "Hello", "5"],
    ]
    listed = client.get(f"/v1/responses/{final['id']}/input_items?limit=100").json()["data"]
    assert len(listed) == 7, "what is stored stays whole"


def test_without_a_summary_the_response_fails_before_its_first_byte(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(FAILED)
    for stream in (False, True):
        body = {"model": "m", "input": talk(3), "stream": stream, "context_management": THRESHOLD}
        reply = client.post("/v1/responses", json=body)
        assert reply.status_code == 502
        error_of(reply)


def test_nobody_knows_when_and_that_is_said(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """No threshold, and no window of which it could be a part."""
    body = {"model": "m", "input": talk(3), "context_management": [{"type": "compaction"}]}
    reply = client.post("/v1/responses", json=body)
    assert reply.headers[IGNORED] == "context_management"
    assert len(seen(upstream)) == 1


def test_a_trigger_asks_for_one(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(SUMMARY, HELLO)
    made = create(client, input=[*talk(2), TRIGGER])
    assert [item["type"] for item in made["output"]] == ["compaction"]
    assert (made["status"], made["output_text"]) == ("completed", "")
    create(client, input="4", previous_response_id=made["id"])
    assert seen(upstream)[1] == ["1", "2", "Summary", "3", "4"]


def test_a_conversation_is_compacted_and_keeps_all(
    client: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(SUMMARY, HELLO, HELLO)
    conversation = client.post("/v1/conversations", json={}).json()["id"]
    create(client, input=talk(3), conversation=conversation, context_management=THRESHOLD)
    create(client, input="5", conversation=conversation)
    assert seen(upstream)[-1] == ["1", "2", "3", "Summary", "4", "Hello", "5"]
    path = f"/v1/conversations/{conversation}/items?limit=100&order=asc"
    types = [item["type"] for item in client.get(path).json()["data"]]
    assert types == ["message"] * 7 + ["compaction"] + ["message"] * 3


def test_a_job_compacts(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(SUMMARY, HELLO)
    background = Background(client)
    final = background.reach(
        background.start(input=talk(3), context_management=THRESHOLD), "completed"
    )
    assert [item["type"] for item in final["output"]] == ["compaction", "message"]
    assert final["usage"]["total_tokens"] == 75 + 23


def test_any_node_opens_it(tmp_path: Path, upstream: ChatUpstream) -> None:
    """Two servers on one database, neither of which has keys in its settings."""
    upstream.script(SUMMARY, HELLO)
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    with (
        serve(tmp_path, toml) as one,
        serve(tmp_path, toml) as two,
        client_of(one) as first,
        client_of(two) as second,
        client_of(two, OTHER_KEY) as stranger,
    ):
        item = compact(first, input=talk(2))["output"][-1]
        create(second, input=[item, {"role": "user", "content": "4"}])
        reply = stranger.post("/v1/responses", json={"model": "m", "input": [item]})
        assert error_of(reply)["code"] == "invalid_encrypted_content"
    assert seen(upstream)[1] == ["1", "2", "Summary", "3", "4"]
