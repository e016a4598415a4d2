"""Vectors by any server that speaks OpenAI's ``/v1/embeddings``: an `Embedder`.

Rules
1. This file does the I/O; what is sent and what comes back is made and read in `embedded.py`.
2. Texts go in batches, a few at a time; queries do not wait for the batches of documents.
3. What may pass (429, 5xx, a broken connection) is tried again; a query has less patience than a
   document. Every failure is an `APIError`; what the server said about it goes to the log and
   nowhere else (R-42), the key not even there.
4. Vectors of queries are kept a while, for the project that asked (R-33), under a digest.
5. A large answer is read in a thread (R-118).
6. Vectors of documents are float16 as soon as their batch is there: all of a file are in memory at
   once. A file that has too many of them is refused when their length is known.
"""

import asyncio
import hashlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

import aiohttp
import structlog

from antiphon import __version__
from antiphon.errors import APIError, UpstreamError
from antiphon.retrieval.base import TooManyVectors
from antiphon.retrieval.embedded import (
    Malformed,
    batches,
    body,
    error_for_status,
    failed,
    late,
    read_vectors,
    wait_of,
)
from antiphon.retrieval.vectors import halves

_log = structlog.get_logger(__name__)

#: Before the first retry, give or take half; doubled for each further one. In seconds.
_FIRST_WAIT: Final = 0.25
#: A longer `Retry-After` is the caller's to wait for, in seconds.
_PATIENCE: Final = 30.0
_PATIENCE_OF_QUERIES: Final = 2.0
_CONNECT_TIMEOUT: Final = 5.0
#: Vectors of queries that are kept.
_KEPT: Final = 1024
#: Bytes of an error body that are read, and shown in the log.
_ERROR_BODY: Final = 64 * 1024
_SHOWN: Final = 2048
#: Bytes of an answer: a batch of 2048 vectors of 1536 dimensions in decimals has 60 MB.
_MOST_ANSWER: Final = 128 * 1024 * 1024
#: Bytes of an answer that are read at once.
_AT_ONCE: Final = 256 * 1024


