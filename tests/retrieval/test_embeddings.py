"""Vectors from a server that speaks OpenAI's embeddings."""

import asyncio
import base64
import math
import struct
import time
import tracemalloc
from array import array
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import orjson
import pytest
import structlog.testing

from antiphon.errors import APIError, RateLimitError, UpstreamError, UpstreamTimeout
from antiphon.retrieval.base import TooManyVectors, Vectors
from antiphon.retrieval.embedded import batches, wait_of
from antiphon.retrieval.embeddings import EmbeddingsServer, OpenAIEmbeddings
from antiphon.retrieval.vectors import pack
from tests.retrieval.embedder import KEY, EmbeddingsUpstream, row, rows

PROJECT = "p"


@pytest.fixture
async def upstream() -> AsyncIterator[EmbeddingsUpstream]:
    """A server that does its work."""
    async with EmbeddingsUpstream() as server:
        yield server


@pytest.fixture
async def make(
    upstream: EmbeddingsUpstream,
) -> AsyncIterator[Callable[..., OpenAIEmbeddings]]:
    """Embedders of that server."""
    made = []

    def embedder(**settings: Any) -> OpenAIEmbeddings:
        server = {"base_url": upstream.base_url, "model": "e5", "api_key": KEY, **settings}
        made.append(OpenAIEmbeddings(EmbeddingsServer(**server)))
        return made[-1]

    yield embedder
    for each in made:
        await each.aclose()


Make = Callable[..., OpenAIEmbeddings]


def lengths(vectors: list[bytes], number: str = "e") -> list[int]:
    """Of the texts, as `tests.retrieval.embedder.row` tells them; those of queries are of ``f``."""
    found = []
    for vector in vectors:
        length, one = struct.unpack(f"<2{number}", vector)
        assert math.hypot(length, one) == pytest.approx(1, abs=1e-3)
        found.append(round(length / one))
    return found


async def test_each_text_gets_its_vector(upstream: EmbeddingsUpstream, make: Make) -> None:
    upstream.rows = lambda texts: rows(texts)[::-1]
    embedder = make(batch=3, dimensions=2, document_prefix="passage: ", query_prefix="query: ")
    assert embedder.name == "e5"
    texts = ["x" * length for length in (5, 1, 9, 7, 30, 2, 4)]
    assert lengths(await embedder.documents(texts)) == [len(text) + 9 for text in texts]
    assert sorted(len(asked["input"]) for asked in upstream.requests) == [1, 3, 3]
    assert upstream.requests[0] == {
        "model": "e5",
        "input": ["passage: xxxxx", "passage: x", "passage: xxxxxxxxx"],
        "encoding_format": "float",
        "dimensions": 2,
    }
    assert upstream.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert lengths(await embedder.queries(PROJECT, ["ab", "abc", "ab"]), "f") == [9, 10, 9]
    assert upstream.requests[-1]["input"] == ["query: ab", "query: abc"]
    assert await embedder.documents([]) == await embedder.queries(PROJECT, []) == []


async def test_base64_is_understood(upstream: EmbeddingsUpstream, make: Make) -> None:
    packed = base64.b64encode(array("f", [3, 4]).tobytes()).decode()
    upstream.rows = lambda _: [{"index": 0, "embedding": packed}]
    (vector,) = await make().documents(["text"])
    assert struct.unpack("<2e", vector) == pytest.approx([0.6, 0.8], abs=1e-3)


async def test_what_has_no_length_is_zeros(upstream: EmbeddingsUpstream, make: Make) -> None:
    nan = base64.b64encode(array("f", [float("nan"), 1]).tobytes()).decode()
    upstream.rows = lambda _: [{"embedding": [0, 0]}, {"embedding": nan}]
    assert await make().documents(["a", "b"]) == [bytes(4), bytes(4)]


def test_batches_are_of_texts_and_characters() -> None:
    texts = ["a" * 4, "b" * 4, "c" * 20, "d", "e", "f", "g"]
    assert list(batches(texts, 3, 10)) == [["aaaa", "bbbb"], ["c" * 20], ["d", "e", "f"], ["g"]]
    assert list(batches([], 3, 10)) == []


