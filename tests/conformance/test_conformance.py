"""What every backend does, in front of a server that speaks its provider's wire (issue 7/8, must
show 1): the same cases for all. docs/backends.md has a table of them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import Json, client_of, events
from tests.backends.upstream import ChatUpstream
from tests.conformance.anthropic import AnthropicWire
from tests.conformance.bedrock import BedrockWire
from tests.conformance.chat import ChatWire
from tests.conformance.cohere import CohereWire
from tests.conformance.gemini import GeminiWire
from tests.conformance.library import LibraryWire
from tests.conformance.local import LocalWire
from tests.conformance.mistral import MistralWire
from tests.conformance.responses import ResponsesWire
from tests.conformance.stand_in import installed
from tests.conformance.wire import Asked, Break, Refusal, Turn, Wire
from tests.live import LiveServer, serve

WIRES: Final[tuple[Wire, ...]] = (
    *(ChatWire(), ChatWire(schemas=False)),
    *(AnthropicWire(), AnthropicWire(claude=False)),
    *(GeminiWire(), ResponsesWire(), LocalWire()),
    *(CohereWire(), BedrockWire(), MistralWire()),
)
SECRET_KEY: Final = "key-of-the-operator"
TOML: Final = """
[[backends]]
name = "theirs"
kind = "{kind}"
{reached}
models = [{{m = "real-model"}}]
max_retries = 0
idle_timeout = 0.5
breaker_failures = 1000
{settings}

