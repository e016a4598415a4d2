"""The hosted tool ``code_interpreter`` (spec §1.2, decision 0009).

Rules
1. Where no sandbox works the tool is refused with the reason: code never runs without one (R-105).
2. A container that is named must be the caller's, and its files too: else it is a 404 before the
   first byte (R-29, R-30).
"""

from dataclasses import replace

from antiphon.errors import InvalidRequestError
from antiphon.tools.base import Json, OpenTool, Scope
from antiphon.tools.code_interpreter.opened import FUNCTION, OpenCodeInterpreter
from antiphon.tools.code_interpreter.running import Running


class CodeInterpreter:
    """See `Tool`."""

    def __init__(self, running: Running, seconds: float) -> None:
        """`running` belongs to who made it: it is not closed with the tool. `seconds`: what a call
        may take, with all that is around the code."""
        self._running = running
        self._function = replace(FUNCTION, timeout=seconds)

    async def check(self, tool: Json, path: str, project: str) -> list[str]:
        """See `Tool`."""
        reason = await self._running.unusable()
        if reason is not None:
            raise InvalidRequestError(
                f"The tool 'code_interpreter' cannot be used on this server: {reason}.",
                param="tools",
            )
        await self._running.check(project, tool["container"], f"{path}.container")
        return ["allowed_callers"] if tool.get("allowed_callers") else []

    def open(self, tool: Json, scope: Scope) -> OpenTool:
        """See `Tool`."""
        return OpenCodeInterpreter(self._running, self._function, tool, scope)

    async def aclose(self) -> None:
        """Nothing is open."""
