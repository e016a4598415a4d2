"""What the model was told of hosted calls is in its later requests, and nowhere on the wire
(decision 0007). The code runs in a real sandbox."""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import Json, client_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve
from tests.sandbox_environment import sandbox_environment

PYTHON: Final[Json] = {"type": "code_interpreter", "container": {"type": "auto"}}
FUNCTION: Final[Json] = {"type": "function", "name": "f", "parameters": {"type": "object"}}
OUTPUTS: Final = ["code_interpreter_call.outputs"]
SECRET: Final = "print('the ' + 'answer is 1234')"


@pytest.fixture(scope="module")
def server(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """One with sandboxes."""
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    env = {"ANTIPHON_SANDBOX": str(sandbox_environment())}
    with serve(tmp_path_factory.mktemp("told"), toml, env) as live:
        yield live


@pytest.fixture
def api(server: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(server) as client:
        yield client


def script(upstream: ChatUpstream, code: str, *more: tuple[str, Json]) -> None:
    """A turn with Python and other calls; then an answer, as often as needed."""
    upstream.script(Reply.calls(("code_interpreter", {"code": code}), *more), Reply.chat("Done."))


def ask(api: httpx2.Client, **fields: Any) -> Json:
    body = {"model": "m", "input": "Go.", "tools": [PYTHON], **fields}
    made = api.post("/v1/responses", json=body)
    assert made.status_code == 200, made.text
    answer: Json = made.json()
    return answer


def results(upstream: ChatUpstream) -> list[str]:
    """What the model reads of calls in its last request."""
    messages = upstream.requests[-1].json["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def test_the_client_answers_its_call_and_the_model_has_both(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """The response ended before the model could see what its code had printed."""
    script(upstream, SECRET, ("f", {}))
    first = ask(api, tools=[PYTHON, FUNCTION])
    assert len(upstream.requests) == 1
    assert "the answer is" not in str(first)
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "fine"}
    upstream.script(Reply.chat("Done."))
    ask(api, tools=[PYTHON, FUNCTION], previous_response_id=first["id"], input=[answer])
    assert "the answer is 1234" in "".join(results(upstream))
    assert "fine" in results(upstream)


def test_it_is_for_no_client(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """Not of the response, nor as input of the next one: also where that names the item, which
    the model then sees with all it was told."""
    script(upstream, SECRET)
    first = ask(api)
    second = ask(api, previous_response_id=first["id"])
    assert "the answer is 1234" in results(upstream)[0]
    (call,) = (item for item in first["output"] if item["type"] == "code_interpreter_call")
    named = {"type": "item_reference", "id": call["id"]}
    third = ask(api, input=[{"role": "user", "content": "x"}, named])
    assert "the answer is 1234" in results(upstream)[0]
    for answer in (first, second, third):
        for path in (answer["id"], f"{answer['id']}/input_items"):
            assert "the answer is" not in api.get(f"/v1/responses/{path}").text


def test_long_outputs_stay_cut(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """Whether the server keeps them or the client sends them back."""
    script(upstream, "print('y' * 900_000)")
    first = ask(api, include=OUTPUTS)
    (in_the_run,) = results(upstream)
    ask(api, previous_response_id=first["id"])
    assert results(upstream) == [in_the_run]
    ask(api, input=[{"role": "user", "content": "Go."}, *first["output"]], store=False)
    (sent_back,) = results(upstream)
    assert max(len(in_the_run), len(sent_back)) < 40_000
    assert "characters are left out" in in_the_run
    assert "characters are left out" in sent_back


def test_a_conversation_goes_on_from_it(api: httpx2.Client, upstream: ChatUpstream) -> None:
    conversation = api.post("/v1/conversations", json={}).json()["id"]
    script(upstream, SECRET)
    ask(api, conversation=conversation)
    ask(api, conversation=conversation)
    assert "the answer is 1234" in results(upstream)[0]
    assert "the answer is" not in api.get(f"/v1/conversations/{conversation}/items").text
