"""The port to another server: how it is installed, started and asked.

Rules
1. A peer has a folder of its own below the cache, with what its registry has under pinned names;
   nothing of it is in our environment, nothing of ours in its own.
2. It is configured as its own documentation says for one process in front of a chat-completions
   server, with access logs and telemetry off: what we leave out of it only makes it faster.
3. What it cannot do is said here, with the reason, and stands under the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from benchmarks.meter import Command, environment_without_settings

#: What not everybody can do.
Ability: TypeAlias = Literal["background", "chains", "streams", "tools"]

#: Where pinned requirements are.
PINS: Final = Path(__file__).parent


@dataclass(frozen=True)
class Site:
    """Where a peer is, and what it shall listen and talk to."""

    #: What was installed.
    installed: Path
    #: Its files while it runs.
    folder: Path
    port: int
    upstream_port: int

    @property
    def upstream(self) -> str:
        """The base URL of the upstream."""
        return f"http://127.0.0.1:{self.upstream_port}/v1"

    def command(self, *argv: str, ready: str, settings: Mapping[str, str] | None = None) -> Command:
        """How it is started; the first word is a program that was installed."""
        environment = environment_without_settings() | {"DO_NOT_TRACK": "1"} | dict(settings or {})
        words = (str(self.installed / argv[0]), *argv[1:])
        return Command(words, environment, self.folder, self.port, ready, patience=240.0)


@dataclass(frozen=True)
class Peer:
    """Another server that speaks Responses."""

    name: str
    version: str
    #: Where it keeps responses.
    stores: str
    #: Puts it into a folder, which is empty; raises `NotInstalled`.
    install: Callable[[Path], None]
    start: Callable[[Site], Command]
    path: str = "/v1/responses"
    #: How it calls a model of the upstream.
    model: str = "{}"
    key: str = "bench-key"
    cannot: Mapping[Ability, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its folder; another version has another."""
        return f"{self.name.lower().replace(' ', '-')}-{self.version}"
