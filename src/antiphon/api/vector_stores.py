"""``/v1/vector_stores``: stores, their files, batches, and searches (spec §2.4, App. F and G).

Rules
1. While something is being read, answers say in ``openai-poll-after-ms`` when to ask again.
2. ``OpenAI-Beta: assistants=v2``, which SDKs send, has no effect.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.api.operations import Operations
from antiphon.api.query import EveryQuery, Limit
from antiphon.api.responses import JSON, check_id, list_page
from antiphon.engine.vector_stores import VectorStoreService, unknown_in_store
from antiphon.errors import InvalidRequestError
from antiphon.protocol.file_search import Passage, Wish
from antiphon.protocol.ids import ID_PATTERN
from antiphon.protocol.vector_stores import (
    ChangedStoreFile,
    ChangedVectorStore,
    NewFileBatch,
    NewStoreFile,
    NewVectorStore,
    VectorStoreSearch,
    chunk_sizes,
    chunking_shape,
)
from antiphon.retrieval.words import keywords
from antiphon.store.base import (
    Counts,
    FileBatch,
    FileStatus,
    NewFile,
    StoreFile,
    VectorStoreRow,
    Window,
)

#: Bytes of a body: 2,000 files with attributes.
_MAX_BODY: Final = 32 * 1024 * 1024
#: Milliseconds: few files are read at once, many take their time.
_SOON: Final = 100
_LATER: Final = 1_000
_FEW: Final = 20
#: Results of a search, unless the request says otherwise.
_RESULTS: Final = 10


class StoresQuery(EveryQuery):
    """The query of a list."""

    limit: Limit = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None

    def window(self) -> Window:
        """The page that is asked for."""
        return Window(self.limit, self.order == "desc", self.after, self.before)


class StoreFilesQuery(StoresQuery):
    """The query of a list of files."""

    filter: FileStatus | None = None


class VectorStoreEndpoints:
    """The endpoints on vector stores."""

    def __init__(self, stores: VectorStoreService, auth: Authenticator) -> None:
        self._stores = stores
        self.operations = Operations("Vector stores", "/v1/vector_stores", auth)
        add, one = self.operations.add, "/{vector_store_id}"
        files, batches = one + "/files", one + "/file_batches"
        file, batch = files + "/{file_id}", batches + "/{batch_id}"
        add("POST", "", self.create)
        add("GET", "", self.list, StoresQuery)
        add("GET", one, self.retrieve)
        add("POST", one, self.update)
        add("DELETE", one, self.delete)
        add("POST", one + "/search", self.search)
        add("POST", files, self.create_file)
        add("GET", files, self.list_files, StoreFilesQuery)
        add("GET", file, self.retrieve_file)
        add("POST", file, self.update_file)
        add("DELETE", file, self.delete_file)
        add("GET", file + "/content", self.file_content)
        add("POST", batches, self.create_batch)
        add("GET", batch, self.retrieve_batch)
        add("POST", batch + "/cancel", self.cancel_batch)
        add("GET", batch + "/files", self.list_batch_files, StoreFilesQuery)

    # -- stores -------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """A new store; its first files are read from now on."""
        body = await read_form(request, NewVectorStore, limit=_MAX_BODY, absent=b"{}")
        return self._shown(await self._stores.create(request.state.project, body))

    async def list(self, request: Request, query: StoresQuery) -> Response:
        """The stores of the project, newest first unless asked otherwise."""
        rows, more = await self._stores.page(request.state.project, query.window())
        now = self._stores.now()
        return _json(list_page([_store(row, now) for row in rows], has_more=more))

    async def retrieve(self, request: Request, vector_store_id: str) -> Response:
        """One store."""
        return self._shown(await self._stores.get(*_named(request, vector_store_id)))

    async def update(self, request: Request, vector_store_id: str) -> Response:
        """Change its name, its metadata, or when it expires."""
        named = _named(request, vector_store_id)
        body = await read_form(request, ChangedVectorStore, limit=_MAX_BODY, absent=b"{}")
        return self._shown(await self._stores.change(*named, body))

    async def delete(self, request: Request, vector_store_id: str) -> Response:
        """Forget a store. Its files stay."""
        await self._stores.delete(*_named(request, vector_store_id))
        return _json({"id": vector_store_id, "object": "vector_store.deleted", "deleted": True})

    async def search(self, request: Request, vector_store_id: str) -> Response:
        """The chunks that answer a query best."""
        project, store_id = _named(request, vector_store_id)
        body = await read_form(request, VectorStoreSearch, limit=_MAX_BODY)
        queries = [body.query] if isinstance(body.query, str) else body.query
        if body.rewrite_query:
            queries = [keywords(query) or query for query in queries]
        wish = Wish.of(body.model_dump(), (store_id,), queries, _RESULTS)
        searched = await self._stores.searched(project, wish)
        answer = _json(
            {
                "object": "vector_store.search_results.page",
                "search_query": queries,
                "data": [_result(passage) for passage in searched.passages],
                "has_more": False,
                "next_page": None,
            }
        )
        if searched.degraded:
            answer.headers["x-antiphon-degraded"] = "embeddings"
        return answer

    def _shown(self, row: VectorStoreRow) -> Response:
        return _polled(_store(row, self._stores.now()), row.counts)

    # -- files --------------------------------------------------------------------------------

    async def create_file(self, request: Request, vector_store_id: str) -> Response:
        """Put a file into a store; put in again it is read again."""
        project, store_id = _named(request, vector_store_id)
        body = await read_form(request, NewStoreFile, limit=_MAX_BODY)
        sizes = chunk_sizes(body.chunking_strategy)
        new = NewFile(body.file_id, body.attributes or {}, *sizes)
        return _shown_file(await self._stores.add_file(project, store_id, new))

    async def list_files(
        self, request: Request, vector_store_id: str, query: StoreFilesQuery
    ) -> Response:
        """The files of a store."""
        named = _named(request, vector_store_id)
        page, more = await self._stores.files(*named, query.window(), query.filter)
        return _json(list_page([_file(file) for file in page], has_more=more))

    async def retrieve_file(self, request: Request, vector_store_id: str, file_id: str) -> Response:
        """One file of a store."""
        return _shown_file(await self._stores.file(*_of_store(request, vector_store_id, file_id)))

    async def update_file(self, request: Request, vector_store_id: str, file_id: str) -> Response:
        """Replace its attributes."""
        named = _of_store(request, vector_store_id, file_id)
        body = await read_form(request, ChangedStoreFile, limit=_MAX_BODY)
        return _shown_file(await self._stores.set_attributes(*named, body.attributes or {}))

    async def delete_file(self, request: Request, vector_store_id: str, file_id: str) -> Response:
        """Take a file out of a store. The file itself stays."""
        await self._stores.remove_file(*_of_store(request, vector_store_id, file_id))
        return _json({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})

    async def file_content(self, request: Request, vector_store_id: str, file_id: str) -> Response:
        """Its text, as the chunks that can be found, which overlap."""
        texts = await self._stores.content(*_of_store(request, vector_store_id, file_id))
        return _json(
            {
                "object": "vector_store.file_content.page",
                "data": [{"type": "text", "text": text} for text in texts],
                "has_more": False,
                "next_page": None,
            }
        )

    # -- batches ------------------------------------------------------------------------------

    async def create_batch(self, request: Request, vector_store_id: str) -> Response:
        """Put many files into a store."""
        project, store_id = _named(request, vector_store_id)
        body = await read_form(request, NewFileBatch, limit=_MAX_BODY)
        files, param = _new_files(body)
        return _shown_batch(await self._stores.add_batch(project, store_id, files, param))

    async def retrieve_batch(
        self, request: Request, vector_store_id: str, batch_id: str
    ) -> Response:
        """One batch."""
        return _shown_batch(
            await self._stores.batch(*_of_batch(request, vector_store_id, batch_id))
        )

    async def cancel_batch(self, request: Request, vector_store_id: str, batch_id: str) -> Response:
        """Cancel what of it is not done."""
        named = _of_batch(request, vector_store_id, batch_id)
        return _shown_batch(await self._stores.cancel_batch(*named))

    async def list_batch_files(
        self,
        request: Request,
        vector_store_id: str,
        batch_id: str,
        query: StoreFilesQuery,
    ) -> Response:
        """The files of a batch."""
        project, store_id, batch_id = _of_batch(request, vector_store_id, batch_id)
        page, more = await self._stores.files(
            project, store_id, query.window(), query.filter, batch_id
        )
        return _json(list_page([_file(file) for file in page], has_more=more))


def _named(request: Request, store_id: str) -> tuple[str, str]:
    """Project and id of the store that is meant. Raises `InvalidRequestError`."""
    check_id(store_id, "vector_store_id", "vs")
    return request.state.project, store_id


def _of_store(request: Request, store_id: str, file_id: str) -> tuple[str, str, str]:
    """The same with a file: whatever is no id is unknown."""
    project, store_id = _named(request, store_id)
    if not ID_PATTERN.match(file_id):
        raise unknown_in_store(printable(file_id, MAX_ECHO), store_id)
    return project, store_id, file_id


def _of_batch(request: Request, store_id: str, batch_id: str) -> tuple[str, str, str]:
    check_id(batch_id, "batch_id", "vsfb")
    return *_named(request, store_id), batch_id


def _new_files(body: NewFileBatch) -> tuple[Sequence[NewFile], str]:
    """The files of a batch, each once, and the parameter that names them. `files` say for
    themselves what holds for them: what the batch says is not for them (OpenAI's rule)."""
    if (body.file_ids is None) == (body.files is None):
        raise InvalidRequestError(
            "Expected one of 'file_ids' and 'files'.",
            param="file_ids",
            code="mutually_exclusive_parameters"
            if body.files is not None
            else "missing_required_parameter",
        )
    if body.file_ids is not None:
        sizes = chunk_sizes(body.chunking_strategy)
        ids = dict.fromkeys(body.file_ids)
        return [NewFile(id_, body.attributes or {}, *sizes) for id_ in ids], "file_ids"
    made: dict[str, NewFile] = {}
    for place, file in enumerate(body.files or ()):
        sizes = chunk_sizes(file.get("chunking_strategy"), f"files[{place}].chunking_strategy")
        made[file["file_id"]] = NewFile(file["file_id"], file.get("attributes") or {}, *sizes)
    return list(made.values()), "files"


# -- shapes -------------------------------------------------------------------------------------


def _store(row: VectorStoreRow, now: float) -> dict[str, Any]:
    status = "completed"
    if row.is_expired(now):
        status = "expired"
    elif row.counts.in_progress:
        status = "in_progress"
    expires = row.expires_days
    return {
        "id": row.id,
        "object": "vector_store",
        "created_at": row.created_at,
        "name": row.name,
        "description": row.description,
        "usage_bytes": row.usage_bytes,
        "file_counts": _counts(row.counts),
        "status": status,
        "expires_after": expires and {"anchor": "last_active_at", "days": expires},
        "expires_at": row.expires_at,
        "last_active_at": row.last_active_at,
        "metadata": row.metadata,
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "in_progress": counts.in_progress,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    }


def _file(file: StoreFile) -> dict[str, Any]:
    error = file.error and {"code": file.error[0], "message": file.error[1]}
    return {
        "id": file.file_id,
        "object": "vector_store.file",
        "usage_bytes": file.usage_bytes,
        "created_at": file.created_at,
        "vector_store_id": file.store_id,
        "status": file.status,
        "last_error": error,
        "chunking_strategy": chunking_shape(file.chunk_size, file.chunk_overlap),
        "attributes": file.attributes,
    }


def _shown_file(file: StoreFile) -> Response:
    return _polled(_file(file), Counts(in_progress=int(file.status == "in_progress")))


def _shown_batch(batch: FileBatch) -> Response:
    status = "completed"
    if batch.cancelled:
        status = "cancelled"
    elif batch.counts.in_progress:
        status = "in_progress"
    elif batch.counts.total and batch.counts.failed == batch.counts.total:
        status = "failed"
    body = {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.store_id,
        "status": status,
        "file_counts": _counts(batch.counts),
    }
    return _polled(body, batch.counts)


def _result(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": passage.score,
        "attributes": passage.attributes,
        "content": [{"type": "text", "text": passage.text}],
    }


def _polled(body: dict[str, Any], counts: Counts) -> Response:
    """When to ask again, while there is something to wait for."""
    response = _json(body)
    if counts.in_progress:
        wait = _SOON if counts.in_progress <= _FEW else _LATER
        response.headers["openai-poll-after-ms"] = str(wait)
    return response


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
