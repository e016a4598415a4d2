"""A server, or a worker, that dies over some documents.

    python -m tests.durability.deadly_reader serve | worker

It is what the command line starts, but for this: reading a file whose name begins with ``deadly``
is the end of the whole process, at once.
"""

import os
import signal
from pathlib import Path

from antiphon.cli import main
from antiphon.documents.base import Chunking
from antiphon.documents.reader import DocumentReader

_read = DocumentReader.chunks


async def _chunks(
    self: DocumentReader, project: str, path: Path, filename: str, chunking: Chunking
) -> list[str]:
    if filename.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return await _read(self, project, path, filename, chunking)


if __name__ == "__main__":
    DocumentReader.chunks = _chunks  # type: ignore[method-assign]
    main()
