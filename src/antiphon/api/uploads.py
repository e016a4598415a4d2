"""``/v1/uploads``: files that come in parts (spec §2.3; docs/files.md)."""

from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.files import file_shape
from antiphon.api.multipart import Form, read_multipart
from antiphon.api.operations import Operations
from antiphon.api.responses import JSON, check_id
from antiphon.engine.uploads import UploadService
from antiphon.protocol.files import CompletedUpload, NewUpload
from antiphon.store.base import FileRow, UploadRow

#: Bytes of a body: 10,000 ids, however they are written.
_MAX_BODY: Final = 1024 * 1024
_PART: Final = Form("data")


class UploadEndpoints:
    """The endpoints on uploads."""

    def __init__(self, uploads: UploadService, auth: Authenticator) -> None:
        self._uploads = uploads
        self.operations = Operations("Uploads", "/v1/uploads", auth)
        add, one = self.operations.add, "/{upload_id}"
        add("POST", "", self.create)
        add("POST", one + "/parts", self.add_part)
        add("POST", one + "/complete", self.complete)
        add("POST", one + "/cancel", self.cancel)

    async def create(self, request: Request) -> Response:
        """A new upload, which takes parts for an hour."""
        body = await read_form(request, NewUpload, limit=_MAX_BODY)
        return self._shown(await self._uploads.begin(request.state.project, body))

    async def add_part(self, request: Request, upload_id: str) -> Response:
        """Some of the bytes."""
        named = _named(request, upload_id)
        async with await self._uploads.part_arriving(*named) as arrival:
            await read_multipart(request, _PART, arrival)
            part = await self._uploads.add_part(*named, arrival)
        return _json(
            {
                "id": part.id,
                "object": "upload.part",
                "created_at": part.created_at,
                "upload_id": part.upload_id,
            }
        )

    async def complete(self, request: Request, upload_id: str) -> Response:
        """Make a file of the parts, in the order that the body says."""
        named = _named(request, upload_id)
        body = await read_form(request, CompletedUpload, limit=_MAX_BODY)
        return self._shown(*await self._uploads.complete(*named, body.part_ids, body.md5))

    async def cancel(self, request: Request, upload_id: str) -> Response:
        """Forget the parts; nothing can be added any more."""
        return self._shown(await self._uploads.cancel(*_named(request, upload_id)))

    def _shown(self, upload: UploadRow, file: FileRow | None = None) -> Response:
        shape: dict[str, Any] = {
            "id": upload.id,
            "object": "upload",
            "bytes": upload.bytes,
            "created_at": upload.created_at,
            "expires_at": upload.expires_at,
            "filename": upload.filename,
            "purpose": upload.purpose,
            "status": self._uploads.status(upload),
            "file": None if file is None else file_shape(file),
        }
        return _json(shape)


def _named(request: Request, upload_id: str) -> tuple[str, str]:
    """Project and id of the upload that is meant. Raises `InvalidRequestError`."""
    check_id(upload_id, "upload_id", "upload")
    return request.state.project, upload_id


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
