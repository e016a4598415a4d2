"""Cohere's events, so that any-llm makes of them what they mean. Pure.

Rules
1. What the model says before its calls (`tool-plan-delta`) is text; any-llm leaves it out.
2. The end of a call is not the end of the answer; any-llm takes it for that.
3. A `finish_reason` of ``ERROR`` or ``TIMEOUT`` is no success; any-llm says ``stop``.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

#: ``chat_stream`` of Cohere's client.
Stream: TypeAlias = Callable[..., AsyncGenerator[Any, None]]
_FAILED: Final = frozenset({"ERROR", "TIMEOUT"})


class GaveUpError(Exception):
    """The model did not come to its end."""

    status_code = 500


def meant(stream: Stream) -> Stream:
    """The same, with events that any-llm understands."""

    async def events(**asked: Any) -> AsyncGenerator[Any, None]:
        async with aclosing(stream(**asked)) as said:
            async for event in said:
                match event.type:
                    case "tool-plan-delta":
                        content = SimpleNamespace(text=event.delta.message.tool_plan)
                        delta = SimpleNamespace(message=SimpleNamespace(content=content))
                        yield SimpleNamespace(type="content-delta", delta=delta)
                    case "tool-call-end":
                        pass
                    case "message-end" if event.delta.finish_reason in _FAILED:
                        raise GaveUpError(event.delta.finish_reason)
                    case _:
                        yield event

    return events
