"""The process that reads files: ``python -m antiphon.documents.worker`` (R-100).

Rules
1. It has little memory, few files, and writes none. It knows no secret (`workers.py`).
2. Its libraries are an extra: without them it says so (R-133).
3. It steps back behind the server, which answers people.
"""

import os
import sys
from typing import Any, Final

from antiphon.documents.limits import MEMORY
from antiphon.workers_side import Answer, limit, work

#: Descriptors: three, the pipe, the file, and some that libraries open.
_FILES: Final = 32
_NICE: Final = 5


def main() -> None:
    """Import first: limits are for what the files do."""
    answer = _reading()
    if sys.platform != "win32":
        os.nice(_NICE)
    limit(memory=MEMORY, files=_FILES, file_size=0)
    work(answer)


def _reading() -> Answer:
    try:
        from antiphon.documents.reading import answer, warm_up  # noqa: PLC0415
    except ImportError:
        return _missing
    warm_up()
    return answer


def _missing(_question: Any, _body: bytes) -> dict[str, str]:
    return {
        "code": "server_error",
        "message": "Reading files needs 'antiphon[files]', which this server does not have.",
    }


if __name__ == "__main__":
    main()
