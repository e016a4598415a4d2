"""The item of a hosted call while the model still writes the call (spec §4.1, "code").

Rules
1. One argument is shown, as far as it is written: a string of the JSON object of arguments. What it
   says in the end is the sum of its deltas.
2. The item is announced with the first delta of the call and is not done when the call is: who runs
   the tool goes on with it. If nobody will, since the model was cut off, it is done as incomplete.
3. Arguments that are no such object show nothing while they come, and in the end what can be read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from antiphon.protocol.deltas import ToolCallDelta
from antiphon.protocol.effects import Json
from antiphon.protocol.emitter import Emitter
from antiphon.protocol.writers import HostedWriter

#: Characters before the string from which on it is not waited for any more.
_MOST_LEAD: Final = 200
#: Escapes that JSON does not have, but models write; behind so many nothing is shown any more.
_MOST_WRONG: Final = 1_000
#: What can be decoded at once: a loop over each escape would hold the event loop (R-118).
_RUN: Final = re.compile(r'[^"\\]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\]*+)*+')


@dataclass(frozen=True, slots=True)
class Streamed:
    """How a call of a function is shown: the type of its item, its fields at the announcement, and
    the `argument` whose text comes as ``{item_type}_{argument}.delta``."""

    item_type: str
    fields: Mapping[str, Any]
    argument: str


class StringReader:
    """Reads a string of a JSON object while it comes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lead = re.compile(rf'\s*\{{\s*"{re.escape(name)}"\s*:\s*"')
        #: All that came, until the string begins; then what is not read yet.
        self._text = ""
        self._whole: list[str] = []
        self._is_in = False
        self._high = ""
        self._wrong = 0
        #: The object has ended, behind the string.
        self.is_over = False

    def feed(self, text: str) -> str:
        """More of the object: what the string has more."""
        self._whole.append(text)
        if self.is_over or self._wrong == _MOST_WRONG:
            return ""
        if not self._is_in and len(self._text) > _MOST_LEAD:
            return ""
        self._text += text
        if not self._is_in:
            lead = self._lead.match(self._text)
            if lead is None:
                return ""
            self._is_in = True
            self._text = self._text[lead.end() :]
        return self._read()

    def close(self) -> str:
        """The call is over: the string, if nothing of it was read."""
        if self._is_in:
            return ""
        try:
            read = orjson.loads("".join(self._whole))
        except orjson.JSONDecodeError:
            return ""
        value = read.get(self._name) if isinstance(read, dict) else None
        return value if isinstance(value, str) else ""

    def _read(self) -> str:
        parts = [self._high]
        at, text = 0, self._text
        while self._wrong < _MOST_WRONG:
            run = _RUN.match(text, at)
            end = run.end() if run else at
            parts.append(json.loads(f'"{text[at:end]}"', strict=False))
            at = end
            self.is_over = text[at : at + 1] == '"'
            length = 6 if text[at + 1 : at + 2] == "u" else 2
            if self.is_over or at + length > len(text):
                break
            parts.append(text[at + 1] if length == 2 else "")
            at += length
            self._wrong += 1
        self._text = text[at:]
        return self._without_halves("".join(parts))

    def _without_halves(self, text: str) -> str:
        """Half a character at the end waits for the other one; other halves are left out."""
        self._high = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        if text.isascii():
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


class StreamedWriter:
    """See `ItemWriter`; closed as ``completed`` it is the call that is whole, not the item."""

    def __init__(self, emitter: Emitter, streamed: Streamed) -> None:
        self._emitter = emitter
        self._argument = streamed.argument
        self._event = f"{streamed.item_type}_{streamed.argument}"
        self._item = HostedWriter.announced(emitter, streamed.item_type, dict(streamed.fields))
        self._reader = StringReader(streamed.argument)
        self._is_said = False

    @property
    def output_index(self) -> int:
        """The place of the item."""
        return self._item.output_index

    def write(self, delta: ToolCallDelta) -> None:
        """See `ItemWriter`."""
        self._say(self._reader.feed(delta.arguments))

    def is_whole(self) -> bool:
        """See `ItemWriter`."""
        return self._reader.is_over

    def close(self, status: str) -> None:  # noqa: ARG002 - see `drop`
        """See `ItemWriter`."""
        if not self._is_said:
            self._is_said = True
            self._say(self._reader.close())
            whole = self._emitter.fold.read((self.output_index, self._argument))
            self._item.emit(f"{self._event}.done", {self._argument: whole})

    def drop(self) -> None:
        """Nobody runs it: the model was cut off."""
        item: Json = {**self._emitter.fold.item(self.output_index), "status": "incomplete"}
        place = {"output_index": self.output_index, "item": item}
        self._emitter.emit("response.output_item.done", place)

    def settled(self, arguments: str) -> str:
        """The arguments with the string that was said: of two of one name JSON takes the last."""
        try:
            read = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return arguments
        said = self._emitter.fold.read((self.output_index, self._argument))
        if not isinstance(read, dict) or read.get(self._argument) == said or not said:
            return arguments
        return orjson.dumps({**read, self._argument: said}).decode()

    def _say(self, text: str) -> None:
        if text:
            self._item.emit(f"{self._event}.delta", {"delta": text})
