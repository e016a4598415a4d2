"""All that a model can say in one turn. Backends produce these; the machine turns them into events.

Rules
1. A turn is any number of deltas and then exactly one `Finish`; `UsageReport` may come at any
   place before or after it.
2. `ToolCallDelta.index` names the call within the turn. The first delta of an index carries the
   whole `name`; `call_id` may be missing (the machine mints one). `arguments` is a fragment:
   the fragments joined are the JSON arguments (function) or the free text (custom).
3. A failure is not a delta: the backend raises an `antiphon.errors.APIError`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from antiphon.protocol.response import Usage

#: One token's log probability as the API shows it: {token, bytes, logprob, top_logprobs} (App. B).
Logprob: TypeAlias = dict[str, Any]

Phase: TypeAlias = Literal["commentary", "final_answer"]
FinishReason: TypeAlias = Literal["stop", "length", "content_filter"]


@dataclass(slots=True)
class MessageStart:
    """The text that follows is a message of its own, of this `phase` if the model says one: it
    wants that back (spec §3.3)."""

    phase: Phase | None = None


@dataclass(slots=True)
class TextDelta:
    """Visible text of the assistant message."""

    text: str
    logprobs: list[Logprob] | None = None


@dataclass(slots=True)
class AnnotationDelta:
    """An annotation of the visible text so far, as the API shows it (spec §3.3)."""

    annotation: dict[str, Any]


@dataclass(slots=True)
class RefusalDelta:
    """Text of a refusal."""

    text: str


@dataclass(slots=True)
class ReasoningDelta:
    """Raw chain of thought, shown as ``reasoning_text`` (spec §4.1)."""

    text: str


@dataclass(slots=True)
class SummaryDelta:
    """Text of a summary that the backend makes of its reasoning; another `part` is another
    summary."""

    text: str
    part: int = 0


@dataclass(slots=True)
class ReasoningState:
    """What the backend wants back with this reasoning, as it is: signatures, encrypted thoughts.
    Any JSON value; a later one of the same reasoning takes the place of an earlier one."""

    state: Any


@dataclass(slots=True)
class ToolCallDelta:
    """A fragment of one tool call."""

    index: int
    arguments: str = ""
    name: str | None = None
    call_id: str | None = None
    kind: Literal["function", "custom"] = "function"


@dataclass(slots=True)
class HostedDelta:
    """A step of a call that the model's server runs itself. The first one of an `index` announces
    an item of this type with these `fields`; later ones are an `event` of the item, by its name
    without ``response.``, or its end, with the `status` and the fields that it has then. One with
    none of these says that nothing but the end may follow."""

    index: int
    item_type: str
    fields: dict[str, Any] = field(default_factory=dict)
    event: str | None = None
    status: Literal["completed", "incomplete", "failed"] | None = None
    is_first: bool = False


@dataclass(slots=True)
class UsageReport:
    """Tokens that this turn cost, and in which tier it was made, if the backend says so."""

    usage: Usage
    tier: str | None = None


@dataclass(slots=True)
class Finish:
    """The model has ended its turn. Tool calls also end with ``stop``."""

    reason: FinishReason = "stop"


Delta: TypeAlias = (
    MessageStart
    | TextDelta
    | AnnotationDelta
    | RefusalDelta
    | ReasoningDelta
    | SummaryDelta
    | ReasoningState
    | ToolCallDelta
    | HostedDelta
    | UsageReport
    | Finish
)
