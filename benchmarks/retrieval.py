"""What finding chunks costs: ``python -m benchmarks.retrieval [CHUNKS …]``.

Rules
1. Texts are those of this machine: man pages, documentation, and Python sources, in chunks of 3200
   characters that overlap by half, as OpenAI cuts them.
2. Vectors are random, of 384 dimensions: what comparing them costs does not depend on their values.
3. Each row is a process of its own. Questions are asked one after the other, none of them twice in
   a row; the first one, which reads the vectors, is a figure of its own.
4. On a machine that is shared CPU says more than the clock.
5. "Half" and "10 files": the same, in a selection of the files.
"""

import asyncio
import gzip
import multiprocessing
import platform
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from antiphon.retrieval.base import Place, Question, Selection, Vectors
from antiphon.retrieval.indexes import Indexes

_SIZES: Final = (1_000, 10_000, 100_000)
_CHUNK: Final = 3_200
_STRIDE: Final = 1_600
#: Chunks of a file at most: no file should be a tenth of an index.
_LONGEST: Final = 100
_DIMENSIONS: Final = 384
_ROUNDS: Final = 5
_STORE: Final = "vs_benchmark"
_FOLDERS: Final = (
    "/usr/share/doc",
    "/usr/share/man",
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
)
QUESTIONS: Final = """
How do I configure the timeout of a connection?
What is the default value of the file mode option?
How can I install a package from a local directory?
Why does the parser raise an error for empty strings?
What are the license conditions of redistribution?
How to list all files in a directory recursively
socket timeout error handling with asyncio
Which environment variables does git read?
Unicode normalization of strings
Where are the log files of the daemon?
How do I mount a remote file system at boot?
What happens when the disk is full during a write?
Which signals can a process not catch?
Difference between a thread and a process
How is a password hash verified?
Compress a stream with zlib
What is a context manager used for?
How do I sort a dictionary by its values?
Can I limit the memory of a child process?
Set the locale of a terminal session
Which regular expressions match an e-mail address?
How do I rebase a branch onto another one?
When was the garbage collector introduced?
Explain the syntax of format strings
What does the exit status of a shell mean?
How does the linker find shared libraries?
Debug a segmentation fault with a core dump
Certificate verification failed in ssl
How do I read a csv file with a header line?
What is the maximum length of a path?
parse command line arguments with subcommands
How to write a unit test with a mock object
Which encoding does the interpreter use for source files?
copy on write of memory pages after fork
How are floating point numbers rounded?
What do the columns of the process table mean?
Disable colours in the output of a program
decode base64 in a URL
How do I make a symbolic link?
Which port does the service listen on?
""".strip().splitlines()


def _files() -> Iterator[tuple[str, str]]:
    """Names and texts, in the same order each time."""
    paths = sorted({path for folder in _FOLDERS for path in Path(folder).rglob("*")})
    random.Random(7).shuffle(paths)
    for path in paths:
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        try:
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        except (ValueError, OSError, EOFError):
            continue
        if len(text) > 500 and "\0" not in text:
            yield path.name, text


def _cut(text: str) -> list[str]:
    starts = range(0, max(1, len(text) - _STRIDE), _STRIDE)
    return [piece for at in starts if (piece := text[at : at + _CHUNK]).strip()][:_LONGEST]


def _vectors(count: int) -> Vectors:
    rows = np.random.default_rng(count).standard_normal((count, _DIMENSIONS)).astype("<f4")
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    return Vectors("random", [row.tobytes() for row in rows])


async def _fill(indexes: Indexes, size: int, *, vectors: bool) -> tuple[frozenset[int], float]:
    """The numbers of the files, and chunks a second."""
    number = made = 0
    taken = 0.0
    for name, text in _files():
        chunks = _cut(text)[: size - made]
        number += 1
        made += len(chunks)
        rows = _vectors(len(chunks)) if vectors else None
        start = time.perf_counter()
        await indexes.put(_STORE, number, name, chunks, rows)
        taken += time.perf_counter() - start
        if made == size:
            break
    return frozenset(range(1, number + 1)), made / taken


async def _ask(
    indexes: Indexes, numbers: frozenset[int], vectors: Vectors | None
) -> list[tuple[float, float]]:
    """Milliseconds of each search, and of CPU for it."""
    times = []
    for at, question in enumerate(QUESTIONS * _ROUNDS):
        asked = vectors and Vectors(vectors.model, [vectors.rows[at % len(QUESTIONS)]])
        start, spent = time.perf_counter(), time.process_time()
        place = Place(_STORE, Selection(numbers))
        found = await indexes.search("p", [place], Question([question], asked))
        taken, used = time.perf_counter() - start, time.process_time() - spent
        times.append((taken * 1000, used * 1000))
        assert found or len(numbers) < 20, question
    return times


def _resident() -> float:
    """MB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    return 0.0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _shown(times: Sequence[tuple[float, float]]) -> str:
    taken = [taken for taken, _ in times]
    used = statistics.median(used for _, used in times)
    slow = statistics.quantiles(taken, n=100)[98]
    return f"{statistics.median(taken):.1f} / {slow:.1f} ({used:.1f})"


async def _measured(size: int, vectors: bool) -> list[str]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        indexes = Indexes(Path(folder))
        numbers, rate = await _fill(indexes, size, vectors=vectors)
        await indexes.aclose()
        megabytes = _size(Path(folder)) / 1e6
        asked = _vectors(len(QUESTIONS)) if vectors else None
        before = _resident()
        indexes = Indexes(Path(folder))
        first, *_ = await _ask(indexes, numbers, asked)
        rows = [
            _shown(await _ask(indexes, part, asked))
            for part in (
                numbers,
                frozenset(number for number in numbers if number % 2),
                frozenset(random.Random(3).sample(sorted(numbers), 10)) | {1},
            )
        ]
        memory = _resident() - before
        await indexes.aclose()
    kind = "hybrid" if vectors else "text"
    return [
        *(f"{size:,}", kind, f"{len(numbers):,}", f"{rate:,.0f}", f"{megabytes:,.0f}"),
        *(f"{first[0]:.0f}", *rows, f"{memory:.0f}"),
    ]


def _row(size: int, vectors: bool) -> list[str]:
    return asyncio.run(_measured(size, vectors))


def main() -> None:
    """Print a table."""
    sizes = [int(argument) for argument in sys.argv[1:]] or list(_SIZES)
    print(f"{platform.machine()}, Python {platform.python_version()}")
    print("Searches: ms, p50 / p99 (p50 of CPU)\n")
    heads = ["chunks", "kind", "files", "chunks/s put", "MB", "first search, ms"]
    heads += ["all files", "half", "10 files", "MB of memory"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for size in sizes:
        for vectors in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                print(f"| {' | '.join(alone.apply(_row, (size, vectors)))} |", flush=True)


if __name__ == "__main__":
    main()
