"""The images that were made here, as the model of one request sees them (decision 0010).

Rules
1. What is stored stays a reference; what the model sees stands beside it (`Loaded`).
2. An image that cannot be had any more, or that is too much, is a note for the model. The newest
   come first.
3. Within a run an image is loaded once. Its bytes count with those of the request's files, before
   they are read; who has once waited in vain for memory does not wait for older images.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from antiphon.engine.images import ProjectImages
from antiphon.engine.room import Room
from antiphon.errors import APIError, Overloaded
from antiphon.protocol.image_references import Loaded
from antiphon.protocol.inline import inlined
from antiphon.protocol.items.base import Item, changed
from antiphon.protocol.items.image_generation import image_part, unloaded

_NOTE: Final = "[The image cannot be shown. {reason}]"


class Album:
    """The images of one project in one context. `spend` counts their bytes, and raises `APIError`
    when there are too many; `room` has what is in memory."""

    def __init__(
        self, images: ProjectImages, project: str, room: Room, spend: Callable[[int], None]
    ) -> None:
        self._images = images
        self._project = project
        self._room = room
        self._spend = spend
        self._loaded: dict[str, Loaded] = {}
        self._busy: Overloaded | None = None

    async def fill(self, items: list[Item]) -> list[Item]:
        """The same items, with the images that they refer to."""
        filled = items
        self._busy = None
        for place in range(len(items) - 1, -1, -1):
            reference = unloaded(items[place])
            if reference is not None:
                filled = list(items) if filled is items else filled
                filled[place] = changed(items[place], result=await self._look_at(reference))
        return filled

    async def _look_at(self, reference: str) -> Loaded:
        if reference not in self._loaded:
            if self._busy is not None:
                return Loaded(reference, _note(self._busy.message))
            try:
                self._loaded[reference] = await self._load(reference)
            except APIError as error:
                self._busy = error if isinstance(error, Overloaded) else None
                return Loaded(reference, _note(error.message))
        return self._loaded[reference]

    async def _load(self, reference: str) -> Loaded:
        row = await self._images.find(self._project, reference)
        self._spend(row.bytes)
        held = self._room.hold(self._project)
        await held.take(2 * row.bytes)
        body = await self._images.load(row)
        url = await asyncio.to_thread(inlined, row.media_type, body)
        return Loaded(reference, image_part(url), held)


def _note(reason: str) -> dict[str, Any]:
    return {"type": "input_text", "text": _NOTE.format(reason=reason)}
