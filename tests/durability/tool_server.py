"""A server, or a worker, with hosted tools that write down each of their runs.

    python -m tests.durability.tool_server serve | worker

Rules
1. It is what the command line starts, with tools: the same settings, signals and end.
2. A run is two lines of ``runs.log`` in its folder: ``start`` and ``finish``, then the tool, the
   code that it was called with, the process and how many lines were there before. The logs of its
   item are the first line, so an item names its run.
3. `code_interpreter` may be run again, `image_generation` (the name only) must not.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from antiphon.app import Antiphon
from antiphon.cli.common import read_settings
from antiphon.cli.serve import server_of
from antiphon.cli.worker import work
from antiphon.tools.base import CallItem, Json, Tool

RUNS: Final = "runs.log"


@dataclass
class CountingTool:
    """Takes the ``seconds`` that its call names, and says which run it was."""

    type: str
    name: str
    repeatable: bool
    path: Path
    item_type: str = "code_interpreter_call"

    def describe(self, tool: Json) -> Json:
        """A function with the code and how long it takes."""
        return {
            "type": "function",
            "name": self.name,
            "parameters": {
                "type": "object",
                "properties": {"code": {"type": "string"}, "seconds": {"type": "number"}},
            },
        }

    def begin(self, tool: Json, arguments: Json) -> Json:
        """The code, nothing else yet."""
        return self._fields(arguments, None)

    def failed(self, tool: Json, arguments: Json, reason: str) -> Json:
        """The reason, as what it printed."""
        return self._fields(arguments, reason)

    async def run(self, tool: Json, arguments: Json, item: CallItem) -> Json:
        """Start, wait, finish."""
        code = str(arguments.get("code"))
        item.progress("in_progress")
        run = self._note(f"start {self.name} {code} {os.getpid()}")
        item.progress("interpreting")
        await asyncio.sleep(float(arguments.get("seconds", 0.0)))
        self._note(f"finish {self.name} {code} {os.getpid()}")
        item.progress("completed")
        return self._fields(arguments, run)

    def _note(self, line: str) -> str:
        """One write: it is whole or not there, whatever happens to the process."""
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        try:
            line = f"{line} {os.fstat(file).st_size}"
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)
        return line

    def _fields(self, arguments: Json, logs: str | None) -> Json:
        return {
            "code": str(arguments.get("code")),
            "container_id": "cntr_1",
            "outputs": None if logs is None else [{"type": "logs", "logs": logs}],
        }


def tools(path: Path) -> dict[str, Tool]:
    """By the `type` of the request's tool."""
    return {
        name: CountingTool(name, name, name == "code_interpreter", path)
        for name in ("code_interpreter", "image_generation")
    }


def main() -> None:
    antiphon = Antiphon(read_settings(), tools(Path(RUNS).absolute()))
    commands: dict[str, Any] = {
        "serve": lambda: server_of(antiphon).run(),
        "worker": lambda: asyncio.run(work(antiphon)),
    }
    commands[sys.argv[1]]()


if __name__ == "__main__":
    main()
