"""``file_search`` in one run: one function, and what became of each call.

Rules
1. The model chooses queries and nothing else: in which stores is searched, how and for how much
   comes from the request (lessons §1, rule 20).
2. Results stand in the item only if `include` asks for them, else they are null.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from antiphon.errors import ToolFailed
from antiphon.protocol.file_search import TOOL_RESULTS, Passage, Wish
from antiphon.protocol.sources import HOW_TO_CITE
from antiphon.tools.base import Call, CallItem, HostedFunction, Json, Outcome, Scope, Stage
from antiphon.tools.citing import queries_of
from antiphon.tools.file_search.searching import Searching
from antiphon.tools.file_search.told import told_of_search

_INCLUDED: Final = "file_search_call.results"
#: Queries of one call.
_MOST_QUERIES: Final = 10
#: Digits of a score behind the point, as in OpenAI's recordings.
_DIGITS: Final = 4

_FUNCTION: Final = HostedFunction(
    "file_search",
    "Search the files that belong to this conversation: gives the passages that fit best, each "
    "with the name of its file. Use it for whatever such files may say. Ask for one thing a "
    "query; several queries, in different words, find more than a long one. Nothing found means "
    f"that these words were not, not that it does not exist: try others. {HOW_TO_CITE}",
    {
        "type": "object",
        "properties": {
            "queries": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": _MOST_QUERIES,
                "description": "What to search for: questions or words.",
            }
        },
        "required": ["queries"],
        "additionalProperties": False,
    },
)


class OpenFileSearch:
    """See `OpenTool`."""

    item_type = "file_search_call"

    def __init__(self, searching: Searching, tool: Json, scope: Scope) -> None:
        self._searching = searching
        self._tool = tool
        self._scope = scope

    async def prepare(self, stage: Stage) -> None:
        """Nothing is to be found out."""

    @property
    def functions(self) -> Sequence[HostedFunction]:
        """``file_search``."""
        return (_FUNCTION,)

    def begin(self, call: Call) -> Json:  # noqa: ARG002
        """The queries come at the end (see the recording)."""
        return {"queries": [], "results": None}

    def failed(self, call: Call, reason: str) -> Outcome:
        """The queries as far as they can be read."""
        try:
            queries = queries_of(call.read(), _MOST_QUERIES)
        except ToolFailed:
            queries = ()
        return Outcome({"queries": list(queries), "results": None}, "failed", reason)

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """See `OpenTool`. Raises `APIError`."""
        queries = queries_of(call.read(), _MOST_QUERIES)
        if not queries:
            raise ToolFailed("The 'queries' are missing.")
        if item.fresh:
            item.emit("file_search_call.searching")
        wish = Wish.of(self._tool, self._tool["vector_store_ids"], queries, TOOL_RESULTS)
        found = await self._searching.search(self._scope.project, wish)
        sources, most = self._scope.sources, self._scope.most_text
        numbered = [(sources.file(one.file_id, one.filename), one) for one in found]
        results = _within(found, most) if _INCLUDED in self._scope.include else None
        told = told_of_search(queries, numbered, most)
        return Outcome({"queries": list(queries), "results": results}, told=told)

    def close(self) -> None:
        """Nothing is kept for a run."""


def _within(found: Iterable[Passage], most: int) -> list[Json]:
    """The first results, in so many characters of text."""
    kept: list[Json] = []
    for passage in found:
        most -= len(passage.text)
        if most < 0:
            break
        kept.append(_result(passage))
    return kept


def _result(passage: Passage) -> Json:
    return {
        "attributes": dict(passage.attributes),
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": round(passage.score, _DIGITS),
        "text": passage.text,
    }
