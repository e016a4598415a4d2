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
from antiphon.cli.serve import run
from antiphon.cli.worker import work
from antiphon.tools.base import (
    Call,
    CallItem,
    HostedFunction,
    Json,
    OpenTool,
    Outcome,
    Scope,
    Stage,
    Tool,
)

RUNS: Final = "runs.log"


@dataclass
class CountingTool:
    """Takes the ``seconds`` that its call names, and says which run it was. One object is the tool
    and all that is opened of it: it keeps nothing."""

    name: str
    repeatable: bool
    path: Path
    item_type: str = "code_interpreter_call"

    @property
    def functions(self) -> list[HostedFunction]:
        """A function with the code and how long it takes."""
        parameters = {
            "type": "object",
            "properties": {"code": {"type": "string"}, "seconds": {"type": "number"}},
        }
        return [HostedFunction(self.name, "Runs code.", parameters, repeatable=self.repeatable)]

    async def check(self, tool: Json, path: str, project: str) -> list[str]:
        """Everything is fine."""
        return []

    def open(self, tool: Json, scope: Scope) -> OpenTool:
        """Itself."""
        return self

    async def prepare(self, stage: Stage) -> None:
        """There is nothing to find out."""

    def begin(self, call: Call) -> Json:
        """The code, nothing else yet."""
        return self._fields(call, None)

    def failed(self, call: Call, reason: str) -> Outcome:
        """The reason, as what it printed."""
        return Outcome(self._fields(call, reason), "failed")

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """Start, wait, finish."""
        arguments = call.read()
        code = str(arguments.get("code"))
        run = self._note(f"start {self.name} {code} {os.getpid()}")
        item.emit("code_interpreter_call.interpreting")
        await asyncio.sleep(float(arguments.get("seconds", 0.0)))
        self._note(f"finish {self.name} {code} {os.getpid()}")
        return Outcome(self._fields(call, run))

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _note(self, line: str) -> str:
        """One write: it is whole or not there, whatever happens to the process."""
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        try:
            line = f"{line} {os.fstat(file).st_size}"
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)
        return line

    def _fields(self, call: Call, logs: str | None) -> Json:
        return {
            "code": str(call.read().get("code")),
            "container_id": "cntr_1",
            "outputs": None if logs is None else [{"type": "logs", "logs": logs}],
        }


def tools(path: Path) -> dict[str, Tool]:
    """By the `type` of the request's tool."""
    return {
        name: CountingTool(name, name == "code_interpreter", path)
        for name in ("code_interpreter", "image_generation")
    }


def main() -> None:
    antiphon = Antiphon(read_settings(), tools(Path(RUNS).absolute()))
    commands: dict[str, Any] = {
        "serve": lambda: run(antiphon),
        "worker": lambda: asyncio.run(work(antiphon)),
    }
    commands[sys.argv[1]]()


if __name__ == "__main__":
    main()
