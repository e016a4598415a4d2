"""Backends, and the routes that lead to them.

Rules
1. `models` are names, wildcards (``*``) or ``{alias = "name at the upstream"}``; default ``*``.
2. `context_window` is a number for all models of a backend, or ``{name = number}`` with aliases,
   names at the upstream and wildcards.
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from antiphon.config.any_llm import AnyLLMProvider
from antiphon.config.local import LocalModel
from antiphon.config.values import Variable, base_url, number, sendable


class BackendConfig(LocalModel, AnyLLMProvider):
    """One ``[[backends]]`` entry. Times in seconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    kind: Literal[
        "anthropic", "any_llm", "chat_completions", "gemini", "local", "responses", "simulator"
    ]
    base_url: str | None = None
    api_key_env: Variable | None = None
    #: A key that the client sends in ``x-antiphon-upstream-key`` takes the place of that one.
    client_key: bool = False
    #: Model name for clients → name at the upstream.
    models: dict[str, str] = Field(default_factory=lambda: {"*": "*"}, min_length=1)
    profile: str | None = None
    #: Of chat-completions servers: where the chain of thought stands in the text; None: as the
    #: profile has it.
    think: Literal["never", "tags", "opened"] | None = None
    #: Alias, name at the upstream or wildcard → tokens that the model can see and say in all.
    context_window: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    #: Aliases, names at the upstream or wildcards of models that see the images which tools of this
    #: server make; None: as the profile has it.
    vision: list[str] | None = None
    #: The same for models whose server can be told the JSON Schema of an answer; None: likewise.
    json_schema: list[str] | None = None
    #: Of servers that speak Responses: hosted tools that run there, and not here.
    hosted_tools: list[Literal["code_interpreter", "file_search", "web_search"]] = Field(
        default_factory=list
    )
    headers: dict[str, str] = Field(default_factory=dict)
    connect_timeout: float = Field(5.0, gt=0)
    first_byte_timeout: float = Field(60.0, gt=0)
    idle_timeout: float = Field(60.0, gt=0)
    total_timeout: float = Field(3600.0, gt=0)
    max_retries: int = Field(2, ge=0, le=10)
    #: Calls at a time; more wait for half of `first_byte_timeout`. None: no limit.
    max_concurrency: int | None = Field(None, ge=1)
    #: So many failures in a row, and for `cool_down` seconds nobody asks.
    breaker_failures: int = Field(5, ge=1)
    breaker_cool_down: float = Field(10.0, gt=0)

    @field_validator(
        *("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout"),
        "breaker_cool_down",
        mode="before",
    )
    @classmethod
    def _seconds(cls, value: object) -> object:
        return number(value)

    @field_validator("context_window", mode="before")
    @classmethod
    def _windows(cls, value: object) -> object:
        """``8192`` → ``{"*": 8192}``."""
        return value if isinstance(value, dict) else {"*": value}

    @field_validator("vision", "json_schema", mode="before")
    @classmethod
    def _seeing(cls, value: object) -> object:
        """``true`` → ``["*"]``."""
        return (["*"] if value else []) if isinstance(value, bool) else value

    @property
    def seeing(self) -> list[str] | None:
        """`vision` with names at the upstream."""
        return self._there(self.vision)

    @property
    def having_schemas(self) -> list[str] | None:
        """`json_schema` likewise."""
        return self._there(self.json_schema)

    def _there(self, names: list[str] | None) -> list[str] | None:
        return None if names is None else [self.models.get(name, name) for name in names]

    @property
    def windows(self) -> dict[str, int]:
        """Name at the upstream or wildcard → tokens."""
        return {self.models.get(name, name): size for name, size in self.context_window.items()}

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and "@" in urlsplit(value).netloc:
            raise ValueError("must not have a user or a password in it")
        return None if value is None else base_url(value)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return sendable(headers)

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """``["a", "b-*", {alias = "x"}]`` → ``{"a": "a", "b-*": "b-*", "alias": "x"}``."""
        if not isinstance(value, list):
            return value
        names: dict[object, object] = {}
        for entry in value:
            if not isinstance(entry, str | dict):
                raise ValueError("must be names, wildcards or {alias = name}")
            names.update(entry if isinstance(entry, dict) else {entry: entry})
        return names

    @field_validator("models")
    @classmethod
    def _plain(cls, names: dict[str, str]) -> dict[str, str]:
        for name, there in names.items():
            _no_pattern(there, name)
        return names


def _no_pattern(there: str, name: str) -> None:
    """Raise ValueError when `there` could only be understood as a rule for making names: what
    `name` matches keeps its name."""
    if "*" in there and there not in ("*", name):
        raise ValueError(f"'{there}' is no name: what '{name}' matches has the same name there")


class TargetConfig(BaseModel):
    """A backend that a route leads to; `model`: the name there, without one the client's own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    backend: str
    model: str = Field("*", min_length=1)
    weight: float = Field(1.0, gt=0)

    @field_validator("weight", mode="before")
    @classmethod
    def _weight(cls, value: object) -> object:
        return number(value)


class RouteConfig(BaseModel):
    """One ``[[routes]]`` entry: where models are that clients know by this name or wildcard."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str = Field(min_length=1)
    #: One of them is asked, which one is chance.
    targets: list[TargetConfig] = Field(min_length=1)
    #: When that fails: these, in their order, after the other targets.
    fallbacks: list[TargetConfig] = Field(default_factory=list)
    #: Seconds until one of them has to have begun its answer.
    first_byte_timeout: float = Field(60.0, gt=0)

    @field_validator("first_byte_timeout", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return number(value)

    @field_validator("targets", "fallbacks", mode="before")
    @classmethod
    def _targets(cls, value: object) -> object:
        """``["gpu-box"]`` → ``[{"backend": "gpu-box"}]``."""
        if not isinstance(value, list):
            return value
        return [{"backend": one} if isinstance(one, str) else one for one in value]

    @model_validator(mode="after")
    def _plain(self) -> Self:
        for target in (*self.targets, *self.fallbacks):
            _no_pattern(target.model, self.model)
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        places = [(one.backend, one.model) for one in (*self.targets, *self.fallbacks)]
        if len(set(places)) < len(places):
            raise ValueError("it leads to one place twice")
        return self
