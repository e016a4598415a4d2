"""Shipped fakes and checks for tests of Antiphon and of what is built on it.

Rules
1. Fakes are whole implementations of a port, not mocks.
2. `assert_valid_log` knows the grammar of spec §4.1 and nothing of the machine's code.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

import orjson

from antiphon.backends.base import Deltas, Health, Media, Model, Prompt
from antiphon.errors import APIError
from antiphon.protocol.deltas import Delta
from antiphon.protocol.ids import PADDED_TO, make_id
from antiphon.protocol.request import CreateResponse
from antiphon.tools.base import Call, CallItem, HostedFunction, Outcome, Scope, Stage

Json: TypeAlias = dict[str, Any]
#: One step of a scripted turn: deltas of one read, a pause in seconds, or a failure.
Step: TypeAlias = Sequence[Delta] | float | APIError

_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


class FixedMint:
    """Counts instead of drawing: the same calls give the same ids."""

    def __init__(self, partition: str = "0" * 16, time: int = 1_700_000_000) -> None:
        self.partition = partition
        self.time = time
        self._count = 0

    def item_id(self, prefix: str) -> str:
        """``msg_<partition><count>``."""
        self._count += 1
        return make_id(prefix, self.partition, f"{self._count:032x}")

    def call_id(self) -> str:
        """``call_`` and a count."""
        self._count += 1
        return f"call_{self._count:024d}"

    def now(self) -> int:
        """Always the same."""
        return self.time

    @property
    def paddings(self) -> Sequence[bytes]:
        """Not random at all."""
        return [b"x" * (PADDED_TO - over) for over in range(PADDED_TO)]


class ScriptedBackend:
    """A backend that says what the test wrote down; it keeps the prompts that it got."""

    def __init__(
        self,
        *turns: Sequence[Step],
        name: str = "scripted",
        tokens: int | Callable[[Prompt], int] | None = None,
        context_window: int | None = None,
    ) -> None:
        """`tokens`: what it counts in a prompt, None as if it had no tokenizer. Both that and the
        window of all its models may be changed later."""
        self.name = name
        self.tokens = tokens
        self.context_window = context_window
        self.prompts: list[Prompt] = []
        self.closed = 0
        self._turns = list(turns)

    def check(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002
        """Everything is fine."""
        return []

    def media(self, model: str) -> Media:  # noqa: ARG002
        """See `Backend.media`."""
        return Media()

    async def generate(self, prompt: Prompt) -> Deltas:
        """The next turn of the script."""
        self.prompts.append(prompt)
        try:
            for step in self._turns.pop(0):
                if isinstance(step, APIError):
                    raise step
                if isinstance(step, float | int):
                    await asyncio.sleep(step)
                else:
                    yield list(step)
        finally:
            self.closed += 1

    async def count(self, prompt: Prompt) -> int | None:
        """What the test said."""
        return self.tokens(prompt) if callable(self.tokens) else self.tokens

    async def window(self, model: str) -> int | None:  # noqa: ARG002
        """What the test said."""
        return self.context_window

    async def models(self) -> list[Model]:
        """One model with the backend's name."""
        return [Model(self.name, self.name)]

    def health(self) -> Health:
        """See `Backend.health`."""
        return Health()

    async def aclose(self) -> None:
        """Nothing to release."""


class ScriptedTool:
    """A hosted tool that does what the test wrote down; it keeps the calls that it got. One object
    is the tool and what is opened of it. Its items are those of the code interpreter: the code is
    that of the arguments, `Outcome` gives what it printed."""

    item_type = "code_interpreter_call"

    def __init__(
        self,
        run: Callable[[Call, CallItem], Awaitable[str]] | None = None,
        *functions: HostedFunction,
        prepare: Callable[[Stage], Awaitable[None]] | None = None,
    ) -> None:
        """`run` gives what was printed; without it a call prints its code. Without `functions`
        there is one, ``code_interpreter``, that may be repeated."""
        self.calls: list[Call] = []
        self.scopes: list[Scope] = []
        self.closed = 0
        self._run = run
        self._prepare = prepare
        self.functions: Sequence[HostedFunction] = functions or (
            HostedFunction("code_interpreter", "Runs Python.", {"type": "object"}),
        )

    async def check(self, tool: Json, path: str, project: str) -> list[str]:  # noqa: ARG002
        """Everything is fine."""
        return []

    def open(self, tool: Json, scope: Scope) -> "ScriptedTool":  # noqa: ARG002
        """Itself."""
        self.scopes.append(scope)
        return self

    async def prepare(self, stage: Stage) -> None:
        """What the test said."""
        if self._prepare is not None:
            await self._prepare(stage)

    def begin(self, call: Call) -> Json:
        """The code, nothing else yet."""
        return {"code": call.arguments, "container_id": "cntr_1", "outputs": None}

    def failed(self, call: Call, reason: str) -> Outcome:  # noqa: ARG002
        """The reason, as what was printed."""
        return Outcome({"outputs": [{"type": "logs", "logs": reason}]}, "failed", told=reason)

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """What the test said."""
        self.calls.append(call)
        item.emit("code_interpreter_call.interpreting")
        printed = f"ran {call.arguments}" if self._run is None else await self._run(call, item)
        return Outcome({"outputs": [{"type": "logs", "logs": printed}]})

    def close(self) -> None:
        """Counted."""
        self.closed += 1

    async def aclose(self) -> None:
        """Nothing to end."""


