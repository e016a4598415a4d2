"""Other servers that speak Responses, to be measured beside ours."""

from pathlib import Path

from benchmarks.peers.agentserver import AGENTSERVER
from benchmarks.peers.base import Peer
from benchmarks.peers.codex_relay import CODEX_RELAY
from benchmarks.peers.litellm import LITELLM
from benchmarks.peers.ogx import OGX
from benchmarks.peers.responses_js import responses_js
from benchmarks.peers.smg import SMG


def peers(checkout: Path | None = None) -> tuple[Peer, ...]:
    """All that we know; `checkout`: of responses.js."""
    return (LITELLM, OGX, AGENTSERVER, responses_js(checkout), SMG, CODEX_RELAY)
