"""antiphon.toml: which backend has which model, which MCP servers there are, who searches the web,
and who is told when a response ends (design §6).

Rules
1. An unknown key is an error with its place (reliability R-132).
2. Keys and secrets stand in the environment; the file names the variable (`api_key_env`,
   `authorization_env`, `headers_env`).
3. `models` are names, wildcards (``*``) or ``{alias = "name at the upstream"}``; default ``*``.
4. `context_window` is a number for all models of a backend, or ``{name = number}`` with aliases,
   names at the upstream and wildcards.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

#: A header's name (RFC 9110 §5.1).
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: The name of an environment variable.
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
#: A domain, as DNS writes it.
_Domain = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]


def _encodable(host: str) -> None:
    """Raise ValueError when no resolver takes it: an empty label, or one that is too long."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError("must be a URL whose host is a name or an address") from error


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    _encodable(parts.hostname or "")
    plain = value.isprintable() and " " not in value
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError("must be an http:// or https:// URL with a host")
    if parts.port == 0:
        raise ValueError("port 0 is none")
    return value


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    """A value is not shown: it may be a secret."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not value.isprintable():
            raise ValueError(f"{name!r} has characters that no header can have")
    return headers


class ConfigError(Exception):
    """The configuration file cannot be used; the message says where and why."""


class BackendConfig(BaseModel):
    """One ``[[backends]]`` entry. Times in seconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    kind: Literal["chat_completions", "simulator"]
    base_url: str | None = None
    api_key_env: str | None = None
    #: Model name for clients → name at the upstream.
    models: dict[str, str] = Field(default_factory=lambda: {"*": "*"}, min_length=1)
    profile: str | None = None
    #: Alias, name at the upstream or wildcard → tokens that the model can see and say in all.
    context_window: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    connect_timeout: float = Field(5.0, gt=0)
    first_byte_timeout: float = Field(60.0, gt=0)
    idle_timeout: float = Field(60.0, gt=0)
    total_timeout: float = Field(3600.0, gt=0)
    max_retries: int = Field(2, ge=0, le=10)

    @field_validator(
        "connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout", mode="before"
    )
    @classmethod
    def _seconds(cls, value: object) -> object:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("context_window", mode="before")
    @classmethod
    def _windows(cls, value: object) -> object:
        """``8192`` → ``{"*": 8192}``."""
        return value if isinstance(value, dict) else {"*": value}

    @property
    def windows(self) -> dict[str, int]:
        """Name at the upstream or wildcard → tokens."""
        return {self.models.get(name, name): size for name, size in self.context_window.items()}

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return _sendable(headers)

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """``["a", "b-*", {alias = "x"}]`` → ``{"a": "a", "b-*": "b-*", "alias": "x"}``."""
        if not isinstance(value, list):
            return value
        names: dict[object, object] = {}
        for entry in value:
            names.update(entry if isinstance(entry, dict) else {entry: entry})
        return names


class WebhookConfig(BaseModel):
    """One ``[[webhooks]]`` entry: an endpoint that the API cannot change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: str = Field(min_length=1, max_length=2_048)
    #: The variable that holds the secret: ``whsec_`` and base64, or any text.
    secret_env: str = Field(min_length=1)
    #: Tells the endpoints of a project apart; without it the host does.
    name: str | None = Field(None, min_length=1, max_length=256)
    project: str = "default"
    #: None: all that there are.
    event_types: list[str] | None = Field(None, min_length=1)

    @property
    def title(self) -> str:
        """Its name, which is shown and logged: nothing of the URL but the host, for the rest may be
        a secret (R-130)."""
        return self.name or _host(self.url)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "?"
    except ValueError:
        return "?"


class McpServerConfig(BaseModel):
    """One ``[[mcp_servers]]`` entry: a server that requests name as `connector_id`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")
    #: Where it is, or the program that is started for each connection.
    url: str | None = Field(None, max_length=8_192)
    command: list[str] | None = Field(None, min_length=1)
    #: The variable that holds the token, or a scheme and what belongs to it.
    authorization_env: _Variable | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    #: Header → the variable that holds its value.
    headers_env: dict[str, _Variable] = Field(default_factory=dict)
    #: Variable of the program → the variable here that holds its value.
    env: dict[_Variable, _Variable] = Field(default_factory=dict)
    cwd: str | None = Field(None, min_length=1)
    #: What the model is told about it.
    description: str | None = None

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)

    @field_validator("headers", "headers_env")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return _sendable(headers)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("must have either a url or a command")
        if self.command is not None and not self.command[0]:
            raise ValueError("its command has no program")
        over_http = self.authorization_env or self.headers or self.headers_env
        if self.command is not None and over_http:
            raise ValueError("authorization_env, headers and headers_env go with a url")
        if self.url is not None and (self.env or self.cwd):
            raise ValueError("env and cwd go with a command")
        names = [name.lower() for name in (*self.headers, *self.headers_env)]
        names += ["authorization"] if self.authorization_env else []
        if len(set(names)) < len(names):
            raise ValueError("a header has two values")
        return self