def decode(frames: Iterable[tuple[str, bytes]]) -> list[Json]:
    """Frames as events."""
    return [orjson.loads(body) for _, body in frames]


def assert_valid_log(events: Sequence[Json]) -> Json:
    """Hold a whole stream against the grammar; returns the final Response.

    Raises AssertionError with the reason. Also R-48: contiguous numbers, one terminal event, last.
    """
    reader = _read(events)
    types = [event["type"] for event in events]
    assert [type_ for type_ in types if type_ in _TERMINAL] == types[-1:], (
        "one terminal event, last"
    )
    final: Json = events[-1]["response"]
    assert final["status"] == types[-1].removeprefix("response.")
    if final["status"] != "failed":
        assert not reader.open, f"items never done: {sorted(reader.open)}"
        assert final["output"] == [reader.done[index] for index in reader.kept]
    assert [item["id"] for item in final["output"]] == reader.kept_ids()
    return final


def assert_valid_beginning(events: Sequence[Json]) -> None:
    """The same for the log of a response that still runs, or that was cancelled: no event says
    so (spec §4.4)."""
    _read(events)
    assert not [event["type"] for event in events if event["type"] in _TERMINAL]


def _read(events: Sequence[Json]) -> "_Reader":
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(len(events))), f"sequence numbers: {numbers}"
    assert events[0]["type"] == "response.created", events[0]["type"]
    reader = _Reader()
    for event in events:
        reader.take(event)
    return reader


class _Reader:
    """What a client that believes nothing keeps of a stream."""

    def __init__(self) -> None:
        self.response_id = ""
        #: output_index → the item as it was added.
        self.open: dict[int, Json] = {}
        self.done: dict[int, Json] = {}
        #: The indices of the items of `output`, in order: all but those that were taken back.
        self.kept: list[int] = []
        self.strings: dict[tuple[int, int, str], str] = {}
        #: (output_index, name of the part's index) → the last part that was added.
        self.parts: dict[tuple[int, str], int] = {}

    def kept_ids(self) -> list[str]:
        """The ids of the items of `output`."""
        return [(self.done.get(index) or self.open[index])["id"] for index in self.kept]

    def take(self, event: Json) -> None:
        if "response" in event:
            self.response_id = self.response_id or event["response"]["id"]
            assert event["response"]["id"] == self.response_id, "the response's id changed"
        if event["type"] == "response.in_progress":
            self._in_progress(event["response"]["output"], event.get("withdrawn", []))
        if "output_index" not in event:
            return
        index = event["output_index"]
        match event["type"]:
            case "response.output_item.added":
                assert index == len(self.open) + len(self.done), f"output_index {index}"
                self.open[index] = event["item"]
                self.kept.append(index)
            case "response.output_item.done":
                self._item_done(index, event["item"])
            case type_:
                assert index in self.open, f"{type_} outside of an open item"
                assert event["item_id"] == self.open[index]["id"]
                self._inside(index, type_, event)

    def _in_progress(self, output: Sequence[Json], withdrawn: Sequence[int]) -> None:
        """It has every item at its index. When somebody else goes on, he says which of them the
        end will not have; nobody gets their indices (spec §4.3, decision 0005)."""
        added = {**self.open, **self.done}
        ids = [added[index]["id"] for index in range(len(added))]
        assert [item["id"] for item in output] == ids, "response.in_progress has other items"
        for index, item in enumerate(output):
            assert item == self.done.get(index, item), f"item {index} changed after it was done"
        if withdrawn:
            assert not self.open, f"taken back while they were open: {sorted(self.open)}"
            assert set(withdrawn) <= set(self.kept), f"taken back twice: {withdrawn}"
            self.kept = [index for index in self.kept if index not in withdrawn]

    def _item_done(self, index: int, item: Json) -> None:
        added = self.open.pop(index)
        for key in ("id", "type", "call_id", "name"):
            assert item.get(key) == added.get(key), f"{key} changed between added and done"
        self.done[index] = item

    def _inside(self, index: int, type_: str, event: Json) -> None:
        name = "summary_index" if "summary_index" in event else "content_index"
        part = int(event.get(name) or 0)
        if type_.endswith("part.added"):
            assert part == self.parts.get((index, name), -1) + 1, f"part {part} of item {index}"
            self.parts[index, name] = part
        kind, _, step = type_.rpartition(".")
        key = (index, part, kind)
        if step == "delta":
            if name in event:
                assert self.parts.get((index, name)) == part, f"{type_} before its part.added"
            self.strings[key] = self.strings.get(key, "") + event["delta"]
        elif step == "done" and not type_.endswith("part.done"):
            said = next(event[name] for name in _STRINGS if name in event)
            assert said == self.strings.pop(key, ""), f"{type_} is not the sum of its deltas"


_STRINGS = ("text", "refusal", "arguments", "input", "code")
