"""A conversation that changes its backend at every turn (issue 7/8, must show 2): calls, results
and reasoning in its history, from our store or by way of the client."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import Json, client_of
from tests.backends.upstream import ChatUpstream
from tests.conformance.anthropic import AnthropicWire
from tests.conformance.chat import ChatWire
from tests.conformance.gemini import GeminiWire
from tests.conformance.responses import ResponsesWire
from tests.conformance.test_conformance import TOOLS, of_type, text_of
from tests.conformance.wire import Turn, Wire
from tests.live import serve

WIRES: Final[tuple[Wire, ...]] = (ChatWire(), AnthropicWire(), GeminiWire(), ResponsesWire())
ENTRY: Final = """
[[backends]]
name = "{kind}"
kind = "{kind}"
base_url = "{base_url}"
api_key_env = "THEIR_KEY"
models = [{{"{kind}" = "{model}"}}]
{settings}
"""
MODELS: Final = {
    "chat_completions": "real-model",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3-pro",
    "responses": "gpt-5",
}


class World:
    """A server in front of all providers, and a client."""

    def __init__(self, theirs: dict[str, ChatUpstream], api: httpx2.Client) -> None:
        self.theirs, self.api = theirs, api

    def create(self, wire: Wire, *turns: Turn, **body: Any) -> Json:
        upstream = self.theirs[wire.kind]
        upstream.requests.clear()
        upstream.script(*(wire.reply(turn) for turn in turns))
        asked = {"model": wire.kind, "tools": TOOLS, "reasoning": {"effort": "medium"}, **body}
        reply = self.api.post("/v1/responses", json=asked)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-antiphon-backend"] == wire.kind
        made: Json = reply.json()
        assert made["status"] == "completed"
        return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("changing")
    with ExitStack() as open_:
        theirs = {wire.kind: open_.enter_context(ChatUpstream()) for wire in WIRES}
        toml = "".join(
            ENTRY.format(
                kind=wire.kind,
                base_url=f"http://127.0.0.1:{theirs[wire.kind].port}{wire.path}",
                model=MODELS[wire.kind],
                settings=wire.settings,
            )
            for wire in WIRES
        )
        server = open_.enter_context(serve(folder, toml, {"THEIR_KEY": "k"}))
        yield World(theirs, open_.enter_context(client_of(server)))


def asking(number: int, signature: str | None) -> Turn:
    return Turn(
        [f"Looking {number}."],
        [f"Thought {number}."],
        signature,
        [("weather", {"city": f"City {number}"})],
    )


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
    context: list[Json] = []
    last: str | None = None
    told: list[str] = []

    def ask(wire: Wire, turn: Turn, *items: Json) -> Json:
        nonlocal last
        if how == "stored":
            more = {} if last is None else {"previous_response_id": last}
            made = world.create(wire, turn, input=list(items), **more)
            last = made["id"]
        else:
            include = ["reasoning.encrypted_content"]
            body = {"input": [*context, *items], "store": False, "include": include}
            made = world.create(wire, turn, **body)
            context.extend([*items, *made["output"]])
        return made

    for number in range(0, len(order) - 1, 2):
        first, second = order[number], order[number + 1]
        signature = "c2ln" if first.signatures else None
        user = {"role": "user", "content": f"Question {number}"}
        made = ask(first, asking(number, signature), user)
        told += [f"Question {number}", f"Looking {number}."]
        (call,) = of_type(made, "function_call")
        assert text_of(ask(second, Turn([f"Answer {number}."]), result(call, number))) == (
            f"Answer {number}."
        )
        asked = second.asked(world.theirs[second.kind].requests[-1])
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
