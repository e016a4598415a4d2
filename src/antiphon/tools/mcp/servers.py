"""Where a connection goes: servers of the configuration, and the one that a request names.

Rules
1. Only the configuration names commands, variables and private hosts (reliability R-87, R-88). What
   the operator set of a header cannot be replaced by a request.
2. Secrets are in fields that no `repr` shows (R-91).
"""

import importlib.util
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from yarl import URL

from antiphon.egress import BadURL, Policy
from antiphon.tools.mcp.checks import why_not


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
    #: For the log.
    name: str = ""


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
    ValueError for a variable that is not set, for a header that cannot be sent, for a URL that
    cannot be requested, for a program that is not there, and if the extra `mcp` is not."""
    entries = list(entries)
    if entries and importlib.util.find_spec("mcp") is None:
        raise ValueError("MCP servers need the extra 'mcp': pip install 'antiphon[mcp]'")
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
        _check_program(entry, env)
        return Local(tuple(entry.command), env, entry.cwd, entry.name)
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
    problem = why_not(headers)
    if problem is not None:
        raise ValueError(f"MCP server '{entry.name}': {problem}")
    return Remote(url, Policy([url.raw_host or ""]), headers)


def _check_program(entry: Entry, env: Mapping[str, str]) -> None:
    """Raise ValueError if it could not be started: as the system looks for it, in `cwd` if it has a
    slash, and else in the ``PATH`` that it gets."""
    if entry.cwd is not None and not os.path.isdir(entry.cwd):
        raise ValueError(f"MCP server '{entry.name}': its cwd is not there")
    program = entry.command[0] if entry.command else ""
    place = os.path.join(entry.cwd or "", program) if os.sep in program else program
    if shutil.which(place, path=env.get("PATH")) is None:
        raise ValueError(f"MCP server '{entry.name}': there is no program '{program}'")


def _value(entry: Entry, variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "")
    if not value:
        raise ValueError(f"MCP server '{entry.name}': the variable {variable} is not set")
    return value
