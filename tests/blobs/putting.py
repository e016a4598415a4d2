"""How the tests put and get."""

from collections.abc import AsyncIterator

from antiphon.blobs.base import Blobs


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def put(blobs: Blobs, id_: str, *given: bytes) -> int:
    return await blobs.put(id_, pieces(*given))


async def content(blobs: Blobs, id_: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.read(id_, start, end)])


async def listed(blobs: Blobs, older_than: float) -> set[str]:
    return {id_ async for id_ in blobs.ids(older_than)}
