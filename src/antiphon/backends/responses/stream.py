"""The bytes of another server's answer → deltas. Pure: bytes in, deltas out.

Rules
1. What all adapters do is in `antiphon.backends.reader`; a body that is JSON is one object.
2. Success means that the server itself has said how the response ended: ``response.completed`` or
   ``response.incomplete``; the end of the bytes or ``[DONE]`` alone is not success (R-45).
3. What only the whole items or the whole response have is told too, never twice (`spoken.py`). Of
   the response counts what no event before it had: a kind of text, or calls.
4. Calls that the server runs itself are told step by step (`hosted.py`), if it may run them. Other
   events and items that are not for us are skipped.
"""

from typing import Any, Final, NoReturn, TypeAlias

import orjson

from antiphon.backends.faults import UpstreamFaultError, shown
from antiphon.backends.origins import Origin
from antiphon.backends.reader import ANOTHER_SHAPE, BodyReader, tier_of
from antiphon.backends.responses.faults import error_in_stream
from antiphon.backends.responses.hosted import ITEM_OF, HostedCalls
from antiphon.backends.responses.spoken import CALLS, Field, Speech
from antiphon.backends.responses.values import usage_of
from antiphon.backends.sse import Event
from antiphon.protocol.deltas import Delta, Finish, FinishReason, UsageReport

Json: TypeAlias = dict[str, Any]

#: Event of a piece of text → what it is a piece of, and the key of its part.
_DELTAS: Final[dict[str, tuple[Field, str]]] = {
    "response.refusal.delta": ("refusal", "content_index"),
    "response.reasoning_text.delta": ("reasoning_text", "content_index"),
    "response.reasoning_summary_text.delta": ("summary_text", "summary_index"),
    "response.function_call_arguments.delta": ("arguments", ""),
    "response.custom_tool_call_input.delta": ("input", ""),
    # Of Open Responses and of llama.cpp (spec §4.3).
    "response.reasoning.delta": ("reasoning_text", "content_index"),
}
#: Event of a whole text → what it is, the key of its part, and the key that holds it.
_WHOLES: Final[dict[str, tuple[Field, str, str]]] = {
    "response.output_text.done": ("output_text", "content_index", "text"),
    "response.refusal.done": ("refusal", "content_index", "refusal"),
    "response.reasoning_text.done": ("reasoning_text", "content_index", "text"),
    "response.reasoning_summary_text.done": ("summary_text", "summary_index", "text"),
    "response.function_call_arguments.done": ("arguments", "", "arguments"),
    "response.custom_tool_call_input.done": ("input", "", "input"),
}
#: Last event → the status that it means.
_TERMINAL: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
#: Why a response is incomplete, in lower case. What is unknown counts as ``length``.
_REASONS: Final[dict[str, FinishReason]] = {"content_filter": "content_filter"}
#: What is told of items of the last event only if nothing of it was told before.
_FIELDS_OF: Final[dict[str, frozenset[str]]] = {
    **{type_: frozenset({type_}) for type_ in ITEM_OF.values()},
    "message": frozenset({"output_text", "refusal"}),
    "function_call": frozenset({"arguments", "input"}),
    "custom_tool_call": frozenset({"arguments", "input"}),
}

#: A whole response has it, with what the client has asked for.
_INSTRUCTIONS: Final = b'"instructions"'


