"""The variables of a prompt template: ``{{name}}`` in its texts, and what it stands for (spec §1).

Rules
1. What is put in is not looked at again: a value may hold ``{{other}}``.
2. Images and files go into messages of the user only, where they split the text.
3. A template of a few bytes in a request must not keep others waiting (R-118): what is stored has
   few places to look at (`check_places`), and what comes out is little more than the request has
   itself (`MAX_GROWTH`). Images and files are put in as they are, without a copy of their bytes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from antiphon.errors import InvalidRequestError
from antiphon.protocol.fields import MAX_TEXT
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.message import normalise
from antiphon.protocol.validation import echo, listing

Json: TypeAlias = dict[str, Any]

#: Characters of a prompt with its variables, in all, beyond those that the values have themselves:
#: a template of full size, and as much again of values that stand in several places.
MAX_GROWTH: Final = 2 * 1024 * 1024
#: How often ``{{`` stands in a template, whatever follows: each is a place where a value may be.
MAX_PLACES: Final = 1_000
#: Content parts of a template; a message without one counts as one.
MAX_PARTS: Final = 1_000
_PLACES: Final = f"too many variables. Expected at most {MAX_PLACES} times '{{{{'"
_PARTS: Final = f"too many messages. Expected at most {MAX_PARTS} messages and content parts"
_PLACEHOLDER: Final = re.compile(r"\{\{[ \t]*+([A-Za-z0-9_-]++)[ \t]*+\}\}")
#: Parts that have a `text` in which variables stand.
_TEXTS: Final = frozenset({"input_text", "output_text"})
#: Names that an error lists.
_MOST_NAMED: Final = 20


def names_in(instructions: str, messages: Iterable[Item]) -> list[str]:
    """The names of all variables, in order of appearance."""
    texts = (instructions, *_texts(messages))
    return list(dict.fromkeys(name for text in texts for name in _PLACEHOLDER.findall(text)))


def _texts(messages: Iterable[Item]) -> Iterator[str]:
    for message in messages:
        for part in message["content"]:
            if part["type"] in _TEXTS:
                yield part["text"]


def check_places(instructions: str, messages: Sequence[Item], name: str) -> None:
    """Refuse a template, called `name`, that would take long to fill (rule 3). Raises
    `InvalidRequestError`, which names the text or message that is one too many."""
    parts, places = 0, instructions.count("{{")
    if places > MAX_PLACES:
        raise _too_many(f"{name}.instructions", _PLACES)
    for index, message in enumerate(messages):
        content = message["content"]
        parts += max(1, len(content))
        if parts > MAX_PARTS:
            raise _too_many(f"{name}.input[{index}]", _PARTS)
        for at, part in enumerate(content):
            places += part["text"].count("{{") if part["type"] in _TEXTS else 0
            if places > MAX_PLACES:
                raise _too_many(f"{name}.input[{index}].content[{at}].text", _PLACES)


def _too_many(path: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}': {what} in all of a template, but got more instead.",
        param=path,
        code="template_too_large",
    )


def check_names(given: Json, *, known: Sequence[str], used: Iterable[str]) -> None:
    """Every variable in use must have a value, and no unknown one. Raises `InvalidRequestError`."""
    names = set(known)
    for name in given:
        if name not in names:
            raise InvalidRequestError(
                f"Unknown prompt variable: '{echo(name)}'. {_wanted(known)}",
                param=f"prompt.variables.{echo(name)}",
                code="prompt_variable_unknown",
            )
    for name in used:
        if name not in given:
            raise InvalidRequestError(
                f"Missing prompt variable: '{echo(name)}'. {_wanted(known)}",
                param="prompt.variables",
                code="prompt_variable_missing",
            )


def _wanted(known: Sequence[str]) -> str:
    if not known:
        return "The prompt has no variables."
    named = [echo(name) for name in known[:_MOST_NAMED]]
    more = f" ({len(known) - _MOST_NAMED} more)" if len(known) > _MOST_NAMED else ""
    return f"The prompt wants {listing(named, 'and')}{more}."


class Values:
    """What the variables stand for; counts what they put in."""

    def __init__(self, given: Json) -> None:
        self._texts: dict[str, str] = {}
        self._parts: dict[str, Item] = {}
        self._left = MAX_GROWTH
        for name, value in given.items():
            if isinstance(value, str):
                self._texts[name] = value
            elif value["type"] == "input_text":
                self._texts[name] = value["text"]
            else:
                self._parts[name] = value
        self._left += sum(map(len, self._texts.values())) + sum(map(_size, self._parts.values()))

    def fill(self, text: str, place: str) -> str:
        """`text` with texts for its variables; `place` is where it stands, for errors."""
        pieces = _PLACEHOLDER.split(text)
        for index in range(1, len(pieces), 2):
            pieces[index] = self._text(pieces[index], place)
        return self._join(pieces)

    def filled(self, message: Item) -> Item:
        """A message of the template with its variables."""
        role = message["role"]
        content: list[Item] = []
        for part in message["content"]:
            if part["type"] == "input_text" and role == "user":
                content += self._split(part)
            elif part["type"] in _TEXTS:
                text = self.fill(part["text"], f"a message of the {role}")
                content.append({**part, "text": text})
            else:
                content.append(part)
        return {**message, "content": content}

    def _split(self, part: Item) -> list[Item]:
        """The text part `part` with its variables: several parts where one is no text."""
        pieces = _PLACEHOLDER.split(part["text"])
        parts: list[Item] = []
        start = 0
        for index in range(1, len(pieces), 2):
            found = self._parts.get(pieces[index])
            if found is None:
                pieces[index] = self._texts[pieces[index]]
                continue
            parts += self._piece(pieces[start:index])
            parts.append(self._copy(found))
            start = index + 1
        rest = pieces[start:]
        parts += self._piece(rest) if parts else [{"type": "input_text", "text": self._join(rest)}]
        # What else the part has, such as a cache breakpoint, holds for all up to its end.
        parts[-1] = {**{k: v for k, v in part.items() if k != "text"}, **parts[-1]}
        return parts

    def _text(self, name: str, place: str) -> str:
        part = self._parts.get(name)
        if part is None:
            return self._texts[name]
        raise InvalidRequestError(
            f"Invalid 'prompt.variables.{echo(name)}': the prompt has this variable in {place}, "
            f"where only text can stand, but got an {part['type']} instead.",
            param=f"prompt.variables.{echo(name)}",
            code="invalid_value",
        )

    def _piece(self, pieces: Sequence[str]) -> list[Item]:
        text = self._join(pieces)
        return [{"type": "input_text", "text": text}] if text else []

    def _join(self, pieces: Sequence[str]) -> str:
        size = sum(map(len, pieces))
        self._spend(size)
        if size > MAX_TEXT:
            raise InvalidRequestError(
                "Invalid 'prompt.variables': too long. With its variables the prompt has a text of "
                f"more than {MAX_TEXT} characters, which is the limit for each of its texts.",
                param="prompt.variables",
                code="string_above_max_length",
            )
        return "".join(pieces)

    def _copy(self, part: Item) -> Item:
        self._spend(_size(part))
        copy: Item = echoed(part)
        return copy

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise InvalidRequestError(
                "Invalid 'prompt.variables': too long. With its variables in all their places the "
                f"prompt has more than {MAX_GROWTH} characters beyond those of the values, which "
                "is the limit.",
                param="prompt.variables",
                code="string_above_max_length",
            )


def echoed(value: Any) -> Any:
    """The value of a variable as a Response shows it and as it stands in a message: an image has a
    `detail`."""
    if not isinstance(value, dict):
        return value
    copy = {key: one for key, one in value.items() if one is not None}
    normalise({"role": "user", "content": [copy]})
    return copy


def _size(part: Item) -> int:
    return sum(len(value) for value in part.values() if isinstance(value, str))
