"""Arguments that a model wrote, read leniently: what has one meaning only is understood.

Rules
1. Strings may have line breaks in them that are not escaped; the whole may be JSON within JSON;
   numbers may stand in quotes, and for strings.
2. What comes out can be said as JSON again: no halves of surrogate pairs, no numbers that are none.
3. What cannot be understood is a `BadCall`. Its message is for the model: what was wrong, and what
   is expected.
"""

import json
import re
from typing import Any, Final, TypeAlias

import orjson

from antiphon.protocol.fields import MAX_INT

Json: TypeAlias = dict[str, Any]

_DIGITS: Final = re.compile(r"[0-9]{1,15}")


class BadCall(ValueError):
    """A call that cannot be understood; the message is for the model."""


def read_object(arguments: str, wanted: str, *, key: str | None = None) -> Json:
    """The arguments as an object; nothing at all is an empty one. A JSON string is the value of
    `key`, if there is one. `wanted` says what is expected."""
    value = _json(arguments, wanted)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json(value, wanted)
    if isinstance(value, str) and key:
        return {key: value}
    if not isinstance(value, dict):
        raise BadCall(f"The arguments must be a JSON object. {wanted}")
    return value


def _json(text: str, wanted: str) -> Any:
    if not text.strip():
        return {}
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.loads(orjson.dumps(json.loads(text, strict=False)))
    except (ValueError, TypeError, RecursionError):
        raise BadCall(f"The arguments are not valid JSON. {wanted}") from None


def text_of(value: Any, key: str, wanted: str) -> str | None:
    """A string; None: nothing was given, or an empty one."""
    if not isinstance(value, str | None):
        raise BadCall(f"'{key}' must be a string. {wanted}")
    return value or None


def words_of(value: Any) -> list[str] | None:
    """A list of strings that is not empty; None: it is something else."""
    if not isinstance(value, list) or not value:
        return None
    words = [_word(word) for word in value]
    return words if all(isinstance(word, str) for word in words) else None


def texts_of(value: Any, key: str) -> dict[str, str]:
    """An object of strings, without those that are null; empty: nothing was given."""
    texts = {}
    if isinstance(value, dict | None):
        texts = {name: _word(text) for name, text in (value or {}).items() if text is not None}
    if not isinstance(value, dict | None) or not all(isinstance(t, str) for t in texts.values()):
        raise BadCall(f"'{key}' must be an object with strings as values.")
    return texts


def count_of(value: Any, key: str) -> int | None:
    """A positive integer; None: nothing was given."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_INT:
        raise BadCall(f"'{key}' must be a positive integer.")
    return value


def _word(value: Any) -> Any:
    """A number as a string, anything else as it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value
