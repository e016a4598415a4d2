"""A process that writes: ``-m tests.retrieval.writer FOLDER FIRST COUNT CHUNKS [halfway]``.

Rules
1. It puts COUNT files from number FIRST on, each of CHUNKS chunks, and says the number of each that
   is there.
2. With "halfway" it says so in the middle of the first file, and does nothing more.
"""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from antiphon.retrieval import index_file, words
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, vectors


def _halt(after: int) -> None:
    """Stop in a transaction, when so many texts were put in."""
    done = 0

    def indexed(text: str) -> str:
        nonlocal done
        done += 1
        if done == after:
            print("halfway", flush=True)
            threading.Event().wait()
        return words.indexed(text)

    pytest.MonkeyPatch().setattr(index_file, "indexed", indexed)


async def _write(folder: Path, first: int, count: int, chunks: int) -> None:
    index = Indexes(folder)
    for number in range(first, first + count):
        texts = [f"shared number{number} {'filler ' * 50}"] * chunks
        await index.put(STORE, number, "t", texts, vectors(*[[1, number]] * chunks))
        print(number, flush=True)
    await index.aclose()


if __name__ == "__main__":
    if sys.argv[5:] == ["halfway"]:
        _halt(int(sys.argv[4]) // 2)
    asyncio.run(_write(Path(sys.argv[1]), *map(int, sys.argv[2:5])))
