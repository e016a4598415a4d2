"""responses.js: Hugging Face's translator for node. It stores nothing.

Its name is not in the registry (tried November 2026), so it is built from a checkout that somebody
has got: ``scripts/bench --peers --responses-js FOLDER``.
"""

import shutil
from pathlib import Path
from typing import Final

from benchmarks.meter import Command
from benchmarks.peers.base import Peer, Site
from benchmarks.peers.installing import run

_PACKAGE: Final = "@huggingface/responses.js@1.0.1"


def _start(site: Site) -> Command:
    node = shutil.which("node") or "node"
    return site.command(
        *(node, str(site.installed / "server" / "dist/index.js")),
        ready="/health",
        settings={
            "PORT": str(site.port),
            "HOST": "127.0.0.1",
            "OPENAI_BASE_URL": site.upstream,
            "LOG_LEVEL": "error",
            "NODE_ENV": "production",
        },
    )


def responses_js(checkout: Path | None) -> Peer:
    """From the registry, or from a checkout."""

    def install(place: Path) -> None:
        server = place / "server"
        if checkout is None:
            run(["npm", "install", "--prefix", str(place), _PACKAGE])
            (place / "node_modules/@huggingface/responses.js").rename(server)
            return
        shutil.copytree(checkout, server, ignore=shutil.ignore_patterns("node_modules", ".git"))
        run(["npm", "install", "--ignore-scripts"], server)
        run(["npx", "tsup", "src/*.ts", "--format", "esm,cjs", "--clean"], server)

    return Peer(
        name="responses.js",
        version="1.0.1",
        stores="nothing",
        install=install,
        start=_start,
        cannot={"chains": "stores nothing", "background": "stores nothing"},
    )
