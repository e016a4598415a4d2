"""Requests at random, and what a model says to them, out of what Hypothesis draws."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from hypothesis import strategies as st

from antiphon.errors import APIError, UpstreamError
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    ReasoningState,
    TextDelta,
    ToolCallDelta,
)
from tests.engine import context_spec as spec
from tests.engine.context_spec import History, Said
from tests.engine.context_world import CALL_IDS, World, text, wire

Json = dict[str, Any]

# -- requests at random --------------------------------------------------------------------------


@dataclass
class Asking:
    """One request, and what the model will say to it."""

    past: History
    where: Json
    own: list[Said] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    front: History = field(default_factory=list)
    parameters: Json = field(default_factory=dict)
    answer: list[Said] = field(default_factory=list)
    ending: Finish | APIError = field(default_factory=Finish)
    size: int | None = None
    most: int | None = None

    @property
    def all_turns(self) -> bool:
        return "reasoning" in self.parameters

    @property
    def auto(self) -> bool:
        return self.parameters.get("truncation") == "auto"

    @property
    def is_compaction(self) -> bool:
        return bool(self.own) and self.own[-1].kind == "trigger"

    def shown(self) -> History:
        return spec.carried(self.past + self.own, all_turns=self.all_turns)


class Draw:
    """Makes requests of what Hypothesis draws."""

    def __init__(self, data: st.DataObject, world: World) -> None:
        self._draw = data.draw
        self._world = world

    def often(self, times: int, of: int) -> bool:
        return self._draw(st.integers(0, of - 1)) < times

    def one(self, choices: Sequence[Any]) -> Any:
        return self._draw(st.sampled_from(choices))

    def request(self) -> Asking:
        asking = self._place()
        self._answer_all(asking)
        for _ in range(self._draw(st.integers(0, 5))):
            self.one(_ITEMS)(self, asking)
        if not asking.sent:
            self._message(asking)
        if self.often(9, 10):
            self._answer_all(asking)
        if self.often(1, 6):
            self._add(asking, self._world.say("trigger"))
        else:
            self._windows(asking)
            self._answer(asking)
        if self.often(1, 3):
            asking.parameters["reasoning"] = {"context": "all_turns"}
        self._template(asking)
        return asking

    # -- where ---------------------------------------------------------------------------------

    def _place(self) -> Asking:
        world = self._world
        match self.one(("new", "chain", "chain", "chain", "conversation")):
            case "chain" if world.chains:
                parent = self.one(list(world.chains))
                return Asking(world.chains[parent], {"previous_response_id": parent})
            case "conversation":
                id_ = self.one(list(world.conversations))
                return Asking(world.conversations[id_], {"conversation": id_})
        return Asking([], {})

    def _template(self, asking: Asking) -> None:
        if self.often(1, 3):
            id_ = next(iter(self._world.templates))
            asking.front = [self._world.templates[id_]]
            asking.parameters["prompt"] = {"id": id_}
        if self.often(1, 3):
            asking.parameters["instructions"] = "of the request"

    def _windows(self, asking: Asking) -> None:
        match self.one(("none", "disabled", "auto", "auto", "refuses")):
            case "disabled":
                asking.size = self._draw(st.integers(40, 300))
            case "auto":
                asking.size = self._draw(st.integers(40, 300))
                asking.parameters["truncation"] = "auto"
            case "refuses":
                asking.most = self._draw(st.integers(1, 6))
                asking.parameters["truncation"] = self.one(("auto", "auto", "disabled"))

    # -- own input -----------------------------------------------------------------------------

    def _add(self, asking: Asking, said: Said) -> None:
        """Something that is new."""
        asking.own.append(said)
        asking.sent.append(wire(said, self._world.seal))

    def _message(self, asking: Asking) -> None:
        role = self.one(("user", "user", "user", "assistant", "system", "developer"))
        said = self._world.say("message", role=role)
        if self.often(1, 5):  # some clients give all their items one id
            said = replace(said, id="fake")
        self._add(asking, said)

    def _calls(self, asking: Asking) -> None:
        free = [id_ for id_ in CALL_IDS if id_ not in spec.pending(asking.shown())]
        for call_id in free[: self._draw(st.integers(1, 2))]:
            self._add(asking, self._world.say("call", call_id=call_id))

    def _answer_all(self, asking: Asking, *, in_order: bool = False) -> None:
        waiting = spec.pending(asking.shown())
        if not in_order and self.often(1, 3):
            waiting.reverse()
        for call_id in waiting:
            self._add(asking, self._world.say("output", call_id=call_id))

    def _nameless_output(self, asking: Asking) -> None:
        if spec.pending(asking.shown()) or self.often(1, 20):
            self._add(asking, self._world.say("output"))

    def _thought(self, asking: Asking) -> None:
        said = self._world.say("reasoning")
        self._add(asking, replace(said, state=int(said.label)) if self.often(1, 2) else said)

    def _foreign_compaction(self, asking: Asking) -> None:
        self._add(asking, self._world.say("compaction"))

    def _reference(self, asking: Asking) -> None:
        """To anything that was stored anywhere in the project."""
        known = {id_: said for id_, said in self._world.stored.items() if said.call_id is None}
        if not known:
            return
        said = known[id_ := self.one(list(known))]
        asking.sent.append({"type": "item_reference", "id": id_})
        if all(id_ != other.id for other in asking.past + asking.own):
            asking.own.append(said)

    def _again(self, asking: Asking) -> None:
        """An item that went over the wire, once more: a part of a history that a client keeps."""
        known = [id_ for id_ in self._world.wires if self._world.stored[id_].kind != "output"]
        if not known:
            return
        id_ = self.one(list(known))
        said = self._world.stored[id_]
        if said.call_id is not None and said.call_id in spec.pending(asking.shown()):
            return
        asking.sent.append(self._world.wires[id_])
        if all(id_ != other.id for other in asking.past + asking.own):
            asking.own.append(said)

    def tidy(self) -> Asking:
        """What a chat client sends: answers to calls, then messages; no thoughts, no seals."""
        asking = self._place()
        self._answer_all(asking, in_order=True)
        for _ in range(self._draw(st.integers(0 if asking.own else 1, 3))):
            role = self.one(("user", "user", "assistant", "developer"))
            self._add(asking, self._world.say("message", role=role))
        self._template(asking)
        asking.parameters["truncation"] = "auto"
        self._answer(asking)
        asking.answer = [said for said in asking.answer if said.kind != "reasoning"]
        asking.answer = [replace(said, cut_off=False) for said in asking.answer]
        asking.ending = Finish()
        return asking

    # -- the answer ----------------------------------------------------------------------------

    def _answer(self, asking: Asking) -> None:
        say, answer = self._world.say, asking.answer
        if self.often(1, 2):
            said = say("reasoning")
            answer.append(replace(said, state=int(said.label)) if self.often(1, 2) else said)
        if self.often(2, 3):
            answer.append(say("message", role="assistant"))
        if self.often(1, 3):
            for call_id in CALL_IDS[: self._draw(st.integers(1, 3))]:
                answer.append(say("call", call_id=call_id))
        if self.often(1, 8):
            asking.ending = Finish("length")
        elif self.often(1, 10):
            asking.ending = UpstreamError()
        cut = isinstance(asking.ending, APIError) or asking.ending.reason == "length"
        if answer and answer[-1].kind == "call" and cut:
            answer[-1] = replace(answer[-1], cut_off=True)
        if answer and isinstance(asking.ending, APIError):
            answer[-1] = replace(answer[-1], state=None)  # sealed when it is whole


_ITEMS: Final = (
    *(Draw._message,) * 4,
    *(Draw._calls, Draw._answer_all) * 2,
    *(Draw._nameless_output, Draw._thought, Draw._foreign_compaction),
    *(Draw._reference, Draw._again),
)


def script(asking: Asking) -> list[Delta | APIError]:
    """What the model says."""
    if asking.is_compaction:
        return [TextDelta(text(asking.own[-1].label)), Finish()]
    steps: list[Delta | APIError] = []
    for index, said in enumerate(asking.answer):
        match said.kind:
            case "reasoning":
                steps.append(ReasoningDelta(text(said.label)))
                if said.state is not None:
                    steps.append(ReasoningState(said.state))
            case "message":
                steps.append(TextDelta(text(said.label)))
            case _:
                arguments = orjson.dumps({"x": text(said.label)}).decode()
                steps.append(ToolCallDelta(index, arguments, "f", said.call_id))
    return [*steps, asking.ending]
