"""``/v1/responses/{id}``: retrieve, stream, delete, cancel, input items (spec §2.1); lists.

Rules
1. Stored bodies are answered as stored: nothing is built a second time.
2. A stream is read from the stored log, from any event on, as often as anybody likes (spec §4.4).
3. A query is as strict as a body: what is unknown or of the wrong kind is named (spec §6).
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, Literal

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.errors import MAX_ECHO
from antiphon.api.listing import ListingQuery, answer, pairs_of
from antiphon.api.logs import printable
from antiphon.api.operations import Operations
from antiphon.api.query import EveryQuery, Integer, Limit
from antiphon.api.shown import Shown
from antiphon.api.streams import EventStream, Heartbeat
from antiphon.engine.history import read_history
from antiphon.engine.images import ProjectImages
from antiphon.engine.runner import Engine
from antiphon.errors import InvalidRequestError, NotFoundError, PreviousResponseNotFound
from antiphon.protocol.conversations import shown
from antiphon.protocol.emitter import Frame
from antiphon.protocol.fields import MAX_NAME
from antiphon.protocol.ids import ID_PATTERN
from antiphon.protocol.items.base import Item
from antiphon.protocol.parameters import Includable
from antiphon.store.base import Listing, ResponseRow

JSON: Final = "application/json"


class Revealing(EveryQuery):
    """What every question about something stored may have in its query. `include` reveals nothing
    more here: what is stored is shown. SDKs write ``include[]``, people ``include``."""

    include: list[Includable] = Field(default_factory=list)
    include_: list[Includable] = Field(default_factory=list, alias="include[]")


class RetrieveQuery(Revealing):
    """The query of ``GET /v1/responses/{id}``; `_FOR_STREAMS` need `stream`.
    `include_obfuscation=false` takes the padding out; none is added that the POST did not ask for.
    """

    stream: bool = False
    starting_after: Integer | None = None
    include_obfuscation: bool | None = None


#: Parameters that only a stream has.
_FOR_STREAMS: Final = frozenset({"starting_after", "include_obfuscation"})


class ItemsQuery(Revealing):
    """The query of a list of items."""

    limit: Limit = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class StoredResponses:
    """The endpoints on stored responses."""

    def __init__(
        self, engine: Engine, auth: Authenticator, heartbeat: Heartbeat, images: ProjectImages
    ) -> None:
        self._images = images
        self._engine = engine
        self._heartbeat = heartbeat
        self.operations = Operations("Responses", "/v1/responses", auth)
        add, one = self.operations.add, "/{response_id}"
        add("GET", "", self.list, ListingQuery)
        add("GET", one, self.retrieve, RetrieveQuery)
        add("DELETE", one, self.delete)
        add("POST", one + "/cancel", self.cancel)
        add("GET", one + "/input_items", self.input_items, ItemsQuery)

    async def retrieve(self, request: Request, response_id: str, query: RetrieveQuery) -> Response:
        """A stored response as it is now, or its events."""
        if not query.stream:
            for name in sorted(query.model_fields_set & _FOR_STREAMS):
                raise InvalidRequestError(
                    f"The parameter '{name}' is only allowed with 'stream=true'.",
                    param=name,
                    code="invalid_value",
                )
        row = await self._row(request, response_id)
        if query.stream:
            return await self._stream(row, query)
        return self._shown(row.project).answer(row.body)

    async def _stream(self, row: ResponseRow, query: RetrieveQuery) -> Response:
        if not await self._engine.store.runs.read(row.id, -1, 1):
            in_background = orjson.loads(row.body)["background"]
            raise InvalidRequestError(
                "This response cannot be streamed because its events are no longer kept."
                if in_background
                else "This response cannot be streamed because it was not created with "
                "background=true.",
                param="stream",
            )
        after = -1 if query.starting_after is None else max(-1, query.starting_after)
        log = self._engine.follow(row.id, after=after, idle=self._heartbeat.idle)
        if query.include_obfuscation is False:
            log = _without_obfuscation(log)
        return EventStream(log, self._heartbeat, [], self._shown(row.project).streamed)

    async def delete(self, request: Request, response_id: str) -> Response:
        """Forget a response; a running one is stopped (R-59)."""
        check_id(response_id, "response_id", "resp")
        if not await self._engine.delete(request.state.project, response_id):
            raise _not_found(response_id)
        return _json({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: Request, response_id: str) -> Response:
        """Stop the work on a background response; again: no effect (R-58)."""
        check_id(response_id, "response_id", "resp")
        row = await self._engine.cancel(request.state.project, response_id)
        if row is None:
            raise _not_found(response_id)
        return self._shown(row.project).answer(row.body)

    async def input_items(self, request: Request, response_id: str, query: ItemsQuery) -> Response:
        """History and input of a response, newest first unless asked otherwise."""
        row = await self._row(request, response_id)
        items: list[Item] = orjson.loads(row.input)
        if row.previous_response_id is not None:
            # A child stays readable when an ancestor was deleted: it shows what is its own.
            with contextlib.suppress(PreviousResponseNotFound):
                store = self._engine.store
                items = await read_history(store, row.project, row.previous_response_id) + items
        page = paginate([shown(item) for item in items], query.limit, query.order, query.after)
        return self._shown(row.project).answer(orjson.dumps(page))

    async def list(self, request: Request, query: ListingQuery) -> Response:
        """Stored responses of the project, newest first unless asked otherwise."""
        pairs = pairs_of(request.query_params)
        wanted = Listing(pairs, query.after, query.limit, query.order)
        found = await self._engine.store.listed(request.state.project, wanted)
        if found is None:
            raise InvalidRequestError(
                f"Response with id '{printable(query.after or '', MAX_ECHO)}' not found.",
                param="after",
            )
        return self._shown(request.state.project).answer(await answer(found))

    def _shown(self, project: str) -> Shown:
        return Shown(self._images, project)

    async def _row(self, request: Request, response_id: str) -> ResponseRow:
        check_id(response_id, "response_id", "resp")
        row = await self._engine.store.get(request.state.project, response_id)
        if row is None:
            raise _not_found(response_id)
        return row


async def _without_obfuscation(
    log: AsyncGenerator[list[Frame], None],
) -> AsyncGenerator[list[Frame], None]:
    """The same events without their padding (spec §4)."""
    async with contextlib.aclosing(log):
        async for frames in log:
            yield [_bare(frame) for frame in frames]


def _bare(frame: Frame) -> Frame:
    type_, body = frame
    if b'"obfuscation":' not in body:
        return frame
    event = orjson.loads(body)
    event.pop("obfuscation", None)
    return type_, orjson.dumps(event)


def paginate(
    items: Sequence[Item], limit: int, order: Literal["asc", "desc"], after: str | None
) -> dict[str, Any]:
    """One page of items that stand in ascending order (spec §2.1)."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        positions = [index for index, item in enumerate(ordered) if item["id"] == after]
        if not positions:
            raise InvalidRequestError(
                f"Item with id '{printable(after, MAX_ECHO)}' not found.", param="after"
            )
        start = positions[0] + 1
    return list_page(ordered[start : start + limit], has_more=start + limit < len(ordered))


def list_page(page: Sequence[Item], *, has_more: bool) -> dict[str, Any]:
    """The body that shows one page of a list."""
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": has_more,
    }


def check_id(id_: str, name: str, prefix: str) -> None:
    """Raises `InvalidRequestError` when what stands in the path as `name` is no id (spec §2.1)."""
    well_formed = ID_PATTERN.match(id_) and len(id_) <= MAX_NAME
    if not well_formed or not id_.startswith(f"{prefix}_"):
        raise InvalidRequestError(
            f"Invalid '{name}': '{printable(id_, MAX_ECHO)}'. Expected an ID that begins with "
            f"'{prefix}'.",
            param=name,
            code="invalid_value",
        )


def _not_found(response_id: str) -> NotFoundError:
    return NotFoundError(f"Response with id '{response_id}' not found.")


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
