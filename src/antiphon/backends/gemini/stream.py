"""The bytes of a ``:streamGenerateContent`` answer → deltas. Pure: bytes in, deltas out.

Rules
1. What all adapters do is in `antiphon.backends.reader`; a body that is JSON is one chunk or a list
   of them (a server that ignores `alt=sse`).
2. Success means that a `finishReason` of those that we know as an end was seen (R-45). Gemini has
   no last event: the turn ends with the bytes. The last reason, and the last usage, count. Some
   models and servers say ``STOP`` with every chunk: beside text it is a sign that nothing follows
   only from those that have said text without it.
3. Thoughts (`thought`) are reasoning, also where they are called summaries. Calls come whole.
4. A prompt that was blocked is the client's fault, and nothing of it was answered.
"""

from typing import Any, Final

import orjson

from antiphon.backends.calls import CallAssembler
from antiphon.backends.faults import UpstreamFaultError, filtered, printable, shown
from antiphon.backends.gemini.faults import error_in_stream
from antiphon.backends.gemini.signatures import SIGNATURE, SignatureReader
from antiphon.backends.gemini.values import logprobs_of, usage_of
from antiphon.backends.origins import Origin
from antiphon.backends.reader import ANOTHER_SHAPE, BodyReader
from antiphon.backends.sse import Event
from antiphon.backends.values import string_of
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    UsageReport,
)

Json = dict[str, Any]

#: What Gemini says in `finishReason`. With any other the turn has failed: a call that is none, a
#: signature that is missing, or something that we do not know.
_FINISH: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
#: Values that say nothing.
_UNSPECIFIED: Final = ("FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED")

#: Events that other servers add.
_NOTHING: Final = (b"", b"[DONE]")


class GeminiStream(BodyReader):
    """One answer. `custom` names the tools whose arguments are free text; `all_turns`: later turns
    see the reasoning of this one."""

    __slots__ = (
        "_all_turns",
        "_call_count",
        "_calls",
        "_ended",
        "_finish",
        "_goes_on",
        "_signatures",
        "_usage",
    )
    _starts = (b"{", b"[")

    def __init__(
        self,
        origin: Origin,
        custom: frozenset[str] = frozenset(),
        *,
        all_turns: bool = False,
    ) -> None:
        super().__init__()
        self._all_turns = all_turns
        self._calls = CallAssembler(custom)
        self._call_count = 0
        self._signatures = SignatureReader(origin)
        self._finish: str | None = None
        self._goes_on = False  # some chunk has said something, and no reason
        self._ended = False
        self._usage: Json | None = None

    @property
    def finished(self) -> bool:
        """The model has come to its end; only usage may follow."""
        return self.done or self._ended

    def _whole(self, body: bytes, out: list[Delta]) -> None:
        if body[:1] == b"{":
            self._chunk(body, out)
            return
        try:
            chunks = [orjson.dumps(chunk) for chunk in orjson.loads(body)]
        except ANOTHER_SHAPE as exc:
            self._not_ours("no list of chunks", exc, body)
        for chunk in chunks:
            self._chunk(chunk, out)

    def _take(self, events: list[Event], out: list[Delta]) -> None:
        for data, _ in events:
            if data not in _NOTHING:
                self._chunk(data, out)

    def _chunk(self, data: bytes, out: list[Delta]) -> None:
        try:
            chunk = orjson.loads(data)
            if chunk.get("error"):
                error, detail = chunk["error"], f"error in the stream: {shown(data)}"
                raise UpstreamFaultError(error_in_stream(error), detail)
            self._feedback(chunk.get("promptFeedback") or {}, data)
            self._signatures.turn = self._signatures.turn or str(chunk.get("responseId") or "")
            if chunk.get("usageMetadata"):
                self._usage = chunk["usageMetadata"]
            for candidate in (chunk.get("candidates") or ())[:1]:
                self._candidate(candidate, out)
        except ANOTHER_SHAPE as exc:
            self._not_ours("no answer of Gemini's", exc, data)
        if out:
            self.told = True

    def _feedback(self, feedback: Json, data: bytes) -> None:
        reason = feedback.get("blockReason")
        if reason and reason not in _UNSPECIFIED and not self.told:
            raise UpstreamFaultError(filtered(), f"the prompt was blocked: {shown(data)}")

    def _candidate(self, candidate: Json, out: list[Delta]) -> None:
        parts = (candidate.get("content") or {}).get("parts") or ()
        first = len(out)
        for part in parts:
            self._part(part, out)
        said = [delta for delta in out[first:] if isinstance(delta, TextDelta)]
        if said and len(said) == len(parts):
            said[-1].logprobs = logprobs_of(candidate.get("logprobsResult")) or None
        has_said = len(out) > first
        reason = candidate.get("finishReason")
        if reason and reason not in _UNSPECIFIED:
            self._finish = string_of(reason)
            self._ended = self._goes_on or not has_said or reason != "STOP"
        elif has_said:
            self._goes_on, self._ended = True, False

    def _part(self, part: Json, out: list[Delta]) -> None:
        """Parts of kinds that nobody asked for, such as code that Google runs, are skipped."""
        signature, text = part.get(SIGNATURE), part.get("text")
        if part.get("functionCall"):
            if signature:
                self._signatures.take("call", string_of(signature), self._call_count)
            self._signatures.tell(out)
            self._call(part["functionCall"], out)
        elif part.get("thought"):
            if text:
                out.append(ReasoningDelta(string_of(text)))
            if signature:
                self._signatures.take("thought", string_of(signature))
                self._signatures.tell(out)
        else:
            if text:
                out.append(TextDelta(string_of(text)))
            if signature:
                self._signatures.take("text", string_of(signature))

    def _call(self, call: Json, out: list[Delta]) -> None:
        function = {"name": string_of(call["name"]), "arguments": call.get("args") or {}}
        fragment = {"index": self._call_count, "id": call.get("id"), "function": function}
        self._call_count += 1
        self._calls.feed(fragment, out)

    def _end(self, out: list[Delta]) -> None:
        if self._finish is None:
            self._fail("the stream ended without a finishReason")
        reason = _FINISH.get(self._finish)
        if reason is None:
            self._fail(f"finishReason {printable(self._finish, 64)}")
        if not self._calls.close(out):
            self._fail("a function call without a name")
        if self._all_turns and reason == "stop":
            self._signatures.tell(out)
        if self._usage is not None:
            out.append(UsageReport(usage_of(self._usage)))
        out.append(Finish(reason))
        self.done = self.told = True

    def _spent(self) -> bool:
        return self.told or self._finish is not None
