"""What is left of the limits of a request in the middle of its response (spec §1, R-120)."""

from typing import Final

from antiphon.engine.progress import Progress
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.request import LEAST_TOKENS, CreateResponse

#: Items that count against `max_tool_calls`.
COUNTED: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_call",
    }
)


def calls_made(machine: ResponseMachine) -> int:
    """The calls that count against `max_tool_calls`."""
    return sum(item["type"] in COUNTED for item in machine.output)


def calls_left(request: CreateResponse, machine: ResponseMachine) -> float:
    """How many more may be made."""
    most = request.max_tool_calls
    return float("inf") if most is None else most - calls_made(machine)


def is_spent(request: CreateResponse, progress: Progress) -> bool:
    """Whether of `max_output_tokens` less is left than a turn may be asked for: OpenAI refuses
    that."""
    most = request.max_output_tokens
    return most is not None and most - progress.spent < LEAST_TOKENS


def with_the_rest(request: CreateResponse, progress: Progress, made: int) -> CreateResponse:
    """The request of a later turn. Its calls are for a server that makes some itself."""
    left: dict[str, int] = {}
    if request.max_output_tokens is not None:
        left["max_output_tokens"] = request.max_output_tokens - progress.spent
    if request.max_tool_calls is not None:
        left["max_tool_calls"] = max(0, request.max_tool_calls - made)
    return request.model_copy(update=left) if left else request
