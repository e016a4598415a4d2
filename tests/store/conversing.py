"""Conversations, and runs of them, for the tests of the store."""

import secrets
from dataclasses import replace

import orjson

from antiphon.protocol.items.base import Item
from antiphon.store.base import Conversation, Ending, Lease, ResponseRow, Store, Twin
from tests.store.rows import NOW, batch, message, response


def said(*texts: str) -> list[Item]:
    """Messages that have ids of the client's choice."""
    return [message(f"msg_{text}", text) for text in texts]


def heard(items: list[Item] | None) -> list[str] | None:
    """What the messages say."""
    return None if items is None else [item["content"][0]["text"] for item in items]


async def begin(store: Store, *texts: str, project: str = "alpha") -> Conversation:
    """A conversation that holds messages."""
    made = Conversation(f"conv_{secrets.token_hex(24)}", project, NOW, {"topic": "tests"})
    await store.conversations.add(made, said(*texts))
    return made


async def held(store: Store, conversation: Conversation) -> list[str] | None:
    history = await store.conversations.history(conversation.project, conversation.id)
    return heard(history.items) if history else None


async def version_of(store: Store, conversation: Conversation) -> int:
    history = await store.conversations.history(conversation.project, conversation.id)
    assert history is not None
    return history.version


def turn(conversation: Conversation, *, status: str = "in_progress") -> ResponseRow:
    """A response of this conversation that "one" makes."""
    row = response(status=status, project=conversation.project, expires_at=None)
    return replace(row, owner="one", conversation=conversation.id)


def lease_of(row: ResponseRow) -> Lease:
    return Lease(row.id, row.owner or "", row.attempt)


async def admit(store: Store, row: ResponseRow, version: int | None = None) -> Twin | None:
    return await store.runs.admit(
        row, batch(0, 2), job=None, key=None, most_queued=1, version=version
    )


async def run(store: Store, conversation: Conversation) -> ResponseRow:
    """A response of this conversation that is being made."""
    row = turn(conversation)
    assert await admit(store, row, await version_of(store, conversation)) is None
    return row


def ended(*texts: str, status: str = "completed") -> Ending:
    body = orjson.dumps({"status": status, "output": []})
    return Ending(status, body, None, None, None, appended=said(*texts))


async def finish(store: Store, row: ResponseRow, *texts: str, status: str = "completed") -> bool:
    return await store.runs.finish(lease_of(row), batch(2, 3), ended(*texts, status=status))
