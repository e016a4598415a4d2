"""``/v1/conversations`` and their items (spec §2.2, App. F and G)."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.create import remarks
from antiphon.api.operations import Operations
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
        self._max_body_bytes = max_body_bytes
        self.operations = Operations("Conversations", "/v1/conversations", auth)
        add, one, items = self.operations.add, "/{conversation_id}", "/{conversation_id}/items"
        # An item may have any id that a client chose, also one with a slash.
        item = items + "/{item_id:path}"
        add("POST", "", self.create)
        add("GET", one, self.retrieve)
        add("POST", one, self.update)
        add("DELETE", one, self.delete)
        add("POST", items, self.create_items, Revealing)
        add("GET", items, self.list_items, ItemsQuery)
        add("GET", item, self.retrieve_item, Revealing)
        add("DELETE", item, self.delete_item)

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

    async def create_items(self, request: Request, conversation_id: str, _: Revealing) -> Response:
        """Add at most 20 items at the end; they are answered in the same order."""
        named = _named(request, conversation_id)
        body = await read_form(request, NewItems, limit=self._max_body_bytes)
        added = await self._conversations.add(*named, body.items)
        page = list_page([shown(item) for item in added], has_more=False)
        return _remarked(self._answer(request, page), body.items)

    async def list_items(
        self, request: Request, conversation_id: str, query: ItemsQuery
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
        _: Revealing,
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
