"""The process that makes text of pages: ``python -m antiphon.tools.web.text_worker``.

Rules
1. A question is ``{"content_type"}`` and the body of a page; its answer is ``{"title", "text"}``,
   or ``{"problem"}`` in our words.
2. It gets no more memory than a page needs.
"""

import contextlib
from typing import Any, Final

from antiphon.tools.web.text import NotReadable, page_text
from antiphon.workers_side import limit, work

#: Bytes of address space; a page of the largest size takes a tenth.
_MEMORY: Final = 2 * 1024 * 1024 * 1024


def answer(question: Any, body: bytes) -> dict[str, str]:
    """What the page says."""
    try:
        return dict(page_text(body, question["content_type"])._asdict())
    except NotReadable as error:
        return {"problem": str(error)}


def main() -> None:
    """Import the parser, which is not the first page's fault; then read pages."""
    limit(memory=_MEMORY)
    with contextlib.suppress(NotReadable):  # there is none
        page_text(b"<p>x</p>", "text/html")
    work(answer)


if __name__ == "__main__":
    main()
