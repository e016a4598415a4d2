"""The port to hosted tools.

Rules
1. A chat model sees a hosted tool as a function that `describe` makes of the request's tool.
2. `run` ends with the fields of the finished item, which is also what the model is told. A failure
   is an `antiphon.errors.APIError`: the item fails with what `failed` makes of it; the response
   goes on.
3. Cancelling the task that runs it stops the work (reliability R-58).
4. `repeatable`: it only reads, or has no effect outside. What was under way when a process died is
   run again if it is, and fails if it is not (reliability, decision a).
"""

from typing import Any, Protocol, TypeAlias

Json: TypeAlias = dict[str, Any]


class CallItem(Protocol):
    """The item of the call that is being run."""

    def progress(self, step: str, fields: Json | None = None) -> None:
        """Say an event of the item's own: ``interpreting`` is
        ``response.code_interpreter_call.interpreting``."""
        ...


class Tool(Protocol):
    """A hosted tool."""

    #: Its `type` in a request's `tools`.
    type: str
    #: The name of its function, and the type of its items.
    name: str
    item_type: str
    repeatable: bool

    def describe(self, tool: Json) -> Json:
        """The function tool (spec §1.2) that stands for `tool` of a request."""
        ...

    def begin(self, tool: Json, arguments: Json) -> Json:
        """The item's own fields at its announcement."""
        ...

    def failed(self, tool: Json, arguments: Json, reason: str) -> Json:
        """The fields of an item that failed."""
        ...

    async def run(self, tool: Json, arguments: Json, item: CallItem) -> Json:
        """Run one call; the fields of the finished item."""
        ...
