"""The port to models: a prompt goes in, deltas come out.

Rules
1. `check` runs before anything is stored or sent: what the backend cannot honour is a 400 that
   names it; what is dropped harmlessly is returned by name (design §5, never silent).
2. `generate` yields lists of deltas: all that one read of the upstream held. The first list may be
   empty and then only says that the upstream has accepted the prompt.
3. A failure is an `antiphon.errors.APIError`, raised from `generate`. An error raised before the
   first list has cost no tokens. Retries happen inside, and only before the first list.
4. Closing the iterator (`aclose`, or cancelling the task that runs it) closes the upstream call.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from antiphon.protocol.deltas import Delta
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import CreateResponse

#: The header in which clients send keys of their own for the upstream.
CLIENT_KEY: Final = "x-antiphon-upstream-key"
Deltas: TypeAlias = AsyncGenerator[list[Delta], None]


@dataclass(slots=True)
class Prompt:
    """What one model turn sees."""

    #: Parameters: instructions, tools, sampling, text format …
    request: CreateResponse
    #: The model's name at the upstream.
    model: str
    #: History, then this request's input, oldest first; items as in spec App. B and C.
    items: list[Item]
    #: Seconds until the first list of deltas, if less than the backend's own limit.
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of a prompt, and who counted them: the ``backend`` with its own tokenizer, our
    ``tokenizer`` for the models that it knows, or nobody: an ``estimate``."""

    tokens: int
    source: Literal["backend", "tokenizer", "estimate"]


@dataclass(frozen=True, slots=True)
class Model:
    """A row of ``GET /v1/models``: `created` in Unix seconds, `context_window` in tokens."""

    id: str
    owned_by: str
    created: int = 0
    context_window: int | None = None

    def body(self) -> dict[str, Any]:
        """The API's model object (spec §2.5); `context_window`, when it is known, is our own."""
        window = {} if self.context_window is None else {"context_window": self.context_window}
        return {
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": self.owned_by,
            **window,
        }


@dataclass(frozen=True, slots=True)
class Media:
    """What a backend takes as it is. `files`: media types of ``input_file``; of others it gets the
    text. `image_urls`: addresses of images; otherwise it gets them as data URLs. `made`: images
    that tools of this server have made. `schemas`: forms of answers (`text.format`); otherwise the
    model is told in words. `tools`: types of hosted tools that the model's server runs itself; of
    others, and of all tools that clients run, it gets functions. `images`: images at all; otherwise
    one in a request is a 400, and of earlier ones the model is told in words. `plain_http`:
    addresses of images without TLS, too."""

    files: frozenset[str] = frozenset()
    image_urls: bool = True
    made: bool = False
    schemas: bool = True
    images: bool = True
    tools: frozenset[str] = frozenset()
    plain_http: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """How a backend has been. `is_resting`: it has failed too often, and is not asked for a while;
    `outcomes`: calls that ended since the start, by how: ``ok``, ``refused`` (what was asked was
    wrong), ``limited`` (429), ``failed``, ``late``."""

    is_resting: bool = False
    outcomes: Mapping[str, int] = field(default_factory=dict)


class Backend(Protocol):
    """One place where models run."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        ...

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """Raise `InvalidRequestError` for what this backend, or its `model`, cannot honour.

        Returns the paths of parameters that it drops: ``["reasoning.effort"]``.
        """
        ...

    def media(self, model: str) -> Media:
        """What a model, by its name at the upstream, takes besides text. Parts that it does not
        take are filled before it sees them (`protocol.items.content.seen_of`)."""
        ...

    def generate(self, prompt: Prompt) -> Deltas:
        """One model turn."""
        ...

    async def count(self, prompt: Prompt) -> int | None:
        """Tokens of the prompt by the model's own tokenizer; None: the backend has none, or it does
        not answer."""
        ...

    async def window(self, model: str) -> int | None:
        """Tokens that the model, by its name at the upstream, can see and say in all; None: the
        backend cannot say. Cheap: asked for each request."""
        ...

    async def models(self) -> list[Model]:
        """The models that this backend lists now; empty when it cannot say."""
        ...

    def health(self) -> Health:
        """How it has been; nothing is asked."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


#: Endpoints of chat-completions servers that are passed on as they are.
RelayPath: TypeAlias = Literal["/chat/completions", "/embeddings"]


@dataclass(frozen=True, slots=True)
class Relayed:
    """What is passed on: a body that names the model as it is there, the client's name of it, the
    client's own key, if it sent one, whether the answer comes while it is made, and the names of
    the parameters that the client has sent."""

    body: bytes = field(repr=False)
    model: str
    key: str | None = field(default=None, repr=False)
    is_streamed: bool = False
    names: frozenset[str] = frozenset()


class Relay(Protocol):
    """A backend whose server has these endpoints itself."""

    def relay(self, path: RelayPath, sent: Relayed) -> AsyncGenerator[bytes, None]:
        """The media type of the answer, then its bytes as they come. Raises `APIError`."""
        ...


class Router(Protocol):
    """From the name that a client uses to the backend that has the model."""

    def route(self, model: str, key: str | None = None) -> tuple[Backend, str]:
        """The backend and the model's name there; `ModelNotFound` when nobody has it. Where several
        have it, requests with the same `key` go to the same one."""
        ...

    async def models(self) -> list[Model]:
        """All models that clients may name."""
        ...
