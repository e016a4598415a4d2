"""Makes text of pages without being held up, or broken, by them (R-118).

Rules
1. Parsers of HTML hold Python's lock, take quadratic time over some pages and cannot be stopped:
   they run in processes (`text_worker.py`), which `Workers` kills when they take too long or when
   nobody waits any more (R-58).
2. What goes wrong there is `ToolFailed`, in our words.
"""

from typing import Final

from antiphon.errors import ToolFailed
from antiphon.tools.web.text import MOST_BYTES, MOST_TEXT, PageText
from antiphon.workers import Terms, TookTooLong, WorkerFailed, Workers

#: Processes.
MOST: Final = 2
#: Seconds for one page.
PATIENCE: Final = 5.0
#: Seconds after which a process that has nothing to do ends.
IDLE: Final = 60.0
#: Bytes of an answer: characters of six bytes in JSON, and some more.
MOST_ANSWER: Final = 6 * MOST_TEXT + 64 * 1024
#: Characters of a content-type that count.
_MOST_TYPE: Final = 1_000


class Extractor:
    """The processes of one server; `aclose` it."""

    def __init__(self, *, most: int = MOST, patience: float = PATIENCE, idle: float = IDLE) -> None:
        """`patience` and `idle` in seconds."""
        self._workers = Workers(
            Terms("antiphon.tools.web.text_worker", MOST_ANSWER, patience, most=most, idle=idle)
        )

    async def text(self, project: str, body: bytes, content_type: str) -> PageText:
        """Title and text of a page that a project reads. Raises `ToolFailed`."""
        name = content_type.encode("utf-8", "replace")[:_MOST_TYPE].decode("utf-8", "ignore")
        try:
            answer = await self._workers.ask(project, {"content_type": name}, body[:MOST_BYTES])
        except TookTooLong:
            raise ToolFailed("It takes too long to read the page.") from None
        except WorkerFailed:
            raise ToolFailed("The page cannot be read.") from None
        if "problem" in answer:
            raise ToolFailed(answer["problem"])
        return PageText(answer["title"], answer["text"])

    async def aclose(self) -> None:
        """End all processes."""
        await self._workers.aclose()
