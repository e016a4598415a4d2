"""Rows for the tests of the store."""

import secrets

import orjson

from antiphon.protocol.ids import make_id
from antiphon.store.base import KeyRow, ResponseRow

NOW = 1_800_000_000
DAY = 86_400


class Clock:
    """Unix seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def new_partition() -> str:
    return secrets.token_hex(8)


def item_id(partition: str, prefix: str = "msg") -> str:
    return make_id(prefix, partition, secrets.token_hex(16))


def message(id: str, text: str) -> dict[str, object]:  # noqa: A002
    return {"id": id, "type": "message", "content": [{"type": "output_text", "text": text}]}


def response(
    text: str = "hi",
    *,
    project: str = "alpha",
    status: str = "completed",
    previous: str | None = None,
    expires_at: int | None = NOW + 30 * DAY,
    partition: str | None = None,
) -> ResponseRow:
    """A response whose one input item says `text` and whose one output item says it louder."""
    partition = partition or new_partition()
    return ResponseRow(
        id=item_id(partition, "resp"),
        project=project,
        status=status,
        created_at=NOW,
        expires_at=expires_at,
        previous_response_id=previous,
        body=orjson.dumps(
            {"status": status, "output": [message(item_id(partition), text.upper())], "tools": []}
        ),
        input=orjson.dumps([message(item_id(partition), text)]),
    )


def api_key(name: str = "laptop", *, project: str = "alpha", created_at: int = NOW) -> KeyRow:
    return KeyRow(
        id=f"key_{secrets.token_hex(8)}",
        project=project,
        name=name,
        hash=secrets.token_hex(32),
        hint="abcd",
        created_at=created_at,
    )