class Place(Protocol):
    """A server that is there while it is used."""

    def use(self) -> AbstractAsyncContextManager[tuple[str, str]]:
        """Its `base_url` and its key, meanwhile. Raises `APIError`."""
        ...

    async def aclose(self) -> None:
        """It is not used any more."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingsServer:
    """Where vectors are made. Times in seconds."""

    #: With the version in it: ``http://127.0.0.1:8001/v1``; of no meaning with a `place`.
    base_url: str
    model: str
    place: Place | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    #: What the model is asked for, where it can make vectors of several lengths.
    dimensions: int | None = None
    #: Texts and characters of a request at most; a longer text goes alone.
    batch: int = 64
    batch_characters: int = 200_000
    #: Requests with documents at a time.
    at_once: int = 4
    #: Bytes of all vectors of a file, in float16.
    most_bytes: int = 64 * 1024 * 1024
    query_prefix: str = ""
    document_prefix: str = ""
    timeout: float = 30.0
    max_retries: int = 2


class OpenAIEmbeddings:
    """See `antiphon.retrieval.base.Embedder`."""

    def __init__(self, server: EmbeddingsServer) -> None:
        self.name = server.model
        self._server = server
        self._turn = asyncio.Semaphore(server.at_once)
        self._session: aiohttp.ClientSession | None = None
        #: The one that was asked for last is at the end.
        self._kept: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    async def documents(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.documents`."""
        if self._server.dimensions is not None:
            self._check_count(len(texts), self._server.dimensions)
        prefixed = [f"{self._server.document_prefix}{text}" for text in texts]
        parts = batches(prefixed, self._server.batch, self._server.batch_characters)
        tasks = [asyncio.create_task(self._in_turn(part, len(texts))) for part in parts]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        vectors = [vector for part in found for vector in part]
        if len({len(vector) for vector in vectors}) > 1:
            raise self._malformed("vectors of different lengths")
        return vectors

    async def queries(self, project: str, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.queries`."""
        keys = {text: (project, _digest(text)) for text in texts}
        known = {text: self._kept[key] for text, key in keys.items() if key in self._kept}
        new = [text for text in keys if text not in known]
        prefixed = [f"{self._server.query_prefix}{text}" for text in new]
        made: list[bytes] = []
        for part in batches(prefixed, self._server.batch, self._server.batch_characters):
            made += await self._vectors(part, _PATIENCE_OF_QUERIES)
        known.update(zip(new, made, strict=True))
        for text, key in keys.items():
            self._kept[key] = known[text]
            self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return [known[text] for text in texts]

    async def aclose(self) -> None:
        """See `Embedder.aclose`."""
        if self._session:
            await self._session.close()
        if self._server.place is not None:
            await self._server.place.aclose()

    async def _in_turn(self, texts: Sequence[str], count: int) -> list[bytes]:
        """Of a batch of a file with so many texts. numpy is loaded here, so in a thread (R-118)."""
        async with self._turn:
            vectors = await self._vectors(texts, _PATIENCE)
            self._check_count(count, len(vectors[0]) // 4)
            return await asyncio.to_thread(halves, vectors)

    def _check_count(self, count: int, dimensions: int) -> None:
        most = self._server.most_bytes // (2 * dimensions)
        if count > most:
            raise TooManyVectors(
                f"The file has {count:,} chunks; with vectors of {dimensions:,} dimensions at most"
                f" {most:,} are taken. Use larger chunks, or a model with fewer dimensions."
            )

    async def _vectors(self, texts: Sequence[str], patience: float) -> list[bytes]:
        """The vector of each text; `patience`: see `_PATIENCE`."""
        answer = await self._accepted(
            body(texts, self._server.model, self._server.dimensions), patience
        )
        expected = (len(texts), self._server.dimensions)
        try:
            if len(answer) <= _AT_ONCE:
                return read_vectors(answer, *expected)
            return await asyncio.to_thread(read_vectors, answer, *expected)
        except Malformed as error:
            raise self._malformed(str(error)) from None

    async def _accepted(self, content: bytes, patience: float) -> bytes:
        """The answer, after retries."""
        attempt = 0
        while True:
            try:
                return await self._post(content)
            except _RefusedError as refused:
                attempt += 1
                asked = refused.error.retry_after or 0.0
                over = attempt > self._server.max_retries or asked > patience
                if over or not refused.may_pass:
                    raise refused.error from None
            wait = _FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311
            await asyncio.sleep(max(wait, asked))

    async def _post(self, content: bytes) -> bytes:
        """The answer to one attempt. Raises `_RefusedError` unless the status is 200."""
        try:
            async with (
                self._where() as (url, headers),
                self._client().post(
                    url, data=content, headers=headers, allow_redirects=False
                ) as response,
            ):
                if response.status == 200:
                    return await _limited(response, _MOST_ANSWER)
                said = await response.content.read(_ERROR_BODY)
        except Malformed as exc:
            raise _RefusedError(self._malformed(str(exc)), may_pass=False) from None
        except TimeoutError:
            self._tell("embeddings_timeout", "no answer in time")
            raise _RefusedError(late(), may_pass=True) from None
        except (aiohttp.ClientError, OSError) as exc:
            # Not `repr`: aiohttp puts all headers of the request into it, keys included.
            self._tell("embeddings_unreachable", f"{type(exc).__name__}: {exc}")
            raise _RefusedError(failed(), may_pass=True) from None
        self._tell("embeddings_refused", said.decode(errors="replace"), response.status)
        error = error_for_status(response.status, said)
        if response.status in (429, 503):
            error.retry_after = wait_of(response.headers, time.time())
        passing = response.status in (408, 429) or response.status >= 500
        raise _RefusedError(error, may_pass=passing and error.should_retry is not False)

    @asynccontextmanager
    async def _where(self) -> AsyncGenerator[tuple[str, dict[str, str]], None]:
        """Its endpoint, and the headers of each request."""
        if self._server.place is None:
            yield f"{self._server.base_url.rstrip('/')}/embeddings", {}
            return
        async with self._server.place.use() as (base_url, key):
            # Loopback: a connection costs less than one that was closed meanwhile.
            headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
            yield f"{base_url}/embeddings", headers

    def _client(self) -> aiohttp.ClientSession:
        """The session; made here because it belongs to the running loop."""
        if self._session is None:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"antiphon/{__version__}",
            }
            if self._server.api_key:
                headers["Authorization"] = f"Bearer {self._server.api_key}"
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={**headers, **self._server.headers},
                timeout=aiohttp.ClientTimeout(
                    total=self._server.timeout, sock_connect=_CONNECT_TIMEOUT
                ),
            )
        return self._session

    def _malformed(self, detail: str) -> UpstreamError:
        self._tell("embeddings_malformed", detail)
        return failed()

    def _tell(self, event: str, detail: str, status: int | None = None) -> None:
        """A line for the operator; 401 and 403 are theirs to mend (R-41)."""
        for secret in (self._server.api_key, *self._server.headers.values()):
            detail = detail.replace(secret, "…") if secret else detail
        level = logging.ERROR if status in (401, 402, 403, 404) else logging.WARNING
        _log.log(level, event, model=self.name, status=status, detail=ascii(detail[:_SHOWN]))


class _RefusedError(Exception):
    """One attempt failed."""

    def __init__(self, error: APIError, *, may_pass: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.may_pass = may_pass


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


async def _limited(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body. Raises `Malformed` when it is longer."""
    answer = bytearray()
    async for piece in response.content.iter_any():
        answer += piece
        if len(answer) > most:
            raise Malformed(f"more than {most} bytes")
    return bytes(answer)