[[backends]]
name = "patient"
kind = "{kind}"
{reached}
models = [{{patient = "real-model"}}, "listed-*"]
breaker_failures = 1000
{settings}
"""
PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
WEATHER: Final[Json] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Final = [
    {"type": "function", "name": "weather", "description": "Now.", "parameters": WEATHER},
    {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}},
]
#: Refusal → status and code.
REFUSED: Final[dict[Refusal, tuple[int, str | None]]] = {
    "rate": (429, "rate_limit_exceeded"),
    "overloaded": (502, "server_error"),
    "broken": (502, "server_error"),
    "key": (502, "server_error"),
    "forbidden": (502, "server_error"),
    "too_long": (400, "context_length_exceeded"),
    "no_model": (400, "model_not_found"),
    "refused": (400, None),
    "web_page": (502, "server_error"),
    "garbage": (502, "server_error"),
}
BREAKS: Final[tuple[Break, ...]] = ("error", "cut", "early", "stall", "noise")


class Bench:
    """A provider, our server in front of it, and a client."""

    def __init__(self, wire: Wire, theirs: ChatUpstream, api: httpx2.Client) -> None:
        self.wire, self.theirs, self.api = wire, theirs, api

    def script(self, *turns: Turn | Refusal | Break) -> None:
        self.theirs.requests.clear()
        self.theirs.script(
            *(
                self.wire.reply(turn) if isinstance(turn, Turn) else self.wire.fault(turn)
                for turn in turns
            )
        )

    def asked(self, place: int = -1) -> Asked:
        return self.wire.asked(self.theirs.requests[place])

    def post(self, **body: Any) -> httpx2.Response:
        return self.api.post("/v1/responses", json={"model": "m", "input": "Hi", **body})

    def create(self, **body: Any) -> Json:
        """The Response; streamed, the one of the last event, which all before it amount to."""
        reply = self.post(**body)
        assert reply.status_code == 200, reply.text
        if not body.get("stream"):
            made: Json = reply.json()
            return made
        final: Json = events(reply.text)[-1]["response"]
        return final


@pytest.fixture(scope="module", params=WIRES, ids=lambda wire: wire.name)
def _bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    wire: Wire = request.param
    with ChatUpstream(wire.models("listed-1", "real-model")) as theirs:
        folder: Path = tmp_path_factory.mktemp("conformance")
        reached = wire.reached(theirs.port, folder)
        toml = TOML.format(kind=wire.kind, reached=reached, settings=wire.settings)
        env = {"THEIR_KEY": SECRET_KEY, **installed(folder)}
        if isinstance(wire, LibraryWire):
            theirs.paths.update(wire.paths("listed-1", "real-model"))
            env |= wire.environment(theirs.port)
        with serve(folder, toml, env) as server:
            yield from _with_client(wire, theirs, server)


def _with_client(wire: Wire, theirs: ChatUpstream, server: LiveServer) -> Iterator[Bench]:
    with client_of(server) as api:
        yield Bench(wire, theirs, api)


@pytest.fixture
def bench(_bench: Bench) -> Bench:
    return _bench


def text_of(response: Json) -> str:
    return "".join(
        part.get("text", "")
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


def of_type(response: Json, *types: str) -> list[Json]:
    return [item for item in response["output"] if item["type"] in types]


# -- what is said --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_text_and_usage(bench: Bench, *, stream: bool) -> None:
    bench.script(Turn(["Hel", "lo"], usage=(7, 4, 5, 0)))
    made = bench.create(stream=stream, instructions="Be kind.", temperature=0.5)
    assert (made["status"], text_of(made)) == ("completed", "Hello")
    usage = made["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (7, 5, 12)
    assert usage["input_tokens_details"]["cached_tokens"] == 4
    asked = bench.asked()
    assert asked.model == "real-model"
    assert (asked.key == SECRET_KEY) is bench.wire.keyed
    assert asked.system == "Be kind."
    assert [(message.role, message.text) for message in asked.messages] == [("user", "Hi")]
    assert asked.temperature == 0.5


def test_text_comes_as_it_is_said(bench: Bench) -> None:
    bench.script(Turn(["one ", "two ", "three"], pause=0.2))
    body = {"model": "m", "input": "Hi", "stream": True}
    times: list[float] = []
    with bench.api.stream("POST", "/v1/responses", json=body) as reply:
        for text in reply.iter_text():
            times += [time.monotonic()] * text.count("event: response.output_text.delta")
    assert len(times) == 3
    assert times[-1] - times[0] > 0.3


def test_a_conversation(bench: Bench) -> None:
    bench.script(Turn(["Hello"]), Turn(["Bye"]))
    first = bench.create()
    bench.create(previous_response_id=first["id"], input="And now?")
    said = [(message.role, message.text) for message in bench.asked().messages]
    assert said == [("user", "Hi"), ("assistant", "Hello"), ("user", "And now?")]


def test_max_output_tokens(bench: Bench) -> None:
    bench.script(Turn(["Hel"], finish="length"))
    made = bench.create(max_output_tokens=50)
    assert made["status"] == "incomplete"
    assert made["incomplete_details"] == {"reason": "max_output_tokens"}
    assert text_of(made) == "Hel"
    assert bench.asked().most_tokens == 50


def test_a_filter(bench: Bench) -> None:
    bench.script(Turn(["Hel"], finish="filter"))
    made = bench.create()
    if bench.wire.filters:
        assert made["incomplete_details"] == {"reason": "content_filter"}
    else:
        assert text_of(made) == "Hel"


def test_a_refusal(bench: Bench) -> None:
    """Where the provider has words for it they are a refusal; else it is a filter."""
    bench.script(Turn(["I can't."], finish="refusal"))
    made = bench.create()
    refusals = [
        part["refusal"]
        for item in made["output"]
        for part in item.get("content", ())
        if part["type"] == "refusal"
    ]
    if bench.wire.filters:
        assert refusals == ["I can't."] or made["incomplete_details"] == {
            "reason": "content_filter"
        }
    else:
        assert text_of(made) == "I can't."


# -- tools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_calls_and_their_results(bench: Bench, *, stream: bool) -> None:
    calls: list[tuple[str, Json]] = [("weather", {"city": "Bern"}), ("weather", {"city": "Ulm"})]
    bench.script(Turn(["Let me see."], calls=[*calls, ("clock", {})]), Turn(["Warm."]))
    first = bench.create(tools=TOOLS, stream=stream)
    assert first["status"] == "completed"
    made = of_type(first, "function_call")
    assert [call["name"] for call in made] == ["weather", "weather", "clock"]
    assert [call["arguments"] for call in made][1:] == ['{"city":"Ulm"}', "{}"]
    assert len({call["call_id"] for call in made}) == 3
    asked = bench.asked()
    assert set(asked.tools) == {"weather", "clock"}
    assert asked.tools["weather"]["properties"] == WEATHER["properties"]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"out-{place}"}
        for place, call in enumerate(made)
    ]
    second = bench.create(
        input=outputs[::-1], previous_response_id=first["id"], tools=TOOLS, stream=stream
    )
    assert text_of(second) == "Warm."
    messages = bench.asked().messages
    assistant = next(message for message in messages if message.role == "assistant")
    assert assistant.text == "Let me see."
    assert [(name, arguments) for name, arguments in assistant.calls] == [*calls, ("clock", {})]
    results = [message.text for message in messages if message.role == "tool"]
    assert len(results) == 3
    assert all(f"out-{place}" in text for place, text in enumerate(results))


@pytest.mark.parametrize(
    ("choice", "expected", "tools"),
    [
        ("none", (None, "none"), ()),
        ("required", ("required",), ("clock", "weather")),
        ({"type": "function", "name": "clock"}, ("clock", "required"), ("clock",)),
    ],
)
def test_tool_choice(
    bench: Bench, choice: Any, expected: tuple[str | None, ...], tools: tuple[str, ...]
) -> None:
    """By what the provider knows, or by leaving tools out."""
    bench.script(Turn(["Hello"]))
    bench.create(tools=TOOLS, tool_choice=choice)
    asked = bench.asked()
    assert asked.choice in expected
    if choice != "none" and asked.choice != "clock":
        assert tuple(sorted(asked.tools)) == tools


def test_a_custom_tool(bench: Bench) -> None:
    """Free text comes back as free text."""
    bench.script(Turn(calls=[("sh", {"input": 'echo "a\nb"'})]))
    made = bench.create(tools=[{"type": "custom", "name": "sh"}], stream=True)
    (call,) = of_type(made, "custom_tool_call")
    assert (call["name"], call["input"]) == ("sh", 'echo "a\nb"')


# -- more than text ------------------------------------------------------------------------------


def test_images(bench: Bench) -> None:
    bench.script(Turn(["Red."]))
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": PIXEL},
    ]
    bench.create(input=[{"role": "user", "content": parts}])
    (message,) = bench.asked().messages
    assert (message.text, list(message.images)) == ("What is it?", [PIXEL])


def test_an_image_as_a_result(bench: Bench) -> None:
    bench.script(Turn(calls=[("look", {})]), Turn(["Red."]))
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    first = bench.create(tools=tools)
    (call,) = of_type(first, "function_call")
    image = {"type": "input_image", "image_url": PIXEL}
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": [image]}
    bench.create(input=[output], previous_response_id=first["id"], tools=tools)
    assert [url for message in bench.asked().messages for url in message.images] == [PIXEL]


def test_an_answer_by_a_schema(bench: Bench) -> None:
    """The server is told the schema; what does not match is no answer (spec §8)."""
    format_ = {"type": "json_schema", "name": "w", "schema": WEATHER, "strict": True}
    bench.script(Turn(['{"city":', ' "Bern"}']), Turn(['{"town": 1}']))
    reply = bench.post(text={"format": format_})
    assert text_of(reply.json()) == '{"city": "Bern"}'
    asked = bench.asked()
    if bench.wire.schemas:
        assert asked.schema is not None
        assert asked.schema["properties"] == WEATHER["properties"]
        assert "x-antiphon-json-schema" not in reply.headers
    else:
        assert '"city"' in asked.system
        assert asked.schema is None
        assert reply.headers["x-antiphon-json-schema"] == "prompted"
    assert bench.post(text={"format": format_}).status_code == 502
    assert len(bench.theirs.requests) == (2 if bench.wire.schemas else 3), "one turn to repair it"


@pytest.mark.parametrize("stream", [False, True])
def test_a_repaired_answer(bench: Bench, *, stream: bool) -> None:
    """Where the model was told in words; who was told the schema is not asked again."""
    format_ = {"type": "json_schema", "name": "w", "schema": WEATHER, "strict": True}
    bench.script(Turn(["It is ", "Bern."]), Turn(['```json\n{"city": "Bern"}\n```']))
    if bench.wire.schemas:
        bench.post(text={"format": format_}, stream=stream)
        assert len(bench.theirs.requests) == 1
        return
    made = bench.create(text={"format": format_}, stream=stream)
    assert text_of(made) == '{"city": "Bern"}'
    assert made["usage"]["total_tokens"] == 24
    assert bench.asked().messages[-1].role == "user"


@pytest.mark.parametrize("store", [True, False])
def test_reasoning_goes_back_where_the_server_wants_it(bench: Bench, *, store: bool) -> None:
    """Within a turn with tools; from our store, or sealed by way of the client."""
    signature = "c2lnbmF0dXJl" if bench.wire.signatures else None
    thinking = Turn(
        ["Let me see."],
        ["I should ", "look."],
        signature,
        [("clock", {})],
        usage=(7, 0, 9, 4),
    )
    bench.script(thinking, Turn(["Late."]))
    asked: Json = {"tools": TOOLS, "reasoning": {"effort": "medium", "summary": "auto"}}
    if not store:
        asked |= {"store": False, "include": ["reasoning.encrypted_content"]}
    first = bench.create(**asked)
    (thought,) = of_type(first, "reasoning")[:1]
    shown = [*(thought.get("content") or ()), *thought["summary"]]
    assert "".join(part["text"] for part in shown) in ("I should look.", "I should look." * 2)
    (call,) = of_type(first, "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "12:00"}
    if store:
        second = bench.create(input=[result], previous_response_id=first["id"], **asked)
    else:
        assert all("SECRET" not in str(item) for item in first["output"])
        context = [{"role": "user", "content": "Hi"}, *first["output"], result]
        second = bench.create(input=context, **asked)
    assert text_of(second) == "Late."
    assistant = next(one for one in bench.asked().messages if one.role == "assistant")
    if bench.wire.thoughts_back:
        assert assistant.thoughts == "I should look."
    assert assistant.signature == signature


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_of_the_server(bench: Bench, fault: Refusal, *, stream: bool) -> None:
    """R-39 to R-43, R-46: our own words, before the first byte."""
    bench.script(fault)
    reply = bench.post(stream=stream)
    status, code = REFUSED[fault]
    if reply.status_code == 200:  # the answer had begun when it turned out to be none
        assert fault in ("garbage", "web_page")
        error = events(reply.text)[-1]["response"]["error"]
    else:
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (status, code), reply.text
    assert "SECRET" not in reply.text
    assert SECRET_KEY not in reply.text
    if fault == "rate":
        assert reply.headers["retry-after"] == "1"


@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks(bench: Bench, fault: Break) -> None:
    """R-45: failed, with what was said; never completed."""
    bench.script(fault)
    reply = bench.post(stream=True)
    assert reply.status_code == 200
    said = events(reply.text)
    assert said[-1]["type"] == "response.failed"
    assert text_of(said[-1]["response"]) == "Hel"
    assert "SECRET" not in reply.text
    kept = bench.api.get(f"/v1/responses/{said[-1]['response']['id']}").json()
    assert (kept["status"], text_of(kept)) == ("failed", "Hel")


@pytest.mark.parametrize("fault", BREAKS)
def test_an_answer_that_breaks(bench: Bench, fault: Break) -> None:
    bench.script(fault)
    reply = bench.post()
    assert reply.status_code in (502, 504)
    assert reply.headers["x-should-retry"] == "false", "tokens were spent (R-52)"
    assert "SECRET" not in reply.text


@pytest.mark.parametrize("fault", ["broken", "overloaded"])
def test_another_try(bench: Bench, fault: Refusal) -> None:
    """R-40: before the first byte."""
    bench.script(fault, Turn(["Hello"]))
    assert text_of(bench.create(model="patient")) == "Hello"
    assert len(bench.theirs.requests) == 2


def test_who_leaves_is_no_longer_worked_for(bench: Bench) -> None:
    """R-53."""
    bench.script("stall")
    body = {"model": "patient", "input": "Hi", "stream": True}
    with bench.api.stream("POST", "/v1/responses", json=body) as reply:
        for text in reply.iter_text():
            if "output_text.delta" in text:
                break
    assert bench.theirs.requests[-1].left.wait(2)


def test_the_list_of_models(bench: Bench) -> None:
    listed = {model["id"] for model in bench.api.get("/v1/models").json()["data"]}
    assert {"m", "patient", "listed-1"} <= listed
    assert "real-model" not in listed
