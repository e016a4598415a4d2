"""What was said before a request: a chain of responses, a conversation, a connection (spec §9)."""

from dataclasses import dataclass, field

from antiphon.engine.recent import Recent
from antiphon.errors import ConversationNotFound, InvalidRequestError, PreviousResponseNotFound
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import CreateResponse
from antiphon.store.base import RUNNING, Store, Turn


@dataclass(slots=True)
class Past:
    """`items`, oldest first. `parent`: the stored response that they end with. `version`: that of
    the conversation that they are. `home`: that conversation, or the responses of a chain: what was
    made for one of these stays as long as the items do. `unstored`: only a connection remembers
    them, `size` bytes."""

    items: list[Item] = field(default_factory=list)
    parent: str | None = None
    version: int | None = None
    home: frozenset[str] = frozenset()
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
        home = frozenset([request.conversation_id])
        return Past(history.items, version=history.version, home=home)
    parent = request.previous_response_id
    if parent is None:
        return Past()
    if recent is not None and (found := recent.find(parent)) is not None:
        return Past(found.items, unstored=True, size=found.size)
    turns = await _read_turns(store, project, parent)
    return Past(_items_of(turns), parent=parent, home=frozenset(turn.id for turn in turns))


async def read_history(store: Store, project: str, response_id: str) -> list[Item]:
    """Input and output of a stored response and all its ancestors, oldest first."""
    return _items_of(await _read_turns(store, project, response_id))


async def _read_turns(store: Store, project: str, response_id: str) -> list[Turn]:
    turns = await store.chain(project, response_id)
    if turns is None:
        raise PreviousResponseNotFound(response_id)
    if turns[-1].status in RUNNING:
        raise InvalidRequestError(
            f"Previous response with id '{response_id}' is still in progress. "
            "Wait until it has ended.",
            param="previous_response_id",
        )
    return turns


def _items_of(turns: list[Turn]) -> list[Item]:
    return [item for turn in turns for item in (*turn.input, *turn.output)]
