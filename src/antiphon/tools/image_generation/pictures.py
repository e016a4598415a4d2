"""What `image_generation` needs of whoever has the images of a project."""

from typing import Final, Protocol

from antiphon.images.base import Picture
from antiphon.tools.base import Json, Scope

#: Bytes of all images of an edit (spec §1, other limits).
MOST_BYTES: Final = 50 * 1024 * 1024


class Pictures(Protocol):
    """Images with a name or an address: a `source` has a ``file_id``, an ``image_url``, which may
    be a data URL, or the ``result`` of an item, a reference. What another project has is unknown
    (R-30)."""

    async def check(self, project: str, source: Json) -> None:
        """Raises `NotFoundError` or `InvalidRequestError` for what cannot be loaded, as far as that
        can be said at once."""
        ...

    async def load(self, project: str, source: Json) -> Picture:
        """One that can be sent to an image server: PNG, WebP or JPEG, not too large (R-99). Raises
        `APIError`."""
        ...

    async def keep(self, scope: Scope, body: bytes, media_type: str) -> str:
        """Keep an image of a stored response (`Scope.response_id`): the reference that stands for
        it in its item. Raises `APIError`."""
        ...
