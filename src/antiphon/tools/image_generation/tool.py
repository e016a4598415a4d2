"""The hosted tool ``image_generation`` (spec §1.2).

Rules
1. Without an image server every request is a 400 that says what is missing; with one, what it
   cannot do is a 400 that names the option (`rules.py`).
2. A mask must be the caller's: one that is not is a 404 before the first byte (R-29, R-30).
"""

from antiphon.errors import InvalidRequestError, NotFoundError
from antiphon.tools.base import Json, OpenTool, Scope
from antiphon.tools.image_generation.opened import OpenImageGeneration, Studio
from antiphon.tools.image_generation.rules import mask_of


class ImageGeneration:
    """See `Tool`."""

    def __init__(self, studio: Studio | None) -> None:
        """None: there is no image server. Its backend is closed with the tool."""
        self._studio = studio

    async def check(self, tool: Json, path: str, project: str) -> list[str]:
        """See `Tool`."""
        studio = self._studio
        if studio is None:
            raise InvalidRequestError(
                "Hosted tool 'image_generation' is not supported by this server: no image server "
                "is configured ([image_generation] in antiphon.toml).",
                param="tools",
            )
        studio.rules.check(tool, path)
        mask = mask_of(tool)
        if mask is not None:
            try:
                await studio.pictures.check(project, mask)
            except (NotFoundError, InvalidRequestError) as error:
                error.param = f"{path}.input_image_mask.{next(iter(mask))}"
                raise
        only_edits = tool.get("action") == "edit" or mask is not None
        return ["moderation"] if only_edits and tool.get("moderation") == "low" else []

    def open(self, tool: Json, scope: Scope) -> OpenTool:
        """See `Tool`."""
        if self._studio is None:
            raise InvalidRequestError("There is no image server.", param="tools")
        return OpenImageGeneration(self._studio, tool, scope)

    async def aclose(self) -> None:
        """See `Tool`."""
        if self._studio is not None:
            await self._studio.backend.aclose()
