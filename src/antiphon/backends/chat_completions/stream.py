"""The bytes of a chat-completions answer → deltas. Pure: bytes in, deltas out.

Rules
1. What all adapters do is in `antiphon.backends.reader`; a body that is JSON is one object.
2. Success means that a `finish_reason` was seen; ``[DONE]`` alone is not success (R-45).
3. `Finish`, and the latest usage before it, come last: at ``[DONE]`` or at the end of the bytes.
4. What is not quite JSON is read a second time, leniently (`chat_completions.lenient`).
"""

from typing import Any, NoReturn

import orjson

from antiphon.backends.calls import CallAssembler
from antiphon.backends.chat_completions.alike import THOUGHTS, Alike
from antiphon.backends.chat_completions.details import DETAILS, DetailsReader
from antiphon.backends.chat_completions.faults import error_in_stream
from antiphon.backends.chat_completions.lenient import LenientReader
from antiphon.backends.chat_completions.think import Piece, ThinkSplitter
from antiphon.backends.chat_completions.values import (
    citation_of,
    last_tokens,
    logprob_of,
    usage_of,
)
from antiphon.backends.faults import UpstreamFaultError, printable, shown
from antiphon.backends.profiles import GENERIC, Profile
from antiphon.backends.reader import ANOTHER_SHAPE, BodyReader, tier_of
from antiphon.backends.sse import Event
from antiphon.backends.values import string_of
from antiphon.protocol.deltas import (
    AnnotationDelta,
    Delta,
    Finish,
    FinishReason,
    Logprob,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    UsageReport,
)

#: What servers say in `finish_reason`, in lower case. Others count as ``stop``.
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
    "tool_use": "stop",
    "function_call": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "content_filter",
    "sensitive": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
}
#: Reasons that say that the server gave up (vLLM, OpenRouter, Zhipu, DeepSeek), or that what it
#: has is no call (Google).
_FAILED = {
    *("error", "abort", "network_error", "insufficient_system_resource"),
    *("malformed_function_call", "function_call_filter"),
}

#: Pages that are cited at one place (R-47).
_MOST_CITED = 1000

#: What llama.cpp says when the limit of tokens has cut a call or an answer by a schema: its grammar
#: allows no other way to get there.
_CUT = b"does not match the expected"