class ResponsesStream(BodyReader):
    """One answer. `custom` names the tools that went as functions and whose calls are free text;
    `hosted`: those that the server may run itself."""

    __slots__ = ("_hosted", "_speech")

    def __init__(
        self,
        origin: Origin,
        custom: frozenset[str] = frozenset(),
        hosted: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self._speech = Speech(custom, origin)
        self._hosted = HostedCalls(frozenset(ITEM_OF[tool] for tool in hosted))

    @property
    def finished(self) -> bool:
        """Nothing follows the last event."""
        return self.done

    def _take(self, events: list[Event], out: list[Delta]) -> None:
        for data, name in events:
            if data == b"[DONE]":
                self._end(out)
            try:
                self._event(data, name, out)
            except ANOTHER_SHAPE as exc:
                self._fail(f"not an event of a response ({type(exc).__name__}): {_seen(data)}")
            if out:
                self.told = True
            if self.done:
                return

    def _end(self, _: list[Delta]) -> NoReturn:
        self._fail("the stream ended without a terminal event")

    def _event(self, data: bytes, name: bytes, out: list[Delta]) -> None:
        event = orjson.loads(data)
        type_ = event.get("type") or name.decode()
        if type_ == "response.output_text.delta":
            self._speech.add_text(self._speech.key_of_more(event), event, out)
        elif type_ in _DELTAS:
            field, part = _DELTAS[type_]
            key = self._speech.key_of_more(event)
            self._speech.add(key, field, event.get(part, 0), event["delta"], out)
        elif type_ in _WHOLES:
            field, part, text = _WHOLES[type_]
            key = self._speech.key_of(event)
            self._speech.complete(key, field, event.get(part, 0), event[text], out)
        elif type_ == "response.output_item.added":
            key = self._speech.key_of_new(event)
            if event["item"].get("type") in CALLS:
                self._speech.begin_call(key, event["item"], out)
            elif event["item"].get("type") == "message":
                self._speech.begin_message(key, event["item"].get("phase"), out)
            elif self._hosted.is_one(event["item"]):
                self._speech.pause()
                self._hosted.begin(key, event["item"], out)
        elif type_ == "response.output_item.done":
            self._end_item(self._speech.key_of_whole(event), event["item"], out)
        elif type_ == "response.output_text.annotation.added":
            self._speech.annotate(self._speech.key_of(event), event, out)
        elif type_ in _TERMINAL:
            response = event["response"]
            # vLLM completes what was cut off, and says so only in the response.
            status = response.get("status")
            known = status in _TERMINAL.values()
            self._close(status if known else _TERMINAL[type_], response, out)
        elif type_ == "error" or (not type_ and event.get("error")):
            self._fail_in_band(event.get("error") or event)
        else:
            self._hosted.step(self._speech.key_of(event), type_, event, out)

    def _end_item(self, key: Any, item: Json, out: list[Delta]) -> None:
        if self._hosted.is_one(item):
            self._speech.pause()
            self._hosted.end(key, item, out)
        else:
            self._speech.end_item(key, item, out)

    def _whole(self, body: bytes, out: list[Delta]) -> None:
        """A response that came as one JSON object."""
        try:
            response = orjson.loads(body)
            if response.get("error"):
                self._fail_in_band(response["error"])
            if response.get("status") not in _TERMINAL.values():
                self._fail(f"a response without an end: {_seen(body)}")
            self._close(response["status"], response, out)
        except ANOTHER_SHAPE as exc:
            self._fail(f"not a response ({type(exc).__name__}): {_seen(body)}")

    def _close(self, status: str, response: Json, out: list[Delta]) -> None:
        if status in ("failed", "cancelled"):
            self._fail_in_band(response.get("error") or {})
        self._end_items(response.get("output") or [], out)
        if not self._speech.close(out):
            self._fail("a tool call without a name")
        if response.get("usage"):
            out.append(UsageReport(usage_of(response["usage"]), tier_of(response)))
        reason: FinishReason = "stop"
        if status == "incomplete":
            details = response.get("incomplete_details") or {}
            reason = _REASONS.get(str(details.get("reason")), "length")
        out.append(Finish(reason))
        self.done = self.told = True

    def _end_items(self, items: list[Json], out: list[Delta]) -> None:
        """What the items of the last event have that no event before had. Reasoning that comes
        after what it was for is none."""
        told: frozenset[str] = frozenset(self._speech.kinds)
        if self._hosted.were_told:
            told |= frozenset(ITEM_OF.values())
        for index, item in enumerate(items):
            fields = _FIELDS_OF.get(item.get("type", ""))
            if not told if fields is None else not (fields & told):
                self._end_item(("end", index), item, out)

    def _fail_in_band(self, error: Any) -> NoReturn:
        detail = f"error in the stream: {shown(orjson.dumps(error))}"
        raise UpstreamFaultError(error_in_stream(error), detail)


def _seen(data: bytes) -> str:
    """What was read, for the operator's log, if no words of the client are in it (R-130)."""
    return "a whole response" if _INSTRUCTIONS in data else shown(data)
