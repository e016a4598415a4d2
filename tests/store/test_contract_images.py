"""Images that were made here: one suite, run on each store (R-29, R-102, R-104)."""

import secrets
from dataclasses import replace

from antiphon.store.base import FileRow, ImageRow, ResponseRow, Store
from antiphon.store.base.images import UNCLAIMED
from antiphon.store.sql import TOMBSTONE
from tests.store.conversing import begin
from tests.store.rows import DAY, NOW, Clock, response


async def made(
    store: Store, by: str = "resp_none", conversation: str | None = None, *, project: str = "alpha"
) -> ImageRow:
    """A new image of 10 bytes."""
    blob = f"iblob_{secrets.token_hex(16)}"
    row = ImageRow(blob, project, by, conversation, NOW, 10, "image/png")
    assert await store.images.add(row)
    return row


async def answered(store: Store) -> ResponseRow:
    row = response()
    assert await store.save(row)
    return row


async def gone(store: Store, now: float = NOW) -> list[str]:
    """What a sweep finds that nobody needs."""
    blobs, _ = await store.images.expire(int(now), 100)
    return blobs


async def test_an_image_is_its_projects(store: Store) -> None:
    ours, theirs = await made(store), await made(store, project="beta")
    blobs = [ours.blob, theirs.blob, "iblob_none"]
    assert await store.images.find("alpha", blobs) == {ours.blob: ours}
    assert await store.images.find("beta", blobs) == {theirs.blob: theirs}
    assert await store.images.known(blobs) == {ours.blob, theirs.blob}


async def test_images_and_files_share_the_room_of_a_project(store: Store) -> None:
    """R-102."""
    row = await made(store)
    await made(store, project="beta")
    assert await store.files.used("alpha") == 10
    more = replace(row, blob="iblob_more")
    assert not await store.images.add(more, 19)
    file = FileRow("file-1", "alpha", NOW, None, 10, "a", "user_data")
    assert not await store.files.add(file, 19)
    assert await store.files.add(file, 20)
    assert not await store.images.add(more, 29)
    assert await store.images.add(more, 30)


async def test_an_image_goes_with_its_response(store: Store) -> None:
    row = await answered(store)
    image = await made(store, row.id)
    assert await gone(store, NOW + UNCLAIMED) == []
    assert await store.delete("alpha", row.id)
    assert await gone(store) == [image.blob]
    assert await store.images.known([image.blob]) == set()
    assert await gone(store, NOW + 10 * DAY) == []


async def test_an_image_goes_when_its_response_has_expired(store: Store, clock: Clock) -> None:
    row = response(expires_at=NOW + 100)
    assert await store.save(row)
    image = await made(store, row.id)
    assert await gone(store, NOW + UNCLAIMED) == []
    clock.now += 2 * DAY
    assert await store.expire(int(clock.now), 10) == 1
    assert await gone(store, clock.now) == [image.blob]


async def test_a_conversation_keeps_an_image(store: Store) -> None:
    """It goes with the last of both."""
    for last in ("response", "conversation"):
        conversation, row = await begin(store), await answered(store)
        image = await made(store, row.id, conversation.id)
        if last == "conversation":
            assert await store.delete("alpha", row.id)
        else:
            assert await store.conversations.delete("alpha", conversation.id)
        assert await gone(store) == []
        assert await gone(store, NOW + 2 * UNCLAIMED) == []
        if last == "conversation":
            assert await store.conversations.delete("alpha", conversation.id)
        else:
            assert await store.delete("alpha", row.id)
        assert await gone(store) == [image.blob]


async def test_an_image_waits_a_day_for_its_response(store: Store, clock: Clock) -> None:
    """R-104: its process died before there was a row."""
    image, row = await made(store), response()
    claimed = await made(store, row.id)
    assert await gone(store, NOW + UNCLAIMED - 1) == []
    assert await store.save(row)
    assert await gone(store, NOW + UNCLAIMED) == [image.blob]
    clock.now += TOMBSTONE
    assert await store.images.known([claimed.blob]) == {claimed.blob}


async def test_an_image_that_comes_after_the_end(store: Store) -> None:
    """The response was deleted while it was made."""
    row = await answered(store)
    assert await store.delete("alpha", row.id)
    image = await made(store, row.id)
    assert await gone(store, NOW + UNCLAIMED) == [image.blob]


async def test_a_sweep_is_bounded(store: Store) -> None:
    images = [await made(store) for _ in range(5)]
    seen: list[str] = []
    for expected in (2, 2, 1, 0):
        blobs, looked_at = await store.images.expire(NOW + UNCLAIMED, 2)
        assert (len(blobs), looked_at) == (expected, expected)
        seen += blobs
    assert sorted(seen) == sorted(image.blob for image in images)
