"""One engine with a backend that keeps what it is shown, and all that was said in one project."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from antiphon.backends.base import Backend, Deltas, Prompt
from antiphon.engine.mint import SystemMint
from antiphon.engine.runner import Engine, EngineOptions
from antiphon.engine.sealing import Sealer
from antiphon.errors import APIError, ContextLengthExceeded
from antiphon.protocol.deltas import (
    Delta,
)
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.reasoning import state_of
from antiphon.store.base import Conversation, PromptRow, Store
from antiphon.testing import ScriptedBackend
from tests.engine import context_spec as spec
from tests.engine.bench import JOBS, OneBackend
from tests.engine.context_spec import History, Said

Json = dict[str, Any]
#: So long that no window of these tests is far from any prompt.
FILLER: Final = " lorem ipsum dolor sit amet" * 20
CALL_IDS: Final = ("call_0", "call_1", "call_2")
#: What other services' seals look like.
FOREIGN: Final = "gAAAAABother"


class Recorder(ScriptedBackend):
    """Says what it is told; keeps what it was shown and what it counted."""

    def __init__(self) -> None:
        super().__init__(tokens=self._weigh)
        self.script: Sequence[Delta | APIError] = ()
        self.counted: list[Prompt] = []
        #: Items above which it finds a prompt too long.
        self.most: int | None = None

    async def generate(self, prompt: Prompt) -> Deltas:
        """The script, if the prompt is not too long."""
        self.prompts.append(prompt)
        if self.most is not None and len(prompt.items) > self.most:
            raise ContextLengthExceeded
        yield []
        for step in self.script:
            if isinstance(step, APIError):
                raise step
            yield [step]

    def _weigh(self, prompt: Prompt) -> int:
        self.counted.append(prompt)
        return sum(weight(label(item)) for item in prompt.items)


def weight(name: str) -> int:
    """Tokens of what has this label: some more, some less, and nothing to do with its length."""
    return int(name) * 37 % 50 + 10 if name.isdecimal() else 0


def tokens(items: History) -> int:
    return sum(weight(said.label) for said in items)


# -- items as they are sent and as they are seen -------------------------------------------------


def text(name: str) -> str:
    return f"#{name}#{FILLER}"


def wire(said: Said, seal: Callable[[Any], str]) -> Json:
    """The item as a client sends it."""
    sent: Json = {} if said.id is None else {"id": said.id}
    match said.kind:
        case "message":
            return sent | {"type": "message", "role": said.role, "content": text(said.label)}
        case "call":
            arguments = orjson.dumps({"x": text(said.label)}).decode()
            called = {"call_id": said.call_id, "name": "f", "arguments": arguments}
            return sent | {"type": "function_call", **called}
        case "output":
            answer = {} if said.call_id is None else {"call_id": said.call_id}
            return sent | {"type": "function_call_output", **answer, "output": text(said.label)}
        case "reasoning" if said.state is not None:
            sealed = seal({"content": text(said.label), "state": said.state})
            return sent | {"type": "reasoning", "summary": [], "encrypted_content": sealed}
        case "reasoning":
            summary = [{"type": "summary_text", "text": text(said.label)}]
            return sent | {"type": "reasoning", "summary": summary, "encrypted_content": FOREIGN}
        case "compaction":
            return sent | {"type": "compaction", "encrypted_content": FOREIGN}
        case "trigger":
            return sent | {"type": "compaction_trigger"}


def label(item: Item) -> str:
    """The label in an item."""
    parts = [*item.get("content", ()), *item.get("summary", ())]
    whole = "".join(part["text"] for part in parts)
    whole += str(item.get("arguments", "")) + str(item.get("output", ""))
    return whole.split("#")[1] if "#" in whole else ""


_KINDS: Final = {
    "message": "message",
    "function_call": "call",
    "function_call_output": "output",
    "reasoning": "reasoning",
}


def face(item: Item) -> tuple[object, ...]:
    """What a model sees of an item: see `Said.face`."""
    kind = _KINDS[item["type"]]
    return kind, label(item), item.get("role"), item.get("call_id"), state_of(item)


def faces(items: History) -> list[tuple[object, ...]]:
    return [said.face() for said in items]


def seen(prompt: Prompt) -> list[tuple[object, ...]]:
    return [face(item) for item in prompt.items]


# -- the world -----------------------------------------------------------------------------------


@dataclass
class World:
    """One engine, and all that was said in one project."""

    store: Store
    engine: Engine
    backend: Recorder
    sealer: Sealer
    project: str = ""
    labels: int = 0
    #: Response → what a chain that goes on from it has.
    chains: dict[str, History] = field(default_factory=dict)
    conversations: dict[str, History] = field(default_factory=dict)
    #: Id of a template → its messages.
    templates: dict[str, Said] = field(default_factory=dict)
    #: Everything that is stored, by the ids that we minted.
    stored: dict[str, Said] = field(default_factory=dict)
    #: Items as they went over the wire, to be sent once more.
    wires: dict[str, Json] = field(default_factory=dict)

    async def begin(self) -> None:
        """A project of its own, with a template and two conversations."""
        mint = SystemMint()
        self.project, self.labels = mint.item_id("proj"), 0
        for known in (self.chains, self.conversations, self.templates, self.stored, self.wires):
            known.clear()
        for _ in range(2):
            id_ = mint.item_id("conv")
            await self.store.conversations.add(Conversation(id_, self.project, 0, {}), [])
            self.conversations[id_] = []
        first = self.say("message", role="developer")
        message = {
            **wire(first, str),
            "content": [{"type": "input_text", "text": text(first.label)}],
        }
        row = PromptRow(mint.item_id("pmpt"), self.project, "n", 0, 0)
        await self.store.prompts.add(row, {"instructions": "of the template", "input": [message]})
        self.templates[row.id] = first

    def say(self, kind: spec.Kind, **more: Any) -> Said:
        self.labels += 1
        return Said(kind, str(self.labels), **more)

    def seal(self, payload: Any) -> str:
        return self.sealer.seal("reasoning", self.project, payload)


@asynccontextmanager
async def world_on(store: Store, recorder: Recorder, backend: Backend) -> AsyncIterator[World]:
    await store.open()
    engine = Engine(store, OneBackend(backend), EngineOptions(jobs=JOBS))
    await engine.open()
    sealer = Sealer(store)
    await sealer.open()
    try:
        yield World(store, engine, recorder, sealer)
    finally:
        await engine.close()
        await backend.aclose()
        await store.close()
