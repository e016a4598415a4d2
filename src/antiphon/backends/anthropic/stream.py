"""The bytes of an answer of the Messages API → deltas. Pure: bytes in, deltas out.

Rules
1. What all adapters do is in `antiphon.backends.reader`; a body that is JSON is one whole message.
2. Success means that a `stop_reason` was seen (R-45). `Finish`, and the usage before it, come last:
   at ``message_stop`` or at the end of the bytes.
3. Events, blocks and deltas that are not known are skipped, as the API asks: it gets new ones.
   Blocks of tools that the provider runs are among them.
4. Thinking is told as it comes; what has to go back is told at the end of each of its blocks, all
   of this turn together, so that the last one told is whole.
5. A refusal is ours in words; what was said before it stays.
"""

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

import orjson

from antiphon.backends.anthropic.faults import error_in_stream
from antiphon.backends.anthropic.thoughts import Block, Memory
from antiphon.backends.calls import CallAssembler
from antiphon.backends.faults import UpstreamFaultError, shown
from antiphon.backends.reader import ANOTHER_SHAPE, BodyReader, passable
from antiphon.backends.sse import Event
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    UsageReport,
)
from antiphon.protocol.fields import MAX_INT
from antiphon.protocol.response import Usage

Json: TypeAlias = dict[str, Any]

