"""What vector stores cost, over HTTP: ``python -m benchmarks.vector_stores [FILES …]``.

Rules
1. Files are made of this machine's Python sources and documentation: about ten chunks each, by the
   default chunking. They are uploaded first; the clock of the ingestion begins with their batches.
2. An ``/embeddings`` server of our own answers at once with one of a thousand vectors, by the text:
   what a model takes is not measured, what its answers cost here is.
3. The server and its readers have all cores, and share them with who asks.
4. Searches come one after the other on one connection, none of them twice in a row; "tool" is the
   whole of a response that calls `file_search` (simulator), over the same store.
"""

import asyncio
import hashlib
import itertools
import platform
import random
import statistics
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from benchmarks.load import KEY
from benchmarks.meter import Meter, antiphon
from benchmarks.retrieval import QUESTIONS

SIZES: Final = (100, 1_000, 10_000)
#: Characters of a file: ten chunks of 800 tokens that overlap by half.
_FILE: Final = 15_500
_DIMENSIONS: Final = 384
_BATCH: Final = 1_000
_SEARCHES: Final = 200
_UPLOADS: Final = 8
_CONFIG: Final = """
[embeddings]
base_url = "http://127.0.0.1:{port}/v1"
model = "instant"
"""


@dataclass
class Row:
    """Figures of one size."""

    files: int
    chunks: int = 0
    ingestion: float = 0.0
    cpu: float = 0.0
    rss: tuple[float, float] = (0.0, 0.0)
    index_bytes: int = 0
    times: dict[str, list[float]] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """As the table shows them."""
        ranked = {name: sorted(times) for name, times in self.times.items()}
        cells = [
            f"{self.files:,}",
            f"{self.chunks:,}",
            f"{self.files / self.ingestion:,.1f}",
            f"{self.chunks / self.ingestion:,.0f}",
            f"{self.cpu / self.chunks * 1e3:.2f}",
        ]
        for times in ranked.values():
            p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
            cells.append(f"{statistics.median(times) * 1e3:.1f} / {p99 * 1e3:.1f}")
        cells += [f"{self.rss[0]:.0f} → {self.rss[1]:.0f}", f"{self.index_bytes / 1e6:.0f}"]
        return cells


def texts(count: int) -> Iterator[str]:
    """So many files, none twice."""
    rng = random.Random(7)
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    folders.append(Path("/usr/share/doc"))
    paths = sorted(
        path
        for folder in folders
        for pattern in ("*.py", "*.txt", "*.md", "*.rst")
        for path in folder.rglob(pattern)
    )
    rng.shuffle(paths)
    pieces = (_piece(path, start) for start in range(0, 100 * _FILE, _FILE) for path in paths)
    yield from itertools.islice(filter(None, pieces), count)


def _piece(path: Path, start: int) -> str | None:
    """A whole file's worth of text from there on, if there is as much."""
    try:
        piece = path.read_text(encoding="utf-8")[start : start + _FILE]
    except (OSError, UnicodeDecodeError):
        return None
    return piece if len(piece) == _FILE else None


class Embeddings:
    """The instant server, in a thread of its own."""

    def __init__(self) -> None:
        rng = random.Random(1)
        vectors = [[rng.gauss(0, 1) for _ in range(_DIMENSIONS)] for _ in range(1_000)]
        self._encoded = [orjson.dumps([round(x, 4) for x in vector]) for vector in vectors]
        self._ready = threading.Event()
        self.port = 0
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/embeddings", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await asyncio.Event().wait()

    async def _answer(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())["input"]
        rows = []
        for index, text in enumerate([asked] if isinstance(asked, str) else asked):
            place = int.from_bytes(hashlib.sha1(text.encode()).digest()[:4]) % 1_000  # noqa: S324
            head = b'{"object":"embedding","index":%d,"embedding":' % index
            rows.append(head + self._encoded[place] + b"}")
        body = b'{"object":"list","data":[' + b",".join(rows) + b'],"model":"instant","usage":{}}'
        return web.Response(body=body, content_type="application/json")