async def test_a_few_requests_with_documents_go_at_once_and_queries_pass_them(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    upstream.gate.clear()
    embedder = make(batch=1, at_once=3)
    documents = asyncio.create_task(embedder.documents(["a"] * 9))
    await upstream.until(running=3)
    query = asyncio.create_task(embedder.queries(PROJECT, ["b"]))
    await upstream.until(running=4)
    upstream.gate.set()
    assert len(await documents) == 9
    assert len(await query) == 1
    assert upstream.most == 4


async def test_vectors_of_queries_are_kept_for_one_project(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    """R-33."""
    embedder = make()
    first = await embedder.queries("one", ["a", "b"])
    assert await embedder.queries("one", ["b", "a"]) == first[::-1]
    assert len(upstream.requests) == 1
    assert await embedder.queries("two", ["a"]) == first[:1]
    assert len(upstream.requests) == 2
    await embedder.queries("one", [str(at) for at in range(1024)])
    await embedder.queries("one", ["a"])
    assert upstream.requests[-1]["input"] == ["a"]
    assert len(embedder._kept) == 1024


async def test_odd_texts_are_sent_as_text(upstream: EmbeddingsUpstream, make: Make) -> None:
    await make().queries(PROJECT, ["", "\ud800", "nul\0"])
    assert upstream.requests[0]["input"] == [" ", "\ufffd", "nul\0"]


@pytest.mark.parametrize(
    "fault",
    [
        (500, b"", {}),
        (503, b"", {"Retry-After": "0.01"}),
        (429, b"", {"Retry-After": "0"}),
        (0, b"", {}),
    ],
)
async def test_what_may_pass_is_tried_again(
    upstream: EmbeddingsUpstream, make: Make, fault: tuple[int, bytes, dict[str, str]]
) -> None:
    upstream.faults = [fault] * 2
    assert lengths(await make(max_retries=2).documents(["abc"])) == [3]
    assert len(upstream.requests) == 3
    upstream.faults = [fault] * 2
    with pytest.raises(APIError):
        await make(max_retries=1).queries(PROJECT, ["abc"])


TOO_LONG = b'{"error":{"message":"This model\'s maximum context length is 512 tokens"}}'


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, TOO_LONG, UpstreamError, "too long"),
        (500, b"input (2001 tokens) is too large to process", UpstreamError, "too long"),
        (413, b"`inputs` must have less than 512 tokens", UpstreamError, "too long"),
        (400, b"bad", UpstreamError, "embedding model failed"),
        (401, b"bad key " + KEY.encode(), UpstreamError, "embedding model failed"),
        (404, b"no model", UpstreamError, "embedding model failed"),
        (302, b"", UpstreamError, "embedding model failed"),
        (504, b"", UpstreamTimeout, "in time"),
    ],
)
async def test_a_refusal_is_told_in_our_words_and_logged_without_the_key(
    upstream: EmbeddingsUpstream,
    make: Make,
    status: int,
    body: bytes,
    kind: type[APIError],
    says: str,
) -> None:
    """R-42, R-130."""
    upstream.faults = [(status, body, {"Location": "/v1/other"})] * 5
    with structlog.testing.capture_logs() as lines, pytest.raises(kind, match=says):
        await make(max_retries=0).documents(["abc"])
    assert [line["event"] for line in lines] == ["embeddings_refused"]
    assert KEY not in str(lines)
    assert len(upstream.requests) == 1


async def test_a_longer_wait_than_we_have_patience_for_is_the_callers(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    upstream.faults = [(429, b"", {"Retry-After": "20"})]
    with pytest.raises(RateLimitError) as caught:
        await make().queries(PROJECT, ["abc"])
    assert caught.value.retry_after == 20
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        [],
        None,
        {"a": 1},
        [1, 2],
        [row("a", 0)],
        [row("a", 0)] * 2,
        [row("a", 0), row("b", 2)],
        [row("a", 0), row("b", -1)],
        [row("a", 0), {"index": "1", "embedding": [1, 2]}],
        [row("a", 0), {"index": 1, "embedding": [1]}],
        [row("a", 0), {"index": 1, "embedding": []}],
        [row("a", 0), {"index": 1, "embedding": None}],
        [row("a", 0), {"index": 1, "embedding": ["1", "2"]}],
        [row("a", 0), {"index": 1, "embedding": "?"}],
        [row("a", 0), {"index": 1, "embedding": "AAAA"}],
        [row("a", 0), {"index": 1, "embedding": [[1, 2]]}],
        [row("a", 0), {"index": 1, "embedding": {"x": 1}}],
        [{"index": 0, "embedding": [1, 2, 3]}, {"index": 1, "embedding": [1, 2, 3]}],
    ],
)
async def test_an_answer_that_was_not_asked_for_is_not_used(
    upstream: EmbeddingsUpstream, make: Make, answer: Any
) -> None:
    upstream.rows = lambda _: answer
    with structlog.testing.capture_logs() as lines, pytest.raises(UpstreamError):
        await make(dimensions=2).documents(["a", "b"])
    assert [line["event"] for line in lines] == ["embeddings_malformed"]


