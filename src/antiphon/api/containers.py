"""``/v1/containers``: containers and their files (spec §2.5; docs/containers.md).

Rules
1. A file comes as a form with its bytes, or with the id of one of the Files API: as JSON, or in a
   form, which is what older SDKs send.
2. Whether there is such a container is asked before a body is read.
"""

from typing import Any, Final, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.download import Download, span_of
from antiphon.api.multipart import Form, is_form, read_multipart
from antiphon.api.operations import Operations
from antiphon.api.query import EveryQuery, Limit
from antiphon.api.responses import JSON, check_id, list_page
from antiphon.engine.containers import ContainerService
from antiphon.protocol.bodies import parse_body
from antiphon.protocol.containers import NewContainer, NewContainerFile
from antiphon.store.base import ContainerFile, ContainerRow, Window

#: Bytes of a body: inline skills are refused, however large they may be.
_MAX_BODY: Final = 1024 * 1024
_FORM: Final = Form("file", instead="file_id")


class ContainerFilesQuery(EveryQuery):
    """The query of a list of files."""

    limit: Limit = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    def window(self) -> Window:
        """The page that is asked for."""
        return Window(self.limit, self.order == "desc", self.after)


class ContainersQuery(ContainerFilesQuery):
    """The query of a list of containers."""

    name: str | None = None


class ContainerEndpoints:
    """The endpoints on containers."""

    def __init__(self, containers: ContainerService, auth: Authenticator) -> None:
        self._containers = containers
        self.operations = Operations("Containers", "/v1/containers", auth)
        add, one = self.operations.add, "/{container_id}"
        files, file = one + "/files", one + "/files/{file_id}"
        add("POST", "", self.create)
        add("GET", "", self.list, ContainersQuery)
        add("GET", one, self.retrieve)
        add("DELETE", one, self.delete)
        add("POST", files, self.create_file)
        add("GET", files, self.list_files, ContainerFilesQuery)
        add("GET", file, self.retrieve_file)
        add("DELETE", file, self.delete_file)
        add("GET", file + "/content", self.file_content)

    # -- containers ---------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """A new container, with copies of files."""
        body = await read_form(request, NewContainer, limit=_MAX_BODY)
        return _json(_container(await self._containers.create(request.state.project, body)))

    async def list(self, request: Request, query: ContainersQuery) -> Response:
        """The containers that have not expired, newest first unless asked otherwise."""
        page, more = await self._containers.page(request.state.project, query.window(), query.name)
        return _json(list_page([_container(row) for row in page], has_more=more))

    async def retrieve(self, request: Request, container_id: str) -> Response:
        """One container, which is used thereby."""
        return _json(_container(await self._containers.use(*_named(request, container_id))))

    async def delete(self, request: Request, container_id: str) -> Response:
        """Forget a container and its files."""
        await self._containers.delete(*_named(request, container_id))
        return _json({"id": container_id, "object": "container.deleted", "deleted": True})

    # -- files --------------------------------------------------------------------------------

    async def create_file(self, request: Request, container_id: str) -> Response:
        """Put a file into a container; one of the same name is replaced."""
        named = _named(request, container_id)
        if not is_form(request):
            await self._containers.use(*named)
            body = await read_form(request, NewContainerFile, limit=_MAX_BODY)
            return _json(_file(await self._containers.copy(*named, body.file_id)))
        async with self._containers.arriving(*named) as arrival:
            fields, name = await read_multipart(request, _FORM, arrival)
            if not fields:
                return _json(_file(await self._containers.upload(*named, arrival, name)))
        body = parse_body(orjson.dumps(fields), form=NewContainerFile)
        return _json(_file(await self._containers.copy(*named, body.file_id)))

    async def list_files(
        self, request: Request, container_id: str, query: ContainerFilesQuery
    ) -> Response:
        """The files of a container, newest first unless asked otherwise."""
        page, more = await self._containers.files(*_named(request, container_id), query.window())
        return _json(list_page([_file(file) for file in page], has_more=more))

    async def retrieve_file(self, request: Request, container_id: str, file_id: str) -> Response:
        """One file of a container."""
        return _json(_file(await self._file(request, container_id, file_id)))

    async def delete_file(self, request: Request, container_id: str, file_id: str) -> Response:
        """Take a file out of a container."""
        named = _named(request, container_id)
        check_id(file_id, "file_id", "cfile")
        await self._containers.delete_file(*named, file_id)
        return _json({"id": file_id, "object": "container.file.deleted", "deleted": True})

    async def file_content(self, request: Request, container_id: str, file_id: str) -> Response:
        """The bytes, or one range of them."""
        file = await self._file(request, container_id, file_id)
        span = span_of(request.headers.get("range"), file.bytes)
        start, end = span or (0, file.bytes)
        name = file.path.rpartition("/")[2]
        return Download(self._containers.content(file, start, end), name, file.bytes, span)

    async def _file(self, request: Request, container_id: str, file_id: str) -> ContainerFile:
        named = _named(request, container_id)
        check_id(file_id, "file_id", "cfile")
        return await self._containers.file(*named, file_id)


def _named(request: Request, container_id: str) -> tuple[str, str]:
    """Project and id of the container that is meant. Raises `InvalidRequestError`."""
    check_id(container_id, "container_id", "cntr")
    return request.state.project, container_id


# -- shapes -------------------------------------------------------------------------------------


def _container(row: ContainerRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "container",
        "name": row.name,
        "created_at": row.created_at,
        "status": "running",
        "last_active_at": row.last_active_at,
        "expires_after": {"anchor": "last_active_at", "minutes": row.expires_minutes},
        "memory_limit": row.memory_limit,
        "network_policy": {"type": "disabled"},
    }


def _file(file: ContainerFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "container.file",
        "container_id": file.container_id,
        "created_at": file.created_at,
        "bytes": file.bytes,
        "path": file.path,
        "source": file.source,
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
