"""What was said before a request: a chain of responses, a conversation, a connection (spec §9)."""

from dataclasses import dataclass, field

from antiphon.engine.recent import Recent
from antiphon.errors import ConversationNotFound, InvalidRequestError, PreviousResponseNotFound
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import CreateResponse
from antiphon.store.base import RUNNING, Store


@dataclass(slots=True)
class Past:
    """`items`, oldest first. `parent`: the stored response that they end with. `version`: that of
    the conversation that they are. `unstored`: only a connection remembers them, `size` bytes."""

    items: list[Item] = field(default_factory=list)
    parent: str | None = None
    version: int | None = None
    unstored: bool = False
    size: int = 0


async def read_past(
    request: CreateResponse, project: str, store: Store, recent: Recent | None
) -> Past:
    """What a request goes on from. Raises `InvalidRequestError` or `NotFoundError`."""
    if request.conversation_id is not None:
        history = await store.conversations.history(project, request.conversation_id)
        if history is None:
            raise ConversationNotFound(request.conversation_id, param="conversation")
        return Past(history.items, version=history.version)
    parent = request.previous_response_id
    if parent is None:
        return Past()
    if recent is not None and (found := recent.find(parent)) is not None:
        return Past(found.items, unstored=True, size=found.size)
    return Past(await read_history(store, project, parent), parent=parent)


async def read_history(store: Store, project: str, response_id: str) -> list[Item]:
    """Input and output of a stored response and all its ancestors, oldest first."""
    turns = await store.chain(project, response_id)
    if turns is None:
        raise PreviousResponseNotFound(response_id)
    if turns[-1].status in RUNNING:
        raise InvalidRequestError(
            f"Previous response with id '{response_id}' is still in progress. "
            "Wait until it has ended.",
            param="previous_response_id",
        )
    return [item for turn in turns for item in (*turn.input, *turn.output)]
