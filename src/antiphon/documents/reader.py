"""Reads files in processes that can be killed (R-58, R-100).

Rules
1. The process gets the path of a stored file, which is never in the server's memory. What came with
   a request is there, and goes through the pipe: it does not touch the disk (R-137).
2. A file whose reading breaks its process is to blame for it; the next one gets another process. If
   somebody else has killed the process, the file is read once more before it is to blame.
3. What is wrong around a file says nothing about it (R-101): no process starts, or the file cannot
   be opened. That is `Overloaded`.
"""

from pathlib import Path
from typing import Any, Final

import structlog

from antiphon.documents.base import Chunking, Unreadable
from antiphon.documents.limits import MOST_TEXT, TEXT_SECONDS, chunk_seconds, invalid
from antiphon.errors import Overloaded
from antiphon.workers import Killed, NotStarted, Terms, TookTooLong, WorkerFailed, Workers
from antiphon.workers_side import LONGER

_log = structlog.get_logger(__name__)

#: Processes.
MOST: Final = 2
#: Seconds after which a process that has nothing to do ends.
IDLE: Final = 60.0
#: Seconds that a process has more than it gives itself (`allow`): it knows better what it does.
_MORE: Final = 15.0
#: Bytes of an answer. Text is up to twice as long in JSON, and in chunks that overlap by half.
_MOST_ANSWER: Final = 4 * MOST_TEXT + 1024 * 1024
#: Files that a process reads.
_QUESTIONS: Final = 200
#: When a client that was turned away may come back, in seconds.
_RETRY_AFTER: Final = 1.0


class DocumentReader:
    """`Documents`, with processes of its own; `aclose` it."""

    def __init__(self, *, most: int = MOST, idle: float = IDLE) -> None:
        """`most`: files at a time; `idle` in seconds."""
        self._workers = Workers(
            Terms(
                "antiphon.documents.worker",
                answer=_MOST_ANSWER,
                patience=LONGER * (TEXT_SECONDS + chunk_seconds(MOST_TEXT)) + _MORE,
                most=most,
                idle=idle,
                questions=_QUESTIONS,
            )
        )

    async def text(self, project: str, file: Path | bytes, filename: str) -> str:
        """See `Documents`. Raises `Overloaded`, too."""
        answer = await self._ask(project, file, filename, None)
        return str(answer["text"])

    async def chunks(
        self, project: str, path: Path, filename: str, chunking: Chunking
    ) -> list[str]:
        """The same."""
        answer = await self._ask(project, path, filename, chunking)
        return list(answer["chunks"])

    async def aclose(self) -> None:
        """End all processes."""
        await self._workers.aclose()

    async def _ask(
        self, project: str, file: Path | bytes, filename: str, chunking: Chunking | None
    ) -> dict[str, Any]:
        body = file if isinstance(file, bytes) else b""
        question = {
            "path": None if isinstance(file, bytes) else str(file),
            "filename": filename.encode("utf-8", "replace").decode(),
            "size": chunking and chunking.size,
            "overlap": chunking and chunking.overlap,
        }
        try:
            answer = await self._answer(project, question, body)
        except TookTooLong:
            raise invalid("It takes too long to read the file.") from None
        except NotStarted:
            raise _trouble() from None
        except WorkerFailed:
            raise invalid(
                "The file cannot be read: it is damaged, or takes too much memory."
            ) from None
        if "code" in answer:
            raise Unreadable(answer["code"], answer["message"])
        if "trouble" in answer:
            _log.error("documents_trouble", reason=answer["trouble"])
            raise _trouble()
        return answer

    async def _answer(self, project: str, question: dict[str, Any], body: bytes) -> dict[str, Any]:
        """Raises `WorkerFailed`."""
        answer: dict[str, Any]
        try:
            answer = await self._workers.ask(project, question, body)
        except Killed:
            answer = await self._workers.ask(project, question, body)
        return answer


def _trouble() -> Overloaded:
    return Overloaded("Files cannot be read at the moment.", retry_after=_RETRY_AFTER)
