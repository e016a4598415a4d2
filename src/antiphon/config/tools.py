"""What hosted tools work with: MCP servers, searches of the web, vectors, images."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from antiphon.config.local import LocalEmbeddings
from antiphon.config.values import Domain, Variable, base_url, http_url, number, sendable


class McpServerConfig(BaseModel):
    """One ``[[mcp_servers]]`` entry: a server that requests name as `connector_id`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")
    #: Where it is, or the program that is started for each connection.
    url: str | None = Field(None, max_length=8_192)
    command: list[str] | None = Field(None, min_length=1)
    #: The variable that holds the token, or a scheme and what belongs to it.
    authorization_env: Variable | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    #: Header → the variable that holds its value.
    headers_env: dict[str, Variable] = Field(default_factory=dict)
    #: Variable of the program → the variable here that holds its value.
    env: dict[Variable, Variable] = Field(default_factory=dict)
    cwd: str | None = Field(None, min_length=1)
    #: What the model is told about it.
    description: str | None = None

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else http_url(value)

    @field_validator("headers", "headers_env")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return sendable(headers)

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
    api_key_env: Variable | None = None
    respect_robots: bool = True
    #: Pages of these domains, and of those below them, may be read; None: all (R-126).
    allowed_domains: list[Domain] | None = Field(None, min_length=1)
    #: Hosts, addresses or networks of pages that may be read although they are private (R-126).
    private_hosts: list[str] = Field(default_factory=list)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else http_url(value)

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


class EmbeddingsConfig(LocalEmbeddings):
    """``[embeddings]``: who makes the vectors of files and of what is looked for in them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    api_key_env: Variable | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    #: Asked for where the model can make vectors of several lengths; None: what it makes.
    dimensions: int | None = Field(None, ge=1, le=65_536)
    #: Texts and characters of a request at most, and requests with documents at a time.
    batch: int = Field(64, ge=1, le=2_048)
    batch_characters: int = Field(200_000, ge=1)
    at_once: int = Field(4, ge=1, le=64)
    #: What a model wants before a text: e5 has ``"query: "`` and ``"passage: "``.
    query_prefix: str = Field("", max_length=1_024)
    document_prefix: str = Field("", max_length=1_024)
    #: Seconds for each attempt.
    timeout: float = Field(30.0, gt=0)
    max_retries: int = Field(2, ge=0, le=10)

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return number(value)

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return sendable(headers)


class ImageGenerationConfig(BaseModel):
    """``[image_generation]``: who makes images, and what it knows."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["openai", "simulator"]
    #: A server that speaks ``/images/generations``, with the version: ``http://127.0.0.1:8080/v1``.
    base_url: str | None = None
    api_key_env: Variable | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    #: That of requests which name none; None: the server has one of its own.
    model: str | None = Field(None, min_length=1, max_length=256)
    #: Those that requests may name besides; ``*``: all.
    models: list[str] = Field(default_factory=list)
    #: Seconds for one image, and images that are made at once.
    timeout: float = Field(300.0, gt=0)
    max_retries: int = Field(2, ge=0, le=10)
    at_once: int = Field(4, ge=1, le=64)
    #: Options that the server does not know: 400 for who sets them; formats are made here then.
    unsupported: list[
        Literal[
            "background",
            "edit",
            "input_fidelity",
            "input_image_mask",
            "moderation",
            "output_compression",
            "output_format",
            "partial_images",
            "quality",
            "size",
        ]
    ] = Field(default_factory=list)
    #: Options that only few servers know; ``gif`` and ``svg`` as formats.
    extra: list[Literal["complexity", "gif", "svg"]] = Field(default_factory=list)

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return number(value)

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return sendable(headers)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """What a kind needs is there, and what it has no use for is not."""
        if self.kind == "openai" and self.base_url is None:
            raise ValueError("'openai' needs a base_url")
        if self.kind == "simulator" and (self.base_url or self.api_key_env or self.headers):
            raise ValueError("'simulator' has no base_url, api_key_env or headers")
        if self.kind == "simulator" and self.extra:
            raise ValueError("'simulator' knows nothing of 'extra'")
        return self
