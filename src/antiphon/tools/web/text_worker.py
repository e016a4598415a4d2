"""The process that makes text of pages: ``python -m antiphon.tools.web.text_worker``.

Rules
1. stdin has frames: two numbers of four bytes each, then so many bytes of content-type and of body.
   stdout has for each a number of four bytes and so many bytes of JSON: ``{"title", "text"}``, or
   ``{"problem"}`` in our words.
2. Nothing is caught: what breaks a parser ends the process, and who waits for it sees that.
3. It gets neither the server's environment nor more memory than a page needs, and ends with its
   stdin.
"""

import os
import struct
import sys
from typing import BinaryIO, Final

import orjson

from antiphon.tools.web.text import NotReadable, page_text

if sys.platform != "win32":
    import resource

REQUEST: Final = struct.Struct("!II")
ANSWER: Final = struct.Struct("!I")
#: Bytes of address space; a page of the largest size takes a tenth.
_MEMORY: Final = 2 * 1024 * 1024 * 1024


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer frames until there are none."""
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        type_length, body_length = REQUEST.unpack(head)
        content_type = source.read(type_length).decode()
        answer = orjson.dumps(_answer(source.read(body_length), content_type))
        sink.write(ANSWER.pack(len(answer)) + answer)
        sink.flush()


def _answer(body: bytes, content_type: str) -> dict[str, str]:
    try:
        return dict(page_text(body, content_type)._asdict())
    except NotReadable as error:
        return {"problem": str(error)}


def main() -> None:
    """What a library prints must not get between the answers."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
