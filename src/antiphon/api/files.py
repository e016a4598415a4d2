"""``/v1/files`` (spec §2.3; docs/files.md).

Rules
1. A file is stored while it arrives, wherever in the form it stands. What is wrong with the rest of
   the form is said afterwards, and the bytes go again.
2. Whoever may see a file may download it. OpenAI refuses that for files with the purpose
   ``assistants``, since it does not give back what it was given for a search; here the files belong
   to who asks.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.download import Download, span_of
from antiphon.api.multipart import Form, read_multipart
from antiphon.api.operations import Operations
from antiphon.api.query import DIGITS, EveryQuery
from antiphon.api.responses import JSON, list_page
from antiphon.engine.files import FileService
from antiphon.protocol.files import (
    FILE_FIELDS,
    check_early,
    clean_filename,
    lifetime,
    parse_file_form,
)
from antiphon.store.base import FileListing, FileRow

#: Files: a longer page is put together in a thread (R-118).
_LONG_PAGE: Final = 500
_FORM: Final = Form("file", FILE_FIELDS, check_early)


class FilesQuery(EveryQuery):
    """The query of the list."""

    purpose: str | None = None
    limit: Annotated[int, Field(ge=1, le=10_000), DIGITS] = 10_000
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class FileEndpoints:
    """The endpoints on files."""

    def __init__(self, files: FileService, auth: Authenticator) -> None:
        self._files = files
        self.operations = Operations("Files", "/v1/files", auth)
        add, one = self.operations.add, "/{file_id}"
        add("POST", "", self.create)
        add("GET", "", self.list, FilesQuery)
        add("GET", one, self.retrieve)
        add("DELETE", one, self.delete)
        add("GET", one + "/content", self.content)

    async def create(self, request: Request) -> Response:
        """A new file."""
        project: str = request.state.project
        async with self._files.arriving(project) as arrival:
            fields, name = await read_multipart(request, _FORM, arrival)
            form = parse_file_form(fields)
            kept = lifetime(form.purpose, form.expires_after)
            row = await self._files.add(project, arrival, clean_filename(name), form.purpose, kept)
        return _json(file_shape(row))

    async def list(self, request: Request, query: FilesQuery) -> Response:
        """The files of the project, newest first unless asked otherwise."""
        wanted = FileListing(query.purpose, query.after, query.limit, query.order)
        rows, has_more = await self._files.listed(request.state.project, wanted)
        if len(rows) > _LONG_PAGE:
            return Response(await asyncio.to_thread(_page, rows, has_more), media_type=JSON)
        return Response(_page(rows, has_more), media_type=JSON)

    async def retrieve(self, request: Request, file_id: str) -> Response:
        """One file."""
        return _json(file_shape(await self._files.get(request.state.project, file_id)))

    async def delete(self, request: Request, file_id: str) -> Response:
        """Forget a file, here and wherever it is searched."""
        await self._files.delete(request.state.project, file_id)
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: Request, file_id: str) -> Response:
        """The bytes, or one range of them."""
        row = await self._files.get(request.state.project, file_id)
        span = span_of(request.headers.get("range"), row.bytes)
        start, end = span or (0, row.bytes)
        return Download(self._files.content(row, start, end), row.filename, row.bytes, span)


def file_shape(row: FileRow) -> dict[str, Any]:
    """A file as clients see it."""
    shape: dict[str, Any] = {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
    }
    if row.expires_at is not None:
        shape["expires_at"] = row.expires_at
    return shape


def _page(rows: Sequence[FileRow], has_more: bool) -> bytes:
    return orjson.dumps(list_page([file_shape(row) for row in rows], has_more=has_more))


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