class WebSearchConfig(BaseModel):
    """``[web_search]``: who is asked when a model searches the web, and which pages it may read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    provider: Literal["searxng", "brave", "tavily", "duckduckgo"]
    #: Where the provider is; SearXNG is nowhere else.
    url: str | None = None
    #: The variable that holds the key of Brave or Tavily.
    api_key_env: _Variable | None = None
    respect_robots: bool = True
    #: Pages of these domains, and of those below them, may be read; None: all (R-126).
    allowed_domains: list[_Domain] | None = Field(None, min_length=1)
    #: Hosts, addresses or networks of pages that may be read although they are private (R-126).
    private_hosts: list[str] = Field(default_factory=list)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """What a provider needs is there, and what it has no use for is not."""
        keyed = self.provider in ("brave", "tavily")
        if keyed != (self.api_key_env is not None):
            raise ValueError(f"'{self.provider}' {'needs an' if keyed else 'has no'} api_key_env")
        if self.provider == "searxng" and self.url is None:
            raise ValueError("'searxng' needs a url")
        if self.provider == "searxng" and (self.url or "").rstrip("/").endswith("/search"):
            raise ValueError("the url of 'searxng' is where it begins, without '/search'")
        if self.provider == "duckduckgo" and self.url is not None:
            raise ValueError("'duckduckgo' has no url")
        return self


class Config(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    backends: list[BackendConfig] = Field(default_factory=list)
    webhooks: list[WebhookConfig] = Field(default_factory=list)
    mcp_servers: list[McpServerConfig] = Field(default_factory=list)
    web_search: WebSearchConfig | None = None

    @field_validator("backends")
    @classmethod
    def _complete(cls, backends: list[BackendConfig]) -> list[BackendConfig]:
        names = [backend.name for backend in backends]
        if len(set(names)) < len(names):
            raise ValueError("two backends have the same name")
        for backend in backends:
            if backend.kind == "chat_completions" and not backend.base_url:
                raise ValueError(f"backend '{backend.name}' needs a base_url")
        return backends

    @field_validator("webhooks")
    @classmethod
    def _distinct(cls, webhooks: list[WebhookConfig]) -> list[WebhookConfig]:
        names = [(webhook.project, webhook.title) for webhook in webhooks]
        if len(set(names)) < len(names):
            raise ValueError("two webhooks of a project have the same name, or host and no name")
        return webhooks

    @field_validator("mcp_servers")
    @classmethod
    def _different(cls, servers: list[McpServerConfig]) -> list[McpServerConfig]:
        names = [server.name for server in servers]
        if len(set(names)) < len(names):
            raise ValueError("two MCP servers have the same name")
        return servers


def load_config(path: Path) -> Config | None:
    """Read the file; None when there is none. Raises `ConfigError`. A file that is not there is
    no error here: the container image names one that may be mounted."""
    if not path.exists():
        return None
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            ".".join(str(step) for step in problem["loc"]) + ": " + problem["msg"]
            for problem in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error
