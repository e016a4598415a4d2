"""What every image backend is wrapped in: its images come in the format that was wished for.

Rules
1. So many images are made at once, and projects take turns (R-118).
2. What has another format than wished is brought into it here; so is everything packed as wished
   where the server cannot do that itself. One at a time, also when who waited for it has gone: an
   image that is decoded takes much memory (R-118).
3. A partial image that cannot be used is left out: the final one counts.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import structlog

from antiphon.errors import ToolFailed
from antiphon.images.base import Drawing, FinalImage, ImageBackend, ImageWish, PartialImage
from antiphon.images.formats import BadImage, converted
from antiphon.turns import Turns

_log = structlog.get_logger(__name__)
_Image = TypeVar("_Image", PartialImage, FinalImage)

#: Bytes of an image: base64 of more could not be sent back as an item (spec §1, other limits).
_MOST: Final = 48 * 1024 * 1024


class Finishing:
    """See `ImageBackend`."""

    def __init__(self, backend: ImageBackend, at_once: int, *, packs: bool = False) -> None:
        """`packs`: `output_compression` is for us to do. The backend is closed with this."""
        self._backend = backend
        self._packs = packs
        self._turns = Turns(at_once)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="images")

    async def paint(self, wish: ImageWish) -> Drawing:
        """See `ImageBackend.paint`."""
        async with self._turns.turn(wish.project), aclosing(self._backend.paint(wish)) as drawing:
            async for image in drawing:
                if isinstance(image, FinalImage):
                    yield await self._finished(image, wish)
                    continue
                try:
                    unfinished = await self._finished(image, wish)
                except ToolFailed:
                    continue
                yield unfinished

    async def aclose(self) -> None:
        """See `ImageBackend.aclose`."""
        await self._backend.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _finished(self, image: _Image, wish: ImageWish) -> _Image:
        wished, compression = wish.output_format, wish.output_compression
        packed = self._packs and compression is not None and wished in ("jpeg", "webp")
        if image.format != wished or packed:
            try:
                loop = asyncio.get_running_loop()
                convert = partial(converted, image.body, wished, compression)
                body = await loop.run_in_executor(self._thread, convert)
            except BadImage as error:
                _log.warning("image_malformed", reason=str(error))
                raise ToolFailed(f"The image server made no {wished} that can be used.") from None
            image = replace(image, body=body, format=wished)
        if len(image.body) > _MOST:
            raise ToolFailed(f"The image is too large: more than {_MOST} bytes.")
        return image
