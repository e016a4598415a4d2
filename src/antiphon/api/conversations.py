"""``/v1/conversations`` and their items (spec §2.2, App. F and G)."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.create import remarks
from antiphon.api.query import NO_QUERY
from antiphon.api.responses import JSON, ItemsQuery, Revealing, check_id, list_page
from antiphon.api.shown import Shown
from antiphon.engine.conversations import ConversationService, foreign_seals
from antiphon.engine.images import ProjectImages
from antiphon.protocol.conversations import ChangedConversation, NewConversation, NewItems, shown
from antiphon.protocol.items.base import Item
from antiphon.store.base import Conversation


class ConversationEndpoints:
    """The endpoints on conversations; `max_body_bytes` limits a body."""

    def __init__(
        self,
        conversations: ConversationService,
        auth: Authenticator,
        max_body_bytes: int,
        images: ProjectImages,
    ) -> None:
        self._images = images
        self._conversations = conversations
        self._auth = auth
        self._max_body_bytes = max_body_bytes
        # As a dependency the key is checked before FastAPI looks at the query.
        self.router = APIRouter(
            prefix="/v1/conversations",
            tags=["Conversations"],
            dependencies=[Depends(self._authorise)],
        )
        one, items = "/{conversation_id}", "/{conversation_id}/items"
        # An item may have any id that a client chose, also one with a slash.
        item = items + "/{item_id:path}"
        without_query: tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...] = (
            ("POST", "", self.create),
            ("GET", one, self.retrieve),
            ("POST", one, self.update),
            ("DELETE", one, self.delete),
            ("DELETE", item, self.delete_item),
        )
        for method, path, call in without_query:
            self.router.add_api_route(path, call, methods=[method], dependencies=[NO_QUERY])
        self.router.add_api_route(items, self.create_items, methods=["POST"])
        self.router.add_api_route(items, self.list_items, methods=["GET"])
        self.router.add_api_route(item, self.retrieve_item, methods=["GET"])

    async def create(self, request: Request) -> Response:
        """A new conversation, with its first items."""
        body = await read_form(request, NewConversation, limit=self._max_body_bytes, absent=b"{}")
        items = body.items or []
        made = await self._conversations.create(request.state.project, body.metadata or {}, items)
        return _remarked(_json(_shape(made)), items)

    async def retrieve(self, request: Request, conversation_id: str) -> Response:
        """One conversation, without its items."""
        return _json(_shape(await self._conversations.get(*_named(request, conversation_id))))

    async def update(self, request: Request, conversation_id: str) -> Response:
        """Replace its metadata."""
        named = _named(request, conversation_id)
        body = await read_form(request, ChangedConversation, limit=self._max_body_bytes)
        return _json(_shape(await self._conversations.change(*named, body.metadata or {})))

    async def delete(self, request: Request, conversation_id: str) -> Response:
        """Forget a conversation and its items."""
        await self._conversations.delete(*_named(request, conversation_id))
        return _json({"id": conversation_id, "object": "conversation.deleted", "deleted": True})

    async def create_items(
        self, request: Request, conversation_id: str, _: Annotated[Revealing, Query()]
    ) -> Response:
        """Add at most 20 items at the end; they are answered in the same order."""
        named = _named(request, conversation_id)
        body = await read_form(request, NewItems, limit=self._max_body_bytes)
        added = await self._conversations.add(*named, body.items)
        page = list_page([shown(item) for item in added], has_more=False)
        return _remarked(self._answer(request, page), body.items)

    async def list_items(
        self, request: Request, conversation_id: str, query: Annotated[ItemsQuery, Query()]
    ) -> Response:
        """The items, newest first unless asked otherwise."""
        page, has_more = await self._conversations.page(
            *_named(request, conversation_id),
            after=query.after,
            limit=query.limit,
            order=query.order,
        )
        return self._answer(request, list_page([shown(item) for item in page], has_more=has_more))

    async def retrieve_item(
        self,
        request: Request,
        conversation_id: str,
        item_id: str,
        _: Annotated[Revealing, Query()],
    ) -> Response:
        """One item."""
        named = _named(request, conversation_id)
        return self._answer(request, shown(await self._conversations.item(*named, item_id)))

    async def delete_item(self, request: Request, conversation_id: str, item_id: str) -> Response:
        """Take one item out; the answer is the conversation."""
        named = _named(request, conversation_id)
        return _json(_shape(await self._conversations.remove(*named, item_id)))

    def _answer(self, request: Request, body: dict[str, Any]) -> Response:
        """A body with items."""
        return Shown(self._images, request.state.project).answer(orjson.dumps(body))

    async def _authorise(self, request: Request) -> None:
        """Leaves the caller's project in ``request.state.project``."""
        await self._auth.project(request.scope)


def _named(request: Request, conversation_id: str) -> tuple[str, str]:
    """Project and id of the conversation that is meant. Raises `InvalidRequestError`."""
    check_id(conversation_id, "conversation_id", "conv")
    return request.state.project, conversation_id


def _shape(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }


def _remarked(response: Response, items: list[Item]) -> Response:
    """Names the seals of others among `items`, which no model will see."""
    response.raw_headers += remarks(foreign_seals(items), None)
    return response


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
