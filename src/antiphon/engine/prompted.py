"""Answers by a schema from models whose server cannot be told one (spec §8).

Rules
1. The model reads the schema in its instructions. Its text is held back until it is whole, for what
   does not match cannot be unsaid.
2. What does not match goes back to it once, with the reason; the second answer is the answer,
   whatever it is (`run.py` looks at it).
3. Reasoning and calls are passed on as they come. A turn with calls has no answer yet, and what was
   cut off is none.
4. JSON within other text, or in a fence, is taken out of it.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from antiphon.backends.base import Backend, Deltas, Health, Media, Model, Prompt
from antiphon.errors import APIError, UpstreamError
from antiphon.protocol.deltas import (
    AnnotationDelta,
    Delta,
    Finish,
    FinishReason,
    MessageStart,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage
from antiphon.protocol.schemas import AnswerSchema

_RULE: Final = (
    "Answer with one JSON object and nothing else: no other words, no Markdown fence. The object "
    "must match this JSON Schema:\n"
)
_ANY: Final = "Answer with one JSON object and nothing else: no other words, no Markdown fence."
_AGAIN: Final = "{reason} Answer again, with nothing but the JSON object."
_FENCED: Final = re.compile(r"```\w*[^\S\n]*\n(.*?)```", re.DOTALL)
_OBJECT: Final = AnswerSchema(None)


def telling(
    backend: Backend, model: str, request: CreateResponse, schema: AnswerSchema | None
) -> Backend:
    """The backend, as one that can be told the form of the request's answer."""
    is_free = _form(request).get("type", "text") == "text"
    return backend if is_free or backend.media(model).schemas else Prompted(backend, schema)


@dataclass(slots=True)
class _Answer:
    """What a model says in one turn."""

    texts: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    tier: str | None = None
    finish: FinishReason | None = None
    #: Calls or a refusal: its text is no answer.
    is_other: bool = False

    def take(self, deltas: Sequence[Delta]) -> list[Delta]:
        """Keep text, usage and the end; the rest is passed on."""
        others: list[Delta] = []
        for delta in deltas:
            match delta:
                case TextDelta():
                    self.texts.append(delta.text)
                case UsageReport():
                    self.usage, self.tier = delta.usage, delta.tier
                case Finish():
                    self.finish = delta.reason
                case AnnotationDelta() | MessageStart():
                    pass  # of a text that may become another one
                case _:
                    self.is_other |= isinstance(delta, ToolCallDelta | RefusalDelta)
                    others.append(delta)
        return others

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    @property
    def is_whole(self) -> bool:
        """Whether it is meant to be the answer."""
        return self.finish == "stop" and not self.is_other


class Prompted:
    """See `Backend`: one that has `schema`, None: any object, told in words."""

    def __init__(self, backend: Backend, schema: AnswerSchema | None) -> None:
        self._backend = backend
        self._schema = schema or _OBJECT

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self._backend.name

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`."""
        return self._backend.check(_plain(request), model)

    def media(self, model: str) -> Media:
        """See `Backend.media`."""
        return self._backend.media(model)

    async def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        if _form(prompt.request).get("type", "text") == "text":  # a summary of the context
            async with aclosing(self._backend.generate(prompt)) as turn:
                async for deltas in turn:
                    yield deltas
            return
        asked = replace(prompt, request=_told(prompt.request))
        answer = _Answer()
        async with aclosing(self._backend.generate(asked)) as turn:
            async for deltas in turn:
                yield answer.take(deltas)
        usage = answer.usage
        text, reason = await self._read(answer.text) if answer.is_whole else (answer.text, None)
        if reason is not None:
            second = _Answer()
            try:
                async with aclosing(self._backend.generate(_again(asked, text, reason))) as turn:
                    async for deltas in turn:
                        others = second.take(deltas)
                        yield [delta for delta in others if isinstance(delta, RefusalDelta)]
            except APIError as error:
                error.should_retry = False  # the tokens of the first answer were spent
                raise
            if second.finish == "stop" and not (second.text or second.is_other):
                raise UpstreamError(should_retry=False)
            usage += second.usage
            text, _ = await self._read(second.text)
            answer.finish, answer.tier = second.finish, second.tier or answer.tier
        if text:
            yield [TextDelta(text)]
        yield [UsageReport(usage, answer.tier), *([Finish(answer.finish)] if answer.finish else ())]

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        return await self._backend.count(replace(prompt, request=_told(prompt.request)))

    async def window(self, model: str) -> int | None:
        """See `Backend.window`."""
        return await self._backend.window(model)

    async def models(self) -> list[Model]:
        """See `Backend.models`."""
        return await self._backend.models()

    def health(self) -> Health:
        """See `Backend.health`."""
        return self._backend.health()

    async def aclose(self) -> None:
        """See `Backend.aclose`: the backend is somebody else's."""

    async def _read(self, text: str) -> tuple[str, str | None]:
        """The answer in a text, and what is wrong with it; None: nothing."""
        return await asyncio.to_thread(self._found, text)  # it may be long

    def _found(self, text: str) -> tuple[str, str | None]:
        reason = self._schema.validate(text)
        if reason is None:
            return text, None
        for inner in _objects_in(text):
            if self._schema.validate(inner) is None:
                return inner, None
        return text, reason


def _objects_in(text: str) -> Iterator[str]:
    """Where JSON may be in a text."""
    if fenced := _FENCED.search(text):
        yield fenced[1].strip()
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        yield text[start : end + 1]


def _again(prompt: Prompt, text: str, reason: str) -> Prompt:
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    wish = {"type": "input_text", "text": _AGAIN.format(reason=reason)}
    asked = {"type": "message", "role": "user", "content": [wish]}
    request = prompt.request.model_copy(update={"tool_choice": "none"})
    return replace(prompt, request=request, items=[*prompt.items, said, asked])


def _told(request: CreateResponse) -> CreateResponse:
    """The request with its form in words."""
    form = _form(request)
    schema = form.get("schema")
    rule = _ANY if schema is None else _RULE + orjson.dumps(schema).decode()
    if form.get("description"):
        rule += f"\nIt is: {form['description']}"
    instructions = "\n\n".join(filter(None, (request.instructions, rule)))
    return _plain(request).model_copy(update={"instructions": instructions})


def _plain(request: CreateResponse) -> CreateResponse:
    text = {key: value for key, value in (request.text or {}).items() if key != "format"}
    return request.model_copy(update={"text": text or None})


def _form(request: CreateResponse) -> dict[str, Any]:
    return (request.text or {}).get("format") or {}
