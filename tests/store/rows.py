"""Rows for the tests of the store."""

import secrets

import orjson

from antiphon.protocol.emitter import Frame
from antiphon.protocol.ids import make_id
from antiphon.store.base import (
    Batch,
    Ending,
    IdempotencyKey,
    Job,
    KeyRow,
    Lease,
    ResponseRow,
    Store,
    Twin,
)

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


def frame(number: int, text: str = "") -> Frame:
    type_ = "response.output_text.delta"
    return type_, orjson.dumps({"type": type_, "sequence_number": number, "delta": text})


def batch(first: int, beyond: int, text: str = "") -> Batch:
    """The events from `first` to before `beyond`."""
    return Batch(first, [frame(number, text) for number in range(first, beyond)])


def numbers(frames: list[Frame]) -> list[int]:
    return [orjson.loads(body)["sequence_number"] for _, body in frames]


def key(name: str = "k1", fingerprint: str = "f1", expires_at: int = NOW + DAY) -> IdempotencyKey:
    return IdempotencyKey(name, fingerprint, expires_at)


def ending(status: str = "completed", *, log_until: int | None = None) -> Ending:
    return Ending(status, orjson.dumps({"status": status, "output": []}), None, log_until, None)


async def enqueue(
    store: Store, *, project: str = "alpha", most: int = 100, key: IdempotencyKey | None = None
) -> ResponseRow:
    """A background response with two events."""
    row = response(status="queued", project=project, expires_at=None)
    assert await admit(store, row, most=most, key=key) is None
    return row


async def admit(
    store: Store, row: ResponseRow, *, most: int = 100, key: IdempotencyKey | None = None
) -> Twin | None:
    return await store.runs.admit(row, batch(0, 2), job=b"{}", key=key, most_queued=most)


async def start(store: Store, owner: str = "one") -> tuple[Job, Lease]:
    """A background response that `owner` makes."""
    await enqueue(store)
    (job,) = await store.runs.claim(owner, 1)
    return job, job.lease


async def log_of(store: Store, id: str, after: int = -1) -> list[int]:  # noqa: A002
    """The numbers of all events above `after`."""
    return numbers(await store.runs.read(id, after, 10**9))
