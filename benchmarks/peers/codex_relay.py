"""codex-relay: a translator in Rust, from Responses to chat completions."""

from typing import Final

from benchmarks.meter import Command
from benchmarks.peers.base import PINS, Peer, Site
from benchmarks.peers.installing import packages


def _start(site: Site) -> Command:
    listen = ("--bind", "127.0.0.1", "--port", str(site.port))
    return site.command(
        *("bin/codex-relay", *listen, "--upstream", site.upstream, "--api-key", "none"),
        ready="/v1/models",
        settings={"RUST_LOG": "error"},
    )


CODEX_RELAY: Final = Peer(
    name="codex-relay",
    version="0.5.8",
    stores="memory, the last 256",
    install=packages(PINS / "codex_relay.txt"),
    start=_start,
    cannot={
        "background": "unknown to it",
        "tools": "the client runs them",
    },
)
