"""Where a connection goes: servers of the configuration, and the one that a request names.

Rules
1. Only the configuration names commands, variables and private hosts (reliability R-87, R-88). What
   the operator set of a header cannot be replaced by a request.
2. Secrets are in fields that no `repr` shows (R-91).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from yarl import URL

from antiphon.egress import BadURL, Policy

#: What is sent of a header: visible characters of ASCII, spaces and tabs (RFC 9110 §5.5).
SENDABLE: Final = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Remote:
    """A server at a URL. `policy` judges the addresses that its host resolves to."""

    url: URL = field(repr=False)
    policy: Policy = field(repr=False)
    #: Lower-case name → value; they go to the origin of `url` only.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Local:
    """A program that is started for each connection and spoken to over its pipes."""

    command: tuple[str, ...] = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None


Target: TypeAlias = Remote | Local


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the configuration, which requests name as `connector_id`."""

    name: str
    target: Target
    description: str = ""


class Entry(Protocol):
    """One ``[[mcp_servers]]`` entry: `antiphon.config.McpServerConfig`."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str | None: ...
    @property
    def command(self) -> list[str] | None: ...
    @property
    def authorization_env(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def headers_env(self) -> Mapping[str, str]: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def cwd(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...


def configured(entries: Iterable[Entry], environ: Mapping[str, str]) -> dict[str, Server]:
    """The servers of the configuration by name, with what the environment holds for them. Raises
    ValueError for a variable that is not set, for a value that no header can have, and for a URL
    that cannot be requested."""
    return {
        entry.name: Server(entry.name, _target(entry, environ), entry.description or "")
        for entry in entries
    }


def credentials(value: str) -> str:
    """A value of the header ``Authorization``; what has no scheme before it is a token."""
    value = value.strip()
    return value if " " in value else f"Bearer {value}"


def _target(entry: Entry, environ: Mapping[str, str]) -> Target:
    if entry.command:
        env = {child: _value(entry, variable, environ) for child, variable in entry.env.items()}
        return Local(tuple(entry.command), env, entry.cwd)
    try:
        # The operator vouches for the host, whatever its address.
        url = Policy(["0.0.0.0/0", "::/0", "localhost"]).parse(entry.url or "")
    except BadURL as error:
        raise ValueError(f"MCP server '{entry.name}': its url cannot be used: {error}") from error
    headers = {name.lower(): value for name, value in entry.headers.items()}
    for name, variable in entry.headers_env.items():
        headers[name.lower()] = _value(entry, variable, environ)
    if entry.authorization_env:
        headers["authorization"] = credentials(_value(entry, entry.authorization_env, environ))
    for name, value in headers.items():
        if not SENDABLE.fullmatch(value):
            raise ValueError(
                f"MCP server '{entry.name}': its header '{name}' has characters that no header "
                "can have"
            )
    return Remote(url, Policy([url.raw_host or ""]), headers)


def _value(entry: Entry, variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "")
    if not value:
        raise ValueError(f"MCP server '{entry.name}': the variable {variable} is not set")
    return value