#: `stop_reason` → how the turn ended. Others count as ``stop``.
_FINISH: Final[dict[str, FinishReason]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_REFUSED: Final = "The model declined to answer this request."
#: What of `usage` is input.
_INPUT: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_THOUGHTS: Final = ("thinking", "redacted_thinking")


class MessagesStream(BodyReader):
    """One answer. `custom` names the tools whose arguments are free text."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_custom",
        "_memory",
        "_said",
        "_started",
        "_stop_reason",
        "_thoughts",
        "_usage",
    )

    def __init__(self, memory: Memory, custom: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._memory = memory
        self._custom = custom
        #: Blocks that have begun, by their index; a call with arguments has them as `told`.
        self._blocks: dict[int, Block] = {}
        self._calls = CallAssembler(custom)
        self._thoughts: list[Block] = []
        self._usage: Json = {}
        self._stop_reason: str | None = None
        #: The provider has begun: tokens were spent. Some text was said.
        self._started = False
        self._said = False

    @property
    def finished(self) -> bool:
        """A `stop_reason` was seen."""
        return self._stop_reason is not None

    def _take(self, events: list[Event], out: list[Delta]) -> None:
        for data, _ in events:
            if not self.done:
                self._event(data, out)

    def _whole(self, body: bytes, out: list[Delta]) -> None:
        self._event(body, out)

    def _event(self, data: bytes, out: list[Delta]) -> None:
        try:
            event = orjson.loads(data)
            read = _EVENTS.get(event["type"])
            if read is not None:
                read(self, event, out)
        except ANOTHER_SHAPE as exc:
            self._not_ours("not an event of a message", exc, data)

    # -- events ------------------------------------------------------------------------------

    def _message_start(self, event: Json, _: list[Delta]) -> None:
        self._started = True
        self._count((event.get("message") or {}).get("usage"))

    def _whole_message(self, message: Json, out: list[Delta]) -> None:
        self._message_start({"message": message}, out)
        for index, block in enumerate(message["content"]):
            place = {"index": index}
            self._block_start({**place, "content_block": block}, out)
            self._block_stop(place, out)
        self._message_delta({"delta": message}, out)
        self._end(out)

    def _block_start(self, event: Json, out: list[Delta]) -> None:
        block = dict(event["content_block"])
        self._blocks[event["index"]] = block
        match block["type"]:
            case "text":
                self._text(block.get("text") or "", out)
            case "thinking":
                block["pieces"] = [block.get("thinking") or ""]
                self._think(block["pieces"][0], out)
            case "tool_use":
                self._calls.feed(
                    {
                        "index": event["index"],
                        "id": block.get("id"),
                        "function": {"name": block["name"], "arguments": block.get("input") or ""},
                    },
                    out,
                )
                block["told"] = bool(block.get("input"))

    def _block_delta(self, event: Json, out: list[Delta]) -> None:
        block, delta = self._blocks[event["index"]], event["delta"]
        match block["type"], delta["type"]:
            case "text", "text_delta":
                self._text(delta["text"], out)
            case "thinking", "thinking_delta":
                self._think(delta["thinking"], out)
                block["pieces"].append(delta["thinking"])
            case "thinking", "signature_delta":
                block["signature"] = (block.get("signature") or "") + delta["signature"]
            case "tool_use", "input_json_delta":
                if delta["partial_json"]:
                    block["told"] = True
                    self._arguments(event["index"], delta["partial_json"], out)

    def _block_stop(self, event: Json, out: list[Delta]) -> None:
        block = self._blocks[event["index"]]
        if block["type"] == "tool_use" and not block["told"] and block["name"] not in self._custom:
            block["told"] = True
            self._arguments(event["index"], "{}", out)
        if block["type"] not in _THOUGHTS:
            return
        if block["type"] == "thinking":
            block["thinking"] = "".join(block.pop("pieces"))
            if self._memory.signed and not block.get("signature"):  # it was cut off
                return
        self._thoughts.append(passable(block))
        out.append(self._memory.state(self._thoughts))

    def _message_delta(self, event: Json, out: list[Delta]) -> None:
        self._count(event.get("usage"))
        reason = event["delta"].get("stop_reason")
        if reason is not None:
            self._stop_reason = str(reason)
            if reason == "refusal" and not self._said:
                out.append(RefusalDelta(_REFUSED))

    def _message_stop(self, _: Json, out: list[Delta]) -> None:
        self._end(out)

    def _end(self, out: list[Delta]) -> None:
        if self._stop_reason is None:
            self._fail("the stream ended without a stop_reason")
        if not self._calls.close(out):
            self._fail("a tool call without a name")
        if self._usage:
            out.append(UsageReport(_usage_of(self._usage)))
        out.append(Finish(_FINISH.get(self._stop_reason, "stop")))
        self.done = True

    def _error(self, event: Json, _: list[Delta]) -> NoReturn:
        error = error_in_stream(event.get("error"))
        if self._started:
            error.should_retry = False
        raise UpstreamFaultError(error, f"error in the stream: {shown(orjson.dumps(event))}")

    # -- what it says ------------------------------------------------------------------------

    def _text(self, text: str, out: list[Delta]) -> None:
        if _string(text):
            self._said = True
            out.append(TextDelta(text))

    def _think(self, text: str, out: list[Delta]) -> None:
        if _string(text):
            out.append(ReasoningDelta(text))

    def _arguments(self, index: int, fragment: str, out: list[Delta]) -> None:
        call = {"index": index, "function": {"arguments": _string(fragment)}}
        self._calls.feed(call, out)

    def _count(self, usage: Any) -> None:
        """Counts are of all so far: the later ones take the place of the earlier ones. A 0 does
        not: SGLang and others say what they counted in one event, and 0 in the other."""
        if isinstance(usage, dict):
            known = self._usage
            known |= {key: value for key, value in usage.items() if value or key not in known}

    def _spent(self) -> bool:
        return self._started


_EVENTS: Final[dict[str, Callable[[MessagesStream, Json, list[Delta]], None]]] = {
    "message_start": MessagesStream._message_start,  # noqa: SLF001
    "content_block_start": MessagesStream._block_start,  # noqa: SLF001
    "content_block_delta": MessagesStream._block_delta,  # noqa: SLF001
    "content_block_stop": MessagesStream._block_stop,  # noqa: SLF001
    "message_delta": MessagesStream._message_delta,  # noqa: SLF001
    "message_stop": MessagesStream._message_stop,  # noqa: SLF001
    "message": MessagesStream._whole_message,  # noqa: SLF001
    "error": MessagesStream._error,  # noqa: SLF001
}


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def _usage_of(usage: Json) -> Usage:
    """The API counts what was cached beside the input; here it is part of it (spec §7)."""
    details = usage.get("output_tokens_details")
    return Usage(
        input_tokens=min(sum(_tokens(usage, key) for key in _INPUT), MAX_INT),
        cached_tokens=_tokens(usage, "cache_read_input_tokens"),
        output_tokens=_tokens(usage, "output_tokens"),
        reasoning_tokens=_tokens(details if isinstance(details, dict) else {}, "thinking_tokens"),
    )


def _tokens(counts: Json, key: str) -> int:
    """A count that is missing or senseless is 0."""
    value = counts.get(key)
    return min(value, MAX_INT) if isinstance(value, int) and value > 0 else 0
