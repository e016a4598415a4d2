"""One of several server processes (``python -m antiphon.cli.together_worker``; `together.py`).

Rules
1. stdin has one line of JSON: what to serve, and on which socket. stdout gets one line when it is
   served; then what libraries print goes to stderr.
2. It ends with its parent, at once and however that ends: as if one server had been killed. The
   parent sees to that (`together.py`).
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import orjson
from click.exceptions import Exit

from antiphon.api.logbook import close_log, open_log
from antiphon.app.sharing import Share
from antiphon.cli.common import build
from antiphon.cli.serve import server_of
from antiphon.cli.together import READY
from antiphon.settings import Settings


def main() -> None:
    """Serve until a signal comes."""
    told: dict[str, Any] = orjson.loads(sys.stdin.buffer.readline())
    if os.getppid() != told["parent"]:  # it died before
        return
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settings = Settings(**told["settings"])
    number, of, folder = told["share"]
    open_log(settings.log_level, settings.log_format, worker=number)

    async def announce(_host: str, _port: int) -> None:
        os.write(sink, READY)
        os.close(sink)

    try:
        server = server_of(build(settings, Share(number, of, Path(folder))), announce)
        server.run([socket.socket(fileno=told["socket"])])
    except Exit as refusal:
        sys.exit(refusal.exit_code)
    finally:
        close_log()


if __name__ == "__main__":
    main()
