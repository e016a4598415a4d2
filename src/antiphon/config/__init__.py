"""antiphon.toml: which backend has which model, which MCP servers there are, who searches the web,
who makes vectors of text, who makes images, and who is told when a response ends (design §6).

Rules
1. An unknown key is an error with its place (reliability R-132).
2. Keys and secrets stand in the environment; the file names the variable (`api_key_env`,
   `authorization_env`, `headers_env`).
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from antiphon.config.backends import BackendConfig, RouteConfig, TargetConfig
from antiphon.config.tools import (
    EmbeddingsConfig,
    ImageGenerationConfig,
    McpServerConfig,
    WebSearchConfig,
)
from antiphon.config.values import Variable

__all__ = [
    "BackendConfig",
    "Config",
    "ConfigError",
    "EmbeddingsConfig",
    "ImageGenerationConfig",
    "McpServerConfig",
    "RouteConfig",
    "TargetConfig",
    "WebSearchConfig",
    "WebhookConfig",
    "key_of",
    "load_config",
]


class ConfigError(Exception):
    """The configuration file cannot be used; the message says where and why."""


class WebhookConfig(BaseModel):
    """One ``[[webhooks]]`` entry: an endpoint that the API cannot change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: str = Field(min_length=1, max_length=2_048)
    #: The variable that holds the secret: ``whsec_`` and base64, or any text.
    secret_env: Variable
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


class Config(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    backends: list[BackendConfig] = Field(default_factory=list)
    routes: list[RouteConfig] = Field(default_factory=list)
    webhooks: list[WebhookConfig] = Field(default_factory=list)
    mcp_servers: list[McpServerConfig] = Field(default_factory=list)
    web_search: WebSearchConfig | None = None
    embeddings: EmbeddingsConfig | None = None
    image_generation: ImageGenerationConfig | None = None

    @field_validator("backends")
    @classmethod
    def _complete(cls, backends: list[BackendConfig]) -> list[BackendConfig]:
        names = [backend.name for backend in backends]
        if len(set(names)) < len(names):
            raise ValueError("two backends have the same name")
        for backend in backends:
            if backend.kind == "chat_completions" and not backend.base_url:
                raise ValueError(f"backend '{backend.name}' needs a base_url")
            if backend.hosted_tools and backend.kind != "responses":
                raise ValueError(
                    f"backend '{backend.name}': hosted_tools are of kind 'responses' only"
                )
        return backends

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = {backend.name for backend in self.backends} | {"simulator"}
        for route in self.routes:
            for target in (*route.targets, *route.fallbacks):
                if target.backend not in names:
                    raise ValueError(
                        f"route '{route.model}' leads to '{target.backend}', which is no backend"
                    )
        if len({route.model for route in self.routes}) < len(self.routes):
            raise ValueError("two routes have the same model")
        return self

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


def key_of(where: str, variable: str | None, environment: Mapping[str, str]) -> str | None:
    """The key in a variable, without the line break that files end with; None: there is no
    variable. Raises `ConfigError`."""
    if variable is None:
        return None
    key = environment.get(variable, "").strip()
    if not key:
        raise ConfigError(f"{where}: {variable} is not set")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{where}: the key in {variable} has characters that no key can have")
    return key


def load_config(path: Path) -> Config | None:
    """Read the file; None when there is none. Raises `ConfigError`. A file that is not there is
    no error here: the container image names one that may be mounted."""
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            ".".join(str(step) for step in problem["loc"]) + ": " + problem["msg"]
            for problem in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error
