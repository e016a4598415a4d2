"""SMG: a gateway in Rust. Over HTTP it translates nothing: it is the only one here whose upstream
speaks Responses itself."""

from typing import Final

from benchmarks.meter import Command, free_port
from benchmarks.peers.base import PINS, Peer, Site
from benchmarks.peers.installing import packages


def _start(site: Site) -> Command:
    listen = (
        "--host",
        "127.0.0.1",
        "--port",
        str(site.port),
        "--prometheus-port",
        str(free_port()),
    )
    upstream = ("--backend", "openai", "--worker-urls", f"http://127.0.0.1:{site.upstream_port}")
    return site.command(
        *("bin/smg", "launch", *listen, *upstream),
        *("--history-backend", "memory", "--log-level", "error"),
        ready="/health",
    )


SMG: Final = Peer(
    name="SMG",
    version="1.13.0",
    stores="memory",
    install=packages(PINS / "smg.txt"),
    start=_start,
    cannot={
        "background": "forwarded to the upstream",
        "streams": "its upstream would have to speak paced Responses",
        "tools": "its upstream would have to speak Responses with calls",
    },
)
