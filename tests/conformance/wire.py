"""What every model server can say and be asked, whatever it speaks: the other end of each backend.

Rules
1. A `Wire` turns a `Turn` into the bytes of its provider, as its documentation has them, and reads
   what a backend asked of it back into an `Asked`.
2. The server behind it is `tests/backends/upstream.py` for all: real sockets, a script of replies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from tests.backends.upstream import Reply, Request

Json: TypeAlias = dict[str, Any]

#: How a server fails before its answer: 429 with a ``Retry-After`` of 1 second; its 503 or 529;
#: 500; 401; 403; its words for a prompt that is longer than the window; 404 for a model; another
#: 400; 200 with a web page; 200 with JSON that means nothing. All its texts contain ``SECRET``.
Refusal: TypeAlias = Literal[
    "rate",
    "overloaded",
    "broken",
    "key",
    "forbidden",
    "too_long",
    "no_model",
    "refused",
    "web_page",
    "garbage",
]
#: How it fails within its stream, after the text ``Hel``: its error event; the connection is reset;
#: the stream ends without a reason; nothing more comes; an event that is no JSON.
Break: TypeAlias = Literal["error", "cut", "early", "stall", "noise"]


@dataclass(frozen=True)
class Turn:
    """What the model says: thoughts, then text, then calls (name and arguments). `signature`: what
    the server wants back with the thoughts, where it has that."""

    text: Sequence[str] = ()
    thoughts: Sequence[str] = ()
    signature: str | None = None
    calls: Sequence[tuple[str, Json]] = ()
    finish: Literal["stop", "length", "filter", "refusal"] = "stop"
    #: input (of these cached), output (of these reasoning)
    usage: tuple[int, int, int, int] = (7, 0, 5, 0)
    #: Seconds between two pieces.
    pause: float = 0.0


@dataclass(frozen=True)
class Message:
    """A message that the model sees; `role`: ``user``, ``assistant`` or ``tool``."""

    role: str
    text: str = ""
    #: Addresses of images, data URLs or others; media types of files.
    images: Sequence[str] = ()
    files: Sequence[str] = ()
    calls: Sequence[tuple[str, Json]] = ()
    #: What the server gets back of its thoughts: their text, or what it signed.
    thoughts: str = ""
    signature: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request of the backend."""

    model: str
    messages: Sequence[Message]
    system: str = ""
    #: Name → JSON Schema of its parameters.
    tools: Mapping[str, Json] = field(default_factory=dict)
    #: ``auto``, ``none``, ``required``, or the name of a tool; None: nothing is said.
    choice: str | None = None
    #: Schema of the answer; ``{}`` for any object; None: text.
    schema: Json | None = None
    temperature: float | None = None
    most_tokens: int | None = None
    #: The key that the server was sent.
    key: str | None = None


class Wire(Protocol):
    """One provider's protocol."""

    #: In the names of tests.
    name: str
    #: As `kind` of the configuration.
    kind: str
    #: More lines of the ``[[backends]]`` entry.
    settings: str
    #: Does the server have …: the operator's key, a schema for answers, its old thoughts back,
    #: signatures, images.
    keyed: bool
    schemas: bool
    thoughts_back: bool
    signatures: bool
    images: bool
    #: … a reason to finish that says that something was filtered.
    filters: bool

    def reached(self, port: int, folder: Path) -> str:
        """Lines of the ``[[backends]]`` entry: where the server is, which listens at `port`."""
        ...

    def reply(self, turn: Turn) -> Reply:
        """The turn, streamed as the provider streams it."""
        ...

    def fault(self, fault: Refusal | Break) -> Reply:
        """How it fails."""
        ...

    def asked(self, request: Request) -> Asked:
        """What it was asked."""
        ...

    def models(self, *names: str) -> Reply:
        """Its list of models."""
        ...


class Remote:
    """What is the same for the wires of all servers that the configuration gives an address."""

    #: Of the `base_url`, behind the port: ``/v1``.
    path: str
    keyed = True

    def reached(self, port: int, folder: Path) -> str:
        """See `Wire`. The key is in the variable ``THEIR_KEY``."""
        return f'base_url = "http://127.0.0.1:{port}{self.path}"\napi_key_env = "THEIR_KEY"'