class Api:
    """Asks the server."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._base = f"http://127.0.0.1:{port}/v1"

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer's JSON."""
        async with self._session.post(self._base + path, json=body) as response:
            response.raise_for_status()
            return dict(await response.json())

    async def get(self, path: str) -> dict[str, Any]:
        """The same."""
        async with self._session.get(self._base + path) as response:
            response.raise_for_status()
            return dict(await response.json())

    async def upload(self, number: int, text: str) -> str:
        """The id of a new file."""
        form = aiohttp.FormData()
        form.add_field("purpose", "assistants")
        form.add_field("file", text.encode(), filename=f"part-{number}.txt")
        async with self._session.post(self._base + "/files", data=form) as response:
            response.raise_for_status()
            return str((await response.json())["id"])


async def _ingest(api: Api, server: Meter, row: Row) -> str:
    store: str = (await api.post("/vector_stores", name="benchmark"))["id"]
    places = asyncio.Semaphore(_UPLOADS)

    async def upload(number: int, text: str) -> str:
        async with places:
            return await api.upload(number, text)

    ids = await asyncio.gather(*(upload(n, text) for n, text in enumerate(texts(row.files))))
    before, began = server.cpu(), time.monotonic()
    for start in range(0, len(ids), _BATCH):
        await api.post(f"/vector_stores/{store}/file_batches", file_ids=ids[start : start + _BATCH])
    while (await api.get(f"/vector_stores/{store}"))["status"] == "in_progress":  # noqa: ASYNC110
        await asyncio.sleep(0.25)
    row.ingestion = time.monotonic() - began
    row.cpu = server.cpu() - before
    counts = (await api.get(f"/vector_stores/{store}"))["file_counts"]
    if counts["completed"] != row.files:
        raise RuntimeError(f"not all files were read: {counts}")
    sample = [
        len((await api.get(f"/vector_stores/{store}/files/{id_}/content"))["data"])
        for id_ in random.Random(3).sample(list(ids), min(100, len(ids)))
    ]
    row.chunks = round(statistics.mean(sample) * row.files)
    return store


async def _search(api: Api, store: str, row: Row) -> None:
    words = {"embedding_weight": 0.0, "text_weight": 1.0}
    vectors = {"embedding_weight": 1.0, "text_weight": 0.0}
    kinds: dict[str, dict[str, Any]] = {
        "hybrid": {},
        "words": {"ranking_options": {"hybrid_search": words}},
        "vectors": {"ranking_options": {"hybrid_search": vectors}},
    }
    path = f"/vector_stores/{store}/search"
    for name, options in kinds.items():
        await api.post(path, query="warm up", **options)
        times = row.times[name] = []
        for number in range(_SEARCHES):
            began = time.perf_counter()
            await api.post(path, query=QUESTIONS[number % len(QUESTIONS)], **options)
            times.append(time.perf_counter() - began)
    times = row.times["tool"] = []
    for number in range(_SEARCHES // 4):
        call = orjson.dumps({"queries": [QUESTIONS[number % len(QUESTIONS)]]}).decode()
        began = time.perf_counter()
        await api.post(
            "/responses",
            model="simulator",
            input=f"[[call=file_search {call}]]",
            tools=[{"type": "file_search", "vector_store_ids": [store], "max_num_results": 5}],
        )
        times.append(time.perf_counter() - began)


async def _measure(files: int, embeddings_port: int) -> Row:
    row = Row(files)
    with antiphon(1, _CONFIG.format(port=embeddings_port), alone=False) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=3_600)
        ) as session:
            api = Api(session, server.port)
            at_start = server.rss()
            store = await _ingest(api, server, row)
            await _search(api, store, row)
            row.rss = (at_start, server.rss())
            row.index_bytes = server.indexed()
    return row


def main() -> None:
    """Print the table."""
    sizes = [int(size) for size in sys.argv[1:]] or list(SIZES)
    embeddings = Embeddings()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, p50 / p99 in ms, RSS in MB.\n"
    )
    print(
        "| files | chunks | files/s | chunks/s | CPU ms/chunk | hybrid | words | vectors | tool "
        "| RSS start → end | index MB |"
    )
    print("|" + "---|" * 11)
    for size in sizes:
        row = asyncio.run(_measure(size, embeddings.port))
        print("| " + " | ".join(row.cells()) + " |", flush=True)


if __name__ == "__main__":
    main()
