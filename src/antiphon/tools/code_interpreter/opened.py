"""``code_interpreter`` in one run: one function, and what became of each call.

Rules
1. The item says the code while the model writes it, and what came out at the end; that is in the
   item only if `include` asks for it, else null. Where nothing came out it says why the call has
   failed (R-112).
2. The model is told what was printed, sees the images, and learns which files there are now: it can
   link to them, and the links become citations (`protocol/sandbox_links.py`).
3. Code has effects: a call that was under way when a process died is not run again (R-66).
"""

from collections.abc import Sequence
from typing import Any, Final

from antiphon.errors import ToolFailed
from antiphon.protocol.code_interpreter import (
    MOST_IMAGES,
    MOST_TOLD,
    Executed,
    MadeFile,
    cut,
    images_of,
    logs_of,
)
from antiphon.tools.base import Call, CallItem, HostedFunction, Json, Outcome, Scope, Stage
from antiphon.tools.code_interpreter.running import Place, Running

_INCLUDED: Final = "code_interpreter_call.outputs"
#: Characters of code.
_MOST_CODE: Final = 256 * 1024
#: Characters of images, as data URLs, that all calls of a response show in their items, and to the
#: model, to which each turn shows them again.
_MOST_SHOWN: Final = 16 * 1024 * 1024
_MOST_SEEN: Final = 2 * 1024 * 1024
#: Files that the model is told of.
_MOST_FILES: Final = 50

FUNCTION: Final = HostedFunction(
    "code_interpreter",
    "Run Python in a sandbox, as a cell of a Jupyter notebook: variables and imports stay from call"
    " to call, and what is printed, the value of the last line and plots (matplotlib) come back. "
    "Use it to calculate, to analyse files and to make files. Files of the user are in /mnt/data; "
    "write results there. numpy, pandas, matplotlib and openpyxl are installed; there is no "
    "network. To give the user a file, link to it: [report.csv](sandbox:/mnt/data/report.csv).",
    {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Python code."}},
        "required": ["code"],
        "additionalProperties": False,
    },
    repeatable=False,
    streamed="code",
)


class OpenCodeInterpreter:
    """See `OpenTool`."""

    item_type = "code_interpreter_call"

    def __init__(
        self, running: Running, function: HostedFunction, tool: Json, scope: Scope
    ) -> None:
        self._running = running
        self._function = function
        self._tool = tool
        self._scope = scope
        #: Known once it was prepared.
        self._place: Place | None = None
        self._shown_left = _MOST_SHOWN
        self._told_left = _MOST_SEEN

    async def prepare(self, stage: Stage) -> None:
        """The container."""
        self._place = await self._running.place(self._scope.project, self._tool["container"], stage)

    @property
    def functions(self) -> Sequence[HostedFunction]:
        """``code_interpreter``."""
        return (self._function,)

    def begin(self, call: Call) -> Json:  # noqa: ARG002
        """The code comes as it is written (see the recording)."""
        return {"code": "", "container_id": self._place.id if self._place else "", "outputs": []}

    def failed(self, call: Call, reason: str) -> Outcome:  # noqa: ARG002
        """The code is in the item already."""
        return Outcome(
            {"outputs": self._shown([{"type": "logs", "logs": reason}])}, "failed", reason
        )

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """See `OpenTool`. Raises `APIError`."""
        code = call.read().get("code")
        if not isinstance(code, str) or not code.strip():
            raise ToolFailed("The 'code' is missing.")
        if len(code) > _MOST_CODE:
            raise ToolFailed(f"The code is too long: the limit is {_MOST_CODE} characters.")
        if self._place is None:
            raise ToolFailed("There is no container.")
        item.emit("code_interpreter_call.interpreting")  # one that was begun is not run again
        done = await self._place.run(code)
        for file in (*done.links, *done.files):
            self._scope.sources.made(self._place.id, file.file_id, file.path)
        outputs = done.outputs
        if done.has_failed and not outputs:
            outputs = [{"type": "logs", "logs": "\n".join(done.notes)}]
        return Outcome(
            {"outputs": self._shown(outputs)},
            "failed" if done.has_failed else "completed",
            self._told(done),
        )

    def close(self) -> None:
        """The container stays for the next run."""

    def _shown(self, outputs: Sequence[Json]) -> list[Json] | None:
        """As far as there is room for images in the response."""
        if _INCLUDED not in self._scope.include:
            return None
        shown, self._shown_left = _within(outputs, self._shown_left)
        return shown

    def _told(self, done: Executed) -> str | list[Any]:
        text = cut(logs_of(done.outputs), min(MOST_TOLD, self._scope.most_text))
        images = [output for output in done.outputs if output["type"] == "image"]
        seen, self._told_left = _within(images[:MOST_IMAGES], self._told_left)
        notes = list(done.notes)
        if len(seen) < len(images):
            notes.append(f"{len(images) - len(seen)} of the images are not shown here.")
        lines = [text, *(f"[{note}]" for note in notes), *_files(done.files)]
        told = "\n".join(filter(None, lines)) or "[The code ran; nothing was printed.]"
        return [{"type": "input_text", "text": told}, *images_of(seen)] if seen else told


def _within(outputs: Sequence[Json], left: int) -> tuple[list[Json], int]:
    """Those for whose images there is room, and what is left of it."""
    kept = []
    for output in outputs:
        size = len(output.get("url", ""))
        if size <= left:
            kept.append(output)
            left -= size
    return kept, left


def _files(files: Sequence[MadeFile]) -> list[str]:
    if not files:
        return []
    named = ", ".join(file.path for file in files[:_MOST_FILES])
    more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
    return [f"[Files that were made or changed: {named}{more}]"]
