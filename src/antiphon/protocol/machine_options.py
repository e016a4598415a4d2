"""What a request asks of the event stream (`machine.py`)."""

from collections.abc import Callable, Container, Mapping, Set
from dataclasses import dataclass, field

from antiphon.protocol.effects import Json
from antiphon.protocol.sources import Sources
from antiphon.protocol.streamed_calls import Streamed


@dataclass(frozen=True, slots=True)
class AllBut:
    """All names but some."""

    names: Set[str]

    def __contains__(self, name: object) -> bool:
        return bool(name) and name not in self.names


@dataclass(slots=True)
class MachineOptions:
    """What a request asks of the event stream."""

    obfuscation: bool = False
    #: Nobody reads the events: only the Response counts.
    unread: bool = False
    #: A failure has an ``error`` event of its own, before ``response.failed``.
    errors: bool = True
    logprobs: bool = False
    parallel_tool_calls: bool = True
    #: Names that the model may call; None: any.
    allowed_tools: frozenset[str] | None = None
    #: Functions whose calls are taken by the engine when the turn is over.
    held: Container[str | None] = frozenset()
    #: Of these, functions whose item is announced while the model makes the call.
    streamed: Mapping[str, Streamed] = field(default_factory=dict)
    #: Function → the name and the namespace of the client's tool that it stands for, where the
    #: client knows it by another name than the model.
    shown: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    #: What the model may cite in its text; None: nothing. `linked`: a mark becomes a visible link.
    sources: Sources | None = None
    linked: bool = True
    #: Raw reasoning is shown as a summary: the request asked for one.
    summarise: bool = False
    #: Makes the `encrypted_content` of reasoning; None: there is none.
    seal: Callable[[Json], str] | None = None
    #: All reasoning is sealed; else only what the item itself does not show.
    sealed: bool = False
