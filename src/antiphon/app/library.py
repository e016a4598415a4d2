"""Files, the text in them, containers, and images: blobs, documents, indexes, embeddings, and who
uses them."""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Final

import structlog

from antiphon.app.files import blobs_of, container_options, file_options
from antiphon.app.folder import folder_of
from antiphon.app.local import embedding_engine, models_folder
from antiphon.config import Config, ConfigError, EmbeddingsConfig, key_of
from antiphon.documents.fetching import GuardedFetcher
from antiphon.documents.reader import DocumentReader
from antiphon.egress import Egress, Policy
from antiphon.engine.attachments import Attachments
from antiphon.engine.containers import ContainerService
from antiphon.engine.files import FileService
from antiphon.engine.images import ProjectImages
from antiphon.engine.ingestion import Ingester, IngestionOptions, Places
from antiphon.engine.orphans import IndexOrphans, Orphans
from antiphon.engine.pictures import ProjectPictures
from antiphon.engine.vector_stores import VectorStoreService
from antiphon.errors import APIError
from antiphon.retrieval.base import Embedder
from antiphon.retrieval.indexes import Indexes
from antiphon.settings import Settings
from antiphon.store.base import Store, StoreError

_log = structlog.get_logger(__name__)

#: Seconds between two rounds over all blobs and indexes (R-104).
_COLLECT_EVERY: Final = 3_600.0


class Library:
    """All of it for one server; `aclose` it after everything that asks it."""

    def __init__(self, settings: Settings, config: Config, store: Store) -> None:
        """Raises `ConfigError`."""
        self._store = store
        self._egress = Egress(_file_policy(settings))
        self._folder = folder_of(settings)
        blobs = blobs_of(settings, self._folder)
        index = Indexes(
            self._folder.indexes,
            vector_bytes=settings.vector_memory,
            min_free=settings.min_free_disk,
        )
        embedder = embedder_of(config.embeddings, os.environ, models_folder(settings))
        documents = DocumentReader(most=max(1, settings.ingestions))
        self._places = Places(blobs, documents, index, embedder)
        self._options = IngestionOptions(most=settings.ingestions)
        self._orphans = Orphans(store.files, store.containers, store.images, blobs)
        self._index_orphans = IndexOrphans(index, store.vector_stores)
        self._collected = -math.inf
        self.images = ProjectImages(store.images, blobs, settings.max_project_bytes)
        self.files = FileService(store.files, blobs, file_options(settings))
        self.vector_stores = VectorStoreService(store.vector_stores, index, embedder)
        self.containers = ContainerService(
            store.containers, self.files, container_options(settings)
        )

    async def open(self) -> None:
        """See that the folder is that of the database, which is open. Raises `StoreError`."""
        database = await asyncio.to_thread(self._folder.claim)
        if database is not None:
            self._places.blobs.claim(database)

    def attachments(self) -> Attachments:
        """What fills the files of requests in."""
        places = self._places
        fetcher = GuardedFetcher(self._egress)
        files, blobs = self._store.files, places.blobs
        return Attachments(files, self.images, blobs, places.documents, fetcher)

    def pictures(self) -> ProjectPictures:
        """What has the images that are to be changed."""
        fetcher = GuardedFetcher(self._egress)
        return ProjectPictures(self._store.files, self.images, self._places.blobs, fetcher)

    def ingester(self, owner: str) -> Ingester:
        """What reads files for vector stores, as a known owner."""
        store = self._store
        return Ingester(store.ingestions, store.runs, owner, self._places, self._options)

    async def sweep(self, now: int, limit: int) -> int:
        """Delete what has expired, and once in a while what belongs to nobody; how many rows, at
        most `limit` of a kind. Trouble is in the log: no step keeps another from its work."""
        files = await _tried("files", self._orphans.sweep(limit))
        stores = await _tried("vector_stores", self._store.vector_stores.expire(now, limit))
        containers = await _tried("containers", self.containers.sweep(now, limit))
        images = await _tried("images", self.images.sweep(now, limit))
        is_due = time.monotonic() - self._collected >= _COLLECT_EVERY
        if is_due and await self._is_folder_there():
            self._collected = time.monotonic()
            await _tried("indexes", self._index_orphans.collect())
            await _tried("blobs", self._orphans.collect())
        return max(files, stores, containers, images)

    async def _is_folder_there(self) -> bool:
        """Without it all indexes and blobs would count as lost (R-104)."""
        try:
            await asyncio.to_thread(self._folder.check, claimed=True)
        except StoreError as error:
            _log.warning("folder_away", error=str(error))
            return False
        return True

    async def aclose(self) -> None:
        """End processes and threads, and forget what is temporary."""
        await self.files.aclose()
        await self._places.documents.aclose()
        await self._places.index.aclose()
        if self._places.embedder is not None:
            await self._places.embedder.aclose()
        await self._egress.close()
        await self._places.blobs.aclose()
        await asyncio.to_thread(self._folder.forget)


async def _tried(what: str, step: Awaitable[int | None]) -> int:
    """What a step of the sweep has done."""
    try:
        return await step or 0
    except APIError as error:
        _log.warning("sweep_step_failed", step=what, error=error.message)
        return 0


def _file_policy(settings: Settings) -> Policy:
    """What is fetched is shown to who asked: what MCP servers and webhooks may be at does not count
    for it."""
    try:
        return Policy(
            settings.file_url_hosts, "ANTIPHON_FILE_URL_HOSTS", closed=not settings.egress
        )
    except ValueError as error:
        raise ConfigError(f"ANTIPHON_FILE_URL_HOSTS: {error}") from None


def embedder_of(
    config: EmbeddingsConfig | None, environment: Mapping[str, str], models: Path
) -> Embedder | None:
    """`models`: the folder with those that run here. Raises `ConfigError`."""
    if config is None:
        return None
    from antiphon.retrieval.embeddings import EmbeddingsServer, OpenAIEmbeddings  # noqa: PLC0415

    engine = embedding_engine(config, models) if config.path is not None else None
    key = key_of("embeddings", config.api_key_env, environment)
    return OpenAIEmbeddings(
        EmbeddingsServer(
            base_url=config.base_url or "",
            model=config.model or Path(config.path or "").stem,
            place=engine,
            api_key=key,
            headers=config.headers,
            dimensions=config.dimensions,
            batch=config.batch,
            batch_characters=config.batch_characters,
            at_once=config.at_once,
            query_prefix=config.query_prefix,
            document_prefix=config.document_prefix,
            timeout=config.timeout,
            max_retries=config.max_retries,
        )
    )
