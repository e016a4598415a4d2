"""What is measured: kinds of traffic, and how each server is asked for them.

Rules
1. All servers are asked the same; where one has no such thing, its `Peer` says why.
2. Antiphon is a contender like the others, only with goals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.load import Target, post
from benchmarks.meter import antiphon_command
from benchmarks.peers.base import Ability, Peer
from benchmarks.upstream import PLAIN_ANSWER

_QUESTION: Final = "Say hello."
_SAID: Final = "".join(PLAIN_ANSWER).encode()
_CHAT_DELTA: Final = b'"delta":{"content"'
_DELTA: Final = b'"response.output_text.delta"'
#: Numbers of requests at once of the plain rows.
CONCURRENCY: Final = (1, 16, 64, 256)

ANTIPHON: Final = Peer(
    name="Antiphon",
    version="checkout",
    stores="SQLite, before the answer",
    install=Path.touch,
    start=lambda site: antiphon_command(site.folder, site.port, site.upstream_port),
)


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    repeats: int
    #: Requests of a plain row at one at a time, and at more.
    alone: int
    together: int
    streams: int
    paced: int
    chains: int
    growth: int
    #: Streams that are open and silent.
    idle: int
    #: Seconds after which a run sends nothing more, and a server is not measured again for a row.
    seconds: float
    enough: float


FULL: Final = Scale(
    repeats=5,
    alone=300,
    together=2000,
    streams=200,
    paced=50,
    chains=64,
    growth=50_000,
    idle=500,
    seconds=10,
    enough=25,
)
QUICK: Final = Scale(
    repeats=1,
    alone=50,
    together=400,
    streams=20,
    paced=10,
    chains=16,
    growth=1000,
    idle=50,
    seconds=2,
    enough=4,
)


@dataclass(frozen=True)
class Work:
    """One kind of traffic: what a server is asked and what the upstream would be asked directly."""

    name: str
    model: str
    at_once: int
    requests: int
    #: Tokens of one answer; 0: the figure is per request.
    tokens: int = 0
    stream: bool = False
    store: bool = True
    #: Requests of a chain.
    turns: int = 1
    needs: Ability | None = None

    @property
    def unit(self) -> str:
        """What CPU is counted per."""
        return "token" if self.tokens else "turn" if self.turns > 1 else "request"

    def served(self, peer: Peer, port: int, upstream_port: int) -> Target:
        """The request to a server."""
        fields: dict[str, Any] = {"model": peer.model.format(self.model), "input": _QUESTION}
        fields |= {"store": self.store, "stream": self.stream}
        if self.needs == "background":
            fields["background"] = True
        if self.needs == "tools":
            fields["tools"] = [_tool(f"http://127.0.0.1:{upstream_port}/mcp")]
        marks = [b'"response.completed"' if self.stream else _SAID]
        return Target(
            port,
            _request(port, peer, fields),
            (*marks, b'"mcp_call"') if self.needs == "tools" else tuple(marks),
            _DELTA if self.tokens else b"",
            self.tokens,
            stamped=self.model.startswith("paced"),
            token=_DELTA if self.stream else b"",
            turns=self.turns,
            follow=partial(_follow, port, peer, fields) if self.turns > 1 else None,
        )

    def direct(self, port: int) -> Target | None:
        """The request that is made of it; there is none where a server says more than one."""
        if self.turns > 1 or self.needs == "tools":
            return None
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": _QUESTION}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return Target(
            port,
            post(port, "/v1/chat/completions", orjson.dumps(body)),
            (b"data: [DONE]\n",),
            _CHAT_DELTA,
            self.tokens or len(PLAIN_ANSWER),
            stamped=self.model.startswith("paced"),
            token=_CHAT_DELTA,
        )


def _request(port: int, peer: Peer, fields: Mapping[str, Any]) -> bytes:
    return post(port, peer.path, orjson.dumps(fields), peer.key)


def _follow(port: int, peer: Peer, fields: Mapping[str, Any], previous: str) -> bytes:
    return _request(port, peer, {**fields, "previous_response_id": previous})


def _tool(url: str) -> dict[str, Any]:
    place = {"server_label": "bench", "server_url": url}
    return {"type": "mcp", **place, "require_approval": "never"}


def plain(at_once: int) -> str:
    """The name of a plain row."""
    return "plain, alone" if at_once == 1 else f"plain, {at_once} at once"


def works(scale: Scale) -> list[Work]:
    """All that is measured by requests that end."""
    streams, paced = scale.streams, scale.paced
    burst, pace = f"{streams} streams × 200", f"{paced} streams × 100"
    return [
        *(
            Work(plain(at_once), "plain", at_once, scale.alone if at_once == 1 else scale.together)
            for at_once in CONCURRENCY
        ),
        Work("plain, not stored, 64 at once", "plain", 64, scale.together, store=False),
        Work("a short stream, alone", "plain", 1, scale.alone, stream=True),
        Work("a short stream, 64 at once", "plain", 64, scale.together, stream=True),
        Work(f"burst, {burst}", "burst-200", streams, streams, 200, stream=True),
        Work("burst, alone", "burst-200", 1, 5, 200, stream=True),
        Work(f"paced, {pace}", "paced-100-20", paced, paced, 100, stream=True, needs="streams"),
        *(
            Work(name, model, at_once, at_once, tokens, stream=True, needs="background")
            for name, model, at_once, tokens in (
                (f"background burst, {burst}", "burst-200", streams, 200),
                (f"background paced, {pace}", "paced-100-20", paced, 100),
            )
        ),
        Work(
            "chains of 10, 16 at once",
            *("plain", 16, scale.chains * 10),
            turns=10,
            needs="chains",
        ),
        Work("a tool loop (MCP), 16 at once", "tool", 16, scale.together // 4, needs="tools"),
    ]
