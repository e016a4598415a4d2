"""A conversation that changes its backend at every turn (issue 7/8, must show 2): calls, results
and reasoning in its history, from our store or by way of the client."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
import pytest

from tests.api.talk import Json, client_of
from tests.backends.tiny_gguf import write_model
from tests.backends.upstream import ChatUpstream
from tests.conformance.anthropic import AnthropicWire
from tests.conformance.chat import ChatWire
from tests.conformance.gemini import GeminiWire
from tests.conformance.local import LocalWire
from tests.conformance.responses import ResponsesWire
from tests.conformance.stand_in import installed
from tests.conformance.test_conformance import TOOLS, of_type, text_of
from tests.conformance.wire import Asked, Turn, Wire
from tests.live import serve

REMOTE: Final[tuple[Wire, ...]] = (ChatWire(), AnthropicWire(), GeminiWire(), ResponsesWire())
WIRES: Final[tuple[Wire, ...]] = (*REMOTE, LocalWire())
ENTRY: Final = """
[[backends]]
name = "{kind}"
kind = "{kind}"
{reached}
models = [{{"{kind}" = "{model}"}}]
{settings}
"""
#: A model of random numbers says one letter after the other, each what the grammar allows.
REAL: Final = """
[[backends]]
name = "real"
kind = "local"
path = "{path}"
models = ["real"]
threads = 1
parallel = 1
first_byte_timeout = 300
"""
CITIES: Final = ("Bern", "Ulm")
CITY: Final[Json] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": list(CITIES)}},
    "required": ["city"],
    "additionalProperties": False,
}
PLACE: Final[Json] = {"type": "function", "name": "place", "parameters": CITY}
IN_CITY: Final[Json] = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
MODELS: Final = {
    "chat_completions": "real-model",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3-pro",
    "responses": "gpt-5",
    "local": "tiny",
}


class World:
    """A server in front of all providers, and a client."""

    def __init__(self, theirs: dict[str, ChatUpstream], api: httpx2.Client) -> None:
        self.theirs, self.api = theirs, api

    def script(self, wire: Wire, turn: Turn) -> None:
        self.theirs[wire.kind].requests.clear()
        self.theirs[wire.kind].script(wire.reply(turn))

    def asked(self, wire: Wire) -> Asked:
        return wire.asked(self.theirs[wire.kind].requests[-1])


@contextmanager
def _world(
    folder: Path, wires: Sequence[Wire], more: str = "", env: dict[str, str] | None = None
) -> Iterator[World]:
    with ExitStack() as open_:
        theirs = {wire.kind: open_.enter_context(ChatUpstream()) for wire in wires}
        toml = "".join(
            ENTRY.format(
                kind=wire.kind,
                reached=wire.reached(theirs[wire.kind].port, folder),
                model=MODELS[wire.kind],
                settings=wire.settings,
            )
            for wire in wires
        )
        server = open_.enter_context(serve(folder, toml + more, {"THEIR_KEY": "k", **(env or {})}))
        yield World(theirs, open_.enter_context(client_of(server, timeout=60)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("changing")
    with _world(folder, WIRES, env=installed(folder)) as world:
        yield world


@pytest.fixture(scope="module")
def real_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The fifth backend is no stand-in: a tiny model that calls, run by llama.cpp."""
    folder: Path = tmp_path_factory.mktemp("changing")
    model = folder / "eager.gguf"
    write_model(model, eager=True)
    with _world(folder, REMOTE, REAL.format(path=model)) as world:
        yield world


class Conversation:
    """Its history, `stored` here or carried by the client."""

    def __init__(self, world: World, how: str) -> None:
        self._world, self._is_stored = world, how == "stored"
        self._context: list[Json] = []
        self._last: str | None = None

    def ask(self, wire: Wire, turn: Turn, *items: Json) -> Json:
        """The Response of a backend that says `turn`."""
        self._world.script(wire, turn)
        return self.create(wire.kind, *items)

    def create(self, kind: str, *items: Json, **more: Any) -> Json:
        body: Json = {"model": kind, "tools": TOOLS, "reasoning": {"effort": "medium"}, **more}
        if not self._is_stored:
            include = ["reasoning.encrypted_content"]
            body |= {"input": [*self._context, *items], "store": False, "include": include}
        else:
            body |= {"input": list(items), "previous_response_id": self._last}
        reply = self._world.api.post("/v1/responses", json=body)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-antiphon-backend"] == kind
        made: Json = reply.json()
        assert made["status"] == "completed", made
        self._last = made["id"]
        self._context += [*items, *made["output"]]
        return made