class ChatStream(BodyReader):
    """One answer. `custom` names the tools whose arguments are free text."""

    __slots__ = (
        "_alike",
        "_calls",
        "_cited",
        "_custom",
        "_details",
        "_finish",
        "_lenient",
        "_logprobs",
        "_splitter",
        "_tier",
        "_usage",
    )

    def __init__(self, profile: Profile = GENERIC, custom: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._custom = custom
        self._alike = Alike()
        self._calls: CallAssembler | None = None
        self._cited: dict[tuple[Any, ...], AnnotationDelta] = {}
        self._details = DetailsReader() if profile.details_back else None
        self._lenient: LenientReader | None = None
        self._splitter = (
            None if profile.think == "never" else ThinkSplitter(opened=profile.think == "opened")
        )
        self._logprobs: list[Logprob] = []  # of text that is held back
        self._finish: FinishReason | None = None
        self._usage: dict[str, Any] | None = None
        self._tier: str | None = None

    @property
    def finished(self) -> bool:
        """A `finish_reason` was seen; only usage and ``[DONE]`` may follow."""
        return self._finish is not None

    def _take(self, events: list[Event], out: list[Delta]) -> None:
        for data, name in events:
            if data == b"[DONE]":
                self._end(out)
                return
            if name == b"error":
                self._fail_in_band(data)
            text = self._alike.text(data)
            if text is None:
                self._chunk(data, out)
            elif self._alike.thinks:
                self._thoughts({THOUGHTS[0]: text}, out)
            else:  # nearly always
                self._said(text, out)

    def _whole(self, body: bytes, out: list[Delta]) -> None:
        self._chunk(body, out)

    def _chunk(self, data: bytes, out: list[Delta]) -> None:
        try:
            chunk = self._read(data)
            usage = chunk.get("usage")
            if usage and isinstance(usage, dict):
                self._usage, self._tier = usage, tier_of(chunk) or self._tier
            choices = chunk.get("choices")
            if not choices:
                self._without_choices(chunk, data)
                return
            if chunk.get("error"):
                self._fail_in_band(data)
            if self._details and not self._details.turn:
                self._details.turn = str(chunk.get("id"))
            for choice in choices:
                self._choice(choice, out)
        except ANOTHER_SHAPE as exc:
            self._not_ours("not a chat completion chunk", exc, data)
        if out:
            self.told = True
            if len(choices) == 1 and not usage and not self._details:
                self._alike.learn(data, choices[0])

    def _read(self, data: bytes) -> Any:
        """The JSON value; once a chunk was not quite JSON, all are read leniently."""
        if self._lenient is None:
            try:
                return orjson.loads(data)
            except orjson.JSONDecodeError:
                self._lenient = LenientReader()
                self._alike.stop()  # it would not see halves of characters
        return self._lenient.loads(data)

    def _choice(self, choice: dict[str, Any], out: list[Delta]) -> None:
        delta = choice.get("delta") or choice.get("message")
        if delta:
            logprobs = choice.get("logprobs")
            if logprobs:
                self._logprobs += map(logprob_of, logprobs.get("content") or ())
            if len(delta) == 1 and "content" in delta and not self._details:  # nearly always
                self._said(delta["content"], out)
            else:
                self._delta(delta, out)
        reason = choice.get("finish_reason")
        if reason:
            # Google says more behind it: "content_filter: RECITATION".
            reason = str(reason).lower().partition(":")[0]
            if reason in _FAILED or choice.get("error"):
                self._fail(f"finish_reason {printable(reason, 64)}")
            self._finish = _FINISH.get(reason, "stop")
            if self._usage is None and isinstance(choice.get("usage"), dict):  # Kimi
                self._usage = choice["usage"]

    def _delta(self, delta: dict[str, Any], out: list[Delta]) -> None:
        content = delta.get("content")
        self._thoughts(delta, out)
        refusal = delta.get("refusal")
        calls = delta.get("tool_calls")
        if not calls and delta.get("function_call"):
            calls = [{"index": "legacy", "function": delta["function_call"]}]
        if self._details and (content or refusal or calls):
            self._details.tell_state(out)
        self._said(content, out)
        if annotations := delta.get("annotations"):
            self._cite(annotations)
        if refusal or calls:
            self._tell_cited(out)
        if refusal:
            out.append(RefusalDelta(string_of(refusal)))
        if calls:
            if self._calls is None:
                self._calls = CallAssembler(self._custom)
            for call in calls:
                self._calls.feed(call, out)

    def _cite(self, annotations: Any) -> None:
        """Keep what is cited until the text is said: OpenRouter says it before, Perplexity again
        with each chunk."""
        if not isinstance(annotations, list):
            return
        for page in filter(None, map(citation_of, annotations)):
            if len(self._cited) < _MOST_CITED:
                self._cited[tuple(page.values())] = AnnotationDelta(page)

    def _tell_cited(self, out: list[Delta]) -> None:
        out += self._cited.values()
        self._cited = {}

    def _thoughts(self, delta: dict[str, Any], out: list[Delta]) -> None:
        details = delta.get(DETAILS)
        # The same thought may be in several fields.
        thought = next((delta[field] for field in THOUGHTS if delta.get(field)), None)
        if self._details and details and self._details.feed(details, out):
            pass
        elif thought:
            out.append(ReasoningDelta(string_of(thought)))
        elif details and not self._details:
            _reasoning_details(details, out)
        else:
            return
        if self._logprobs and not delta.get("content"):
            self._logprobs = []  # ours are of visible text only

    def _said(self, content: str | list[dict[str, Any]] | None, out: list[Delta]) -> None:
        if not content:
            return
        if not isinstance(content, str):
            self._parts(content, out)
        elif self._splitter is None and not self._logprobs:  # nearly always
            out.append(TextDelta(content))
        else:
            self._text(content, out)

    def _text(self, text: str, out: list[Delta]) -> None:
        splitter = self._splitter
        if splitter is None:
            logprobs = None
            if self._logprobs:
                logprobs, self._logprobs = self._logprobs, []
            out.append(TextDelta(text, logprobs))
            return
        self._pieces(splitter.feed(text), out)
        if splitter.finished:
            self._splitter = None

    def _pieces(self, pieces: list[Piece], out: list[Delta]) -> None:
        for reasoning, text in pieces:
            if reasoning:
                out.append(ReasoningDelta(text))
            else:
                out.append(TextDelta(text, last_tokens(self._logprobs, text) or None))
                self._logprobs = []

    def _parts(self, parts: list[dict[str, Any]], out: list[Delta]) -> None:
        """Content as a list of parts (Mistral): text, and thinking with text parts in it."""
        for part in parts:
            if part["type"] == "thinking":
                thinking = part["thinking"]
                inner = thinking if isinstance(thinking, list) else [{"text": thinking}]
                out += [ReasoningDelta(string_of(each["text"])) for each in inner if each["text"]]
            elif part["type"] == "text" and part["text"]:
                self._text(string_of(part["text"]), out)

    def _without_choices(self, chunk: dict[str, Any], data: bytes) -> None:
        """Usage alone, an empty chunk, or an error in one of its shapes."""
        if self.told and data.find(_CUT) >= 0:
            self._finish = "length"
            return
        if chunk.get("error") or chunk.get("object") == "error" or "detail" in chunk:
            self._fail_in_band(data)

    def _end(self, out: list[Delta]) -> None:
        if self._finish is None:
            self._fail("the stream ended without a finish_reason")
        if self._details and self._finish == "stop":  # what was cut off is not signed
            self._details.tell_state(out)
        if self._splitter:
            self._pieces(self._splitter.close(), out)
        self._tell_cited(out)
        if self._calls and not self._calls.close(out):
            self._fail("a tool call without a name")
        if self._usage:
            out.append(UsageReport(usage_of(self._usage), self._tier))
        out.append(Finish(self._finish))
        self.done = self.told = True

    def _spent(self) -> bool:
        return self._decoder is not None and (self.told or self.finished)

    def _fail_in_band(self, data: bytes) -> NoReturn:
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            chunk = data.decode(errors="replace")
        error = (chunk.get("error") or chunk) if isinstance(chunk, dict) else chunk
        raise UpstreamFaultError(error_in_stream(error), f"error in the stream: {shown(data)}")


def _reasoning_details(details: Any, out: list[Delta]) -> None:
    """OpenRouter's list from another server; encrypted entries have no text."""
    for detail in details:
        text = detail.get("text") or detail.get("summary")
        if text:
            out.append(ReasoningDelta(string_of(text)))
