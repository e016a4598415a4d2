"""The item of a hosted call while the model still writes the call (spec §4.1, "code").

Rules
1. One argument is shown, as far as it is written: a string of the JSON object of arguments. What it
   says in the end is the sum of its deltas.
2. The item is announced with the first delta of the call and is not done when the call is: who runs
   the tool goes on with it. If nobody will, since the model was cut off, it is done as incomplete.
3. Arguments that are no such object show nothing while they come, and in the end what can be read.
"""

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
_SHORT: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_HEX: Final = re.compile("[0-9A-Fa-f]{4}")
_PLAIN: Final = re.compile(r'[^"\\]+')
_HIGH: Final = range(0xD800, 0xDC00)
_LOW: Final = range(0xDC00, 0xE000)


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
        #: The object has ended, behind the string.
        self.is_over = False

    def feed(self, text: str) -> str:
        """More of the object: what the string has more."""
        self._whole.append(text)
        if self.is_over:
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
        parts: list[str] = []
        at, text = 0, self._text
        while at < len(text) and not self.is_over:
            if text[at] == '"':
                self.is_over = True
            elif text[at] != "\\":
                plain = _PLAIN.match(text, at)
                end = plain.end() if plain else at + 1
                parts.append(text[at:end])
                at = end
            else:
                length = 6 if text[at + 1 : at + 2] == "u" else 2
                if at + length > len(text):
                    break
                parts.append(self._escaped(text[at + 1 : at + length]))
                at += length
        self._text = text[at:]
        return "".join(parts)

    def _escaped(self, escape: str) -> str:
        if len(escape) == 1:
            return _SHORT.get(escape, escape)
        if not _HEX.fullmatch(escape, 1):
            return ""
        number = int(escape[1:], 16)
        if number in _HIGH:
            self._high = chr(number)
            return ""
        if number in _LOW:
            pair, self._high = self._high + chr(number), ""
            return pair.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return chr(number)


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