def asking(number: int, signature: str | None) -> Turn:
    return Turn(
        [f"Looking {number}."],
        [f"Thought {number}."],
        signature,
        [("weather", {"city": f"City {number}"})],
    )


def question(number: int) -> Json:
    return {"role": "user", "content": f"Question {number}"}


def result(call: Json, number: int) -> Json:
    output = f"Result {number}"
    return {"type": "function_call_output", "call_id": call["call_id"], "output": output}


@pytest.mark.parametrize("shift", range(len(WIRES)))
@pytest.mark.parametrize("how", ["stored", "client"])
def test_a_backend_a_turn(world: World, shift: int, how: str) -> None:
    """Each turn of the user: one backend calls a function, the next one sees its result. What one
    provider has signed no other is sent."""
    order = [*WIRES[shift:], *WIRES[:shift]]
    order += order
    conversation = Conversation(world, how)
    told: list[str] = []
    for number in range(0, len(order) - 1, 2):
        first, second = order[number], order[number + 1]
        signature = "c2ln" if first.signatures else None
        made = conversation.ask(first, asking(number, signature), question(number))
        told += [f"Question {number}", f"Looking {number}."]
        (call,) = of_type(made, "function_call")
        made = conversation.ask(second, Turn([f"Answer {number}."]), result(call, number))
        assert text_of(made) == f"Answer {number}."
        asked = world.asked(second)
        told += [f"Result {number}"]
        said = "\n".join(message.text for message in asked.messages)
        places = [said.find(text) for text in told]
        assert -1 not in places, said
        assert places == sorted(places), said
        calls = [pair for message in asked.messages for pair in message.calls]
        assert calls[-1] == ("weather", {"city": f"City {number}"})
        assert len(calls) == number // 2 + 1
        if first.kind != second.kind:
            signed = [message.signature for message in asked.messages]
            assert signature is None or signature not in signed
        told += [f"Answer {number}."]


@pytest.mark.parametrize("how", ["stored", "client"])
def test_a_real_model_takes_its_turns(real_world: World, how: str) -> None:
    """It calls a function in a conversation of all others, which go on with its call; and it
    answers with the result of a call that another one made, thoughts and signature included."""
    chat, claude, gemini, responses = REMOTE
    conversation = Conversation(real_world, how)
    for number, first, second in ((0, chat, claude), (2, gemini, responses)):
        made = conversation.ask(first, asking(number, None), question(number))
        (call,) = of_type(made, "function_call")
        conversation.ask(second, Turn([f"Answer {number}."]), result(call, number))
    made = conversation.create("real", question(4), tools=[PLACE], tool_choice="required")
    (call,) = of_type(made, "function_call")
    assert call["name"] == "place"
    city = orjson.loads(call["arguments"])["city"]
    assert city in CITIES
    conversation.ask(chat, Turn(["Answer 4."]), result(call, 4))
    messages = real_world.asked(chat).messages
    assert [pair for message in messages for pair in message.calls][-1] == ("place", {"city": city})
    assert messages[-1].text == "Result 4"
    made = conversation.ask(claude, asking(6, "c2ln"), question(6))
    (call,) = of_type(made, "function_call")
    made = conversation.create("real", result(call, 6), text={"format": IN_CITY})
    answer = text_of(made)
    assert orjson.loads(answer)["city"] in CITIES
    told = [f"Question {n}Looking {n}.Result {n}Answer {n}." for n in (0, 2, 4, 6)]
    assert made["usage"]["input_tokens"] > len("".join(told)), "it sees the bytes one by one"
    conversation.ask(responses, Turn(["The end."]), question(8))
    said = [message.text for message in real_world.asked(responses).messages]
    assert said[-3:] == ["Result 6", answer, "Question 8"]