async def test_batches_of_one_file_have_one_length(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    upstream.rows = lambda texts: [{"embedding": [1.0] * len(texts[0])}]
    with pytest.raises(UpstreamError):
        await make(batch=1).documents(["a", "bb"])


async def test_a_file_with_too_many_vectors_is_refused_after_the_first(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    """R-101: as soon as their length is known, which may be before they are asked for."""
    settings = {"batch": 1, "at_once": 1, "most_bytes": 100 * 4}
    assert len(await make(**settings).documents(["a"] * 100)) == 100
    upstream.requests.clear()
    with pytest.raises(
        TooManyVectors, match="101 chunks; with vectors of 2 dimensions at most 100"
    ):
        await make(**settings).documents(["a"] * 101)
    assert len(upstream.requests) <= 2
    upstream.requests.clear()
    with pytest.raises(TooManyVectors):
        await make(**settings, dimensions=2).documents(["a"] * 101)
    assert upstream.requests == []


async def test_the_vectors_of_a_file_are_in_memory_twice_at_most(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they came, and joined; never all of them as float32."""
    count, dimensions = 1_600, 256
    vector = base64.b64encode(array("f", [1.0] * dimensions).tobytes()).decode()
    answer = orjson.dumps({"data": [{"embedding": vector}] * 16})
    embedder = make(batch=16, at_once=1)

    async def accepted(content: bytes, patience: float) -> bytes:
        return answer

    monkeypatch.setattr(embedder, "_accepted", accepted)
    texts = ["a"] * count
    await embedder.documents(texts[:16])  # what is loaded once
    tracemalloc.start()
    try:
        packed = pack(Vectors("e5", await embedder.documents(texts), halves=True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(packed.rows) == 2 * count * dimensions
    assert peak < 3 * len(packed.rows)


async def test_what_is_not_json_is_not_used(upstream: EmbeddingsUpstream, make: Make) -> None:
    upstream.faults = [(200, b"<html>" * 100_000, {})]
    with pytest.raises(UpstreamError, match="embedding model failed"):
        await make().documents(["a"])


async def test_a_server_that_is_silent_or_not_there_is_told_apart(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    upstream.gate.clear()
    with pytest.raises(UpstreamTimeout):
        await make(timeout=0.05, max_retries=1).queries(PROJECT, ["a"])
    assert len(upstream.requests) == 2
    with pytest.raises(UpstreamError):
        await make(base_url="http://127.0.0.1:1/v1", max_retries=0).queries(PROJECT, ["a"])


async def test_one_failure_ends_the_other_requests(
    upstream: EmbeddingsUpstream, make: Make
) -> None:
    upstream.faults = [(400, b"", {})]
    with pytest.raises(UpstreamError):
        await make(batch=1, at_once=1).documents(["a"] * 50)
    assert len(upstream.requests) <= 2


async def test_who_leaves_closes_the_request(upstream: EmbeddingsUpstream, make: Make) -> None:
    upstream.gate.clear()
    task = asyncio.create_task(make().documents(["a"]))
    await upstream.until(running=1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.until(running=0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("99999", 3600.0),
        ("-1", None),
        ("soon", None),
        ("1e3", None),
        (formatdate(1000, usegmt=True), 40.0),
        (formatdate(10, usegmt=True), 0.0),
    ],
)
def test_when_to_come_back(value: str, seconds: float | None) -> None:
    assert wait_of({"retry-after": value}, 960.0) == seconds
    assert wait_of({}, time.time()) is None
