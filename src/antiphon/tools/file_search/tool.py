"""The hosted tool ``file_search`` (spec §1.2, decision 0008).

Rules
1. Every store that a request names must be the caller's: one that is not is a 404 before the first
   byte, whether it is somebody else's or was never there (R-29, R-30); one that has expired is a
   400.
2. Everything else was checked at the door (`protocol/hosted_tools.py`), and has its effect.
"""

from antiphon.errors import InvalidRequestError, NotFoundError
from antiphon.tools.base import Json, OpenTool, Scope
from antiphon.tools.file_search.opened import OpenFileSearch
from antiphon.tools.file_search.searching import Searching


class FileSearch:
    """See `Tool`."""

    def __init__(self, searching: Searching) -> None:
        """`searching` belongs to who made it: it is not closed with the tool."""
        self._searching = searching

    async def check(self, tool: Json, path: str, project: str) -> list[str]:
        """See `Tool`."""
        for place, store_id in enumerate(tool["vector_store_ids"]):
            try:
                await self._searching.check(project, store_id)
            except (NotFoundError, InvalidRequestError) as error:
                error.param = f"{path}.vector_store_ids[{place}]"
                raise
        return []

    def open(self, tool: Json, scope: Scope) -> OpenTool:
        """See `Tool`."""
        return OpenFileSearch(self._searching, tool, scope)

    async def aclose(self) -> None:
        """Nothing is open."""
