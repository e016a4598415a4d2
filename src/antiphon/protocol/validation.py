"""From pydantic's errors to ONE error in OpenAI's words (spec §6).

Rules
1. Unknown top-level parameters come first, then the first error in the order of the fields:
   that is OpenAI's own order.
2. `param` is the path in the client's JSON; the tags of union branches are taken out.
3. A value is echoed with at most 100 characters and without control characters (R-24).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from antiphon.errors import InvalidRequestError, UnknownParameter
from antiphon.protocol import fields

#: What a value is, with its article.
_A_KIND: Final[Mapping[str, str]] = {
    "<string>": "a string",
    "<boolean>": "a boolean",
    "<integer>": "an integer",
    "<number>": "a decimal number",
    "<array>": "an array",
    "<object>": "an object",
    "<null>": "null",
}
#: What a field of a union of kinds wants, where it is not put together from the kinds.
_EXPECTED: Final[Mapping[str, str]] = {
    "tools": "an array of tools",
    "metadata": "a metadata object",
    "context_management": "an array of objects",
    "query": "one of a string or an array of strings",
    "tool_choice": "one of an object or 'none', 'auto', or 'required'",
}
_KIND_NAMES: Final[Mapping[str, str]] = {
    "<array>": "an array of objects",
    "<object>": "an object",
    "<number>": "decimal",
}
_MAX_ECHO: Final = 100
_MAX_PATH: Final = 400
_MAX_ERRORS: Final = 1_000


def _expected(path: str, kinds: str) -> str:
    """A field of a prompt template wants what the request's wants."""
    return _EXPECTED.get(path.removeprefix("template.").removeprefix("draft."), kinds)


# -- texts ---------------------------------------------------------------------------------------


def invalid_type(path: str | None, expected: str, value: object) -> InvalidRequestError:
    """``Invalid type for 'P': expected a string, but got an integer instead.``"""
    where = f" for '{path}'" if path else ""
    return InvalidRequestError(
        f"Invalid type{where}: expected {expected}, but got {a_kind(value)} instead.",
        param=path,
        code="invalid_type",
    )


def missing(path: str) -> InvalidRequestError:
    """``Missing required parameter: 'P'.``"""
    return InvalidRequestError(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def unknown(path: str) -> UnknownParameter:
    """``Unknown parameter: 'P'.``"""
    return UnknownParameter(f"Unknown parameter: '{path}'.", param=path)


def empty_array(path: str) -> InvalidRequestError:
    """``Invalid 'P': empty array. …``"""
    return InvalidRequestError(
        f"Invalid '{path}': empty array. Expected an array with minimum length 1, but got an "
        "empty array instead.",
        param=path,
        code="empty_array",
    )


def a_kind(value: object) -> str:
    """``an integer``, ``null`` …"""
    return _A_KIND.get(fields.kind_of(value), "an unknown value")


def echo(value: object) -> str:
    """A value of the client, safe to repeat."""
    text = value if isinstance(value, str) else str(value)
    cut = text[:_MAX_ECHO] + ("..." if len(text) > _MAX_ECHO else "")
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)


def listing(names: Sequence[str], word: str) -> str:
    """``'a'``, ``'a' and 'b'``, ``'a', 'b', and 'c'``."""
    quoted = [f"'{name}'" for name in names]
    return _join(quoted, word)


def _join(words: Sequence[str], word: str) -> str:
    if len(words) < 3:
        return f" {word} ".join(words)
    return ", ".join(words[:-1]) + f", {word} {words[-1]}"


# -- one error -----------------------------------------------------------------------------------


def refusal(error: ValidationError, body: object) -> InvalidRequestError:
    """The one error to answer with; `body` is what was validated."""
    if error.error_count() > _MAX_ERRORS:
        # Only unknown keys come in such numbers. To describe them all would take long.
        return UnknownParameter("Unknown parameters: more than a thousand.")
    errors = error.errors(include_url=False)
    strangers = [one for one in errors if one["type"] == "extra_forbidden" and len(one["loc"]) == 1]
    first = (strangers or errors)[0]
    path = _path(first["loc"], body)
    text = _TEXTS.get(first["type"])
    if text is not None:
        return text(path, first)
    expected = _TYPES.get(first["type"], "another value")
    return invalid_type(path, _expected(path, expected), first["input"])


def _path(location: Sequence[int | str], value: Any) -> str:
    """``input[0].content[1].text`` from the location of an error.

    Follows the location through the client's `value`: a step that is not a key there is the tag of
    a branch, the mark of a bad key, or the name of a missing field.
    """
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
            value = value[step] if isinstance(value, list) else None
        elif isinstance(value, dict) and step in value:
            path += f".{echo(step)}"
            value = value[step]
        elif not fields.is_tag(step) and step != "[key]":
            path += f".{step}"
    return path[1:_MAX_PATH]


_TYPES: Final[Mapping[str, str]] = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "none_required": "null",
}

_Text: TypeAlias = Callable[[str, ErrorDetails], InvalidRequestError]


def _context(error: ErrorDetails) -> Mapping[str, Any]:
    return error.get("ctx", {})


def _unknown(path: str, _error: ErrorDetails) -> InvalidRequestError:
    return unknown(path)


def _missing(path: str, _error: ErrorDetails) -> InvalidRequestError:
    return missing(path)


def _bound(word: str, key: str, sign: str) -> _Text:
    """``integer below minimum value. Expected a value >= 16, but got 10 instead.``"""
    side = {"below": "min", "above": "max"}[word]

    def text(path: str, error: ErrorDetails) -> InvalidRequestError:
        limit = _context(error)[key]
        kind = "decimal" if isinstance(limit, float) else "integer"
        shown = f"{limit:g}" if isinstance(limit, float) else limit
        return InvalidRequestError(
            f"Invalid '{path}': {kind} {word} {side}imum value. "
            f"Expected a value {sign} {shown}, but got {echo(error['input'])} instead.",
            param=path,
            code=f"{kind}_{word}_{side}_value",
        )

    return text


def _long_string(path: str, error: ErrorDetails) -> InvalidRequestError:
    limit, length = _context(error)["max_length"], len(error["input"])
    got = f"Expected a string with maximum length {limit}, but got a string with length {length}"
    if error["loc"][-1] == "[key]":
        holder = path.rpartition(".")[0]
        name = error["input"]
        return InvalidRequestError(
            f"Invalid property name in '{holder}': '{echo(name[:3])}...{echo(name[-3:])}' is too "
            f"long. {got} instead.",
            param=path,
            code="property_name_above_max_length",
        )
    return InvalidRequestError(
        f"Invalid '{path}': string too long. {got} instead.",
        param=path,
        code="string_above_max_length",
    )


def _short_string(path: str, _error: ErrorDetails) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}': empty string. Expected a string with minimum length 1, but got an "
        "empty string instead.",
        param=path,
        code="empty_string",
    )


def _long_list(path: str, error: ErrorDetails) -> InvalidRequestError:
    limit, length = _context(error)["max_length"], len(error["input"])
    if isinstance(error["input"], dict):
        return InvalidRequestError(
            f"Invalid '{path}': too many properties. Expected an object with at most {limit} "
            f"properties, but got an object with {length} properties instead.",
            param=path,
            code="object_above_max_properties",
        )
    return InvalidRequestError(
        f"Invalid '{path}': array too long. Expected an array with maximum length {limit}, but "
        f"got an array with length {length} instead.",
        param=path,
        code="array_above_max_length",
    )


def _short_list(path: str, _error: ErrorDetails) -> InvalidRequestError:
    return empty_array(path)


def _bad_id(path: str, error: ErrorDetails) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}': '{echo(error['input'])}'. Expected an ID that contains letters, "
        "numbers, underscores, or dashes, but this value contained additional characters.",
        param=path,
        code="invalid_value",
    )


def _bad_url(path: str, _error: ErrorDetails) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}'. Expected a valid URL, but got a value with an invalid format.",
        param=path,
        code="invalid_value",
    )


def _nul(path: str, _error: ErrorDetails) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}': expected a string without NUL characters.",
        param=path,
        code="invalid_value",
    )


def _bad_name(path: str, error: ErrorDetails) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{path}': string does not match pattern. Expected a string that matches the "
        f"pattern '{_context(error)['pattern']}'.",
        param=path,
        code="invalid_value",
    )


_PATTERNS: Final[Mapping[str, _Text]] = {
    fields.ID_PATTERN: _bad_id,
    fields.BLANK_OR_ID_PATTERN: _bad_id,
    fields.FOREIGN_ID_PATTERN: _bad_id,
    fields.ITEM_ID_PATTERN: _bad_id,
    fields.IMAGE_URL_PATTERN: _bad_url,
    fields.URL_PATTERN: _bad_url,
    fields.NO_NUL_PATTERN: _nul,
    fields.NAME_PATTERN: _bad_name,
}


def _pattern(path: str, error: ErrorDetails) -> InvalidRequestError:
    return _PATTERNS[_context(error)["pattern"]](path, error)


def _literal(path: str, error: ErrorDetails) -> InvalidRequestError:
    names = re.findall(r"'([^']*)'", _context(error)["expected"])
    if not isinstance(error["input"], str):
        one = "one of " if len(names) > 1 else ""
        return invalid_type(path, one + listing(names, "or"), error["input"])
    return _unsupported(path, error["input"], names)


def _unsupported(path: str, value: str, names: Sequence[str]) -> InvalidRequestError:
    values = "Supported values are" if len(names) > 1 else "Supported value is"
    return InvalidRequestError(
        f"Invalid value: '{echo(value)}'. {values}: {listing(names, 'and')}.",
        param=path,
        code="invalid_value",
    )


def _branch(path: str, error: ErrorDetails) -> InvalidRequestError:
    """No branch of a union fits: a wrong kind, or a wrong or missing `type`."""
    context, value = _context(error), error["input"]
    tags = re.findall(r"<[^<>]*>", context.get("expected_tags", ""))
    if context["discriminator"] == "kind_of()":
        names = [_KIND_NAMES.get(tag, tag[1:-1]) for tag in tags if tag != "<null>"]
        expected = ("one of " if len(names) > 1 else "") + _join(names, "or")
        return invalid_type(path, _expected(path, expected), value)
    if not isinstance(value, dict):
        return invalid_type(path, "an object", value)
    type_ = value.get("type")
    if isinstance(type_, str):
        return _unsupported(f"{path}.type", type_, [tag[1:-1] for tag in tags])
    if "type" in value:
        return invalid_type(f"{path}.type", "a string", type_)
    return missing(f"{path}.type")


def _exclusive(path: str, error: ErrorDetails) -> InvalidRequestError:
    kind = error["type"]
    exactly = "providing exactly" if kind.startswith("missing") else "only providing"
    lead = "Missing mutually" if kind.startswith("missing") else "Mutually"
    return InvalidRequestError(
        f"{lead} exclusive parameters: '{path}'. Ensure you are {exactly} one of: "
        f"{listing(_context(error)['names'], 'or')}.",
        param=path,
        code=kind,
    )


def _unmet(path: str, error: ErrorDetails) -> InvalidRequestError:
    """What a form of ours expects beside its types."""
    return InvalidRequestError(
        f"Invalid '{path}': expected {_context(error)['expected']}.",
        param=path,
        code="invalid_value",
    )


_TEXTS: Final[Mapping[str, _Text]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "literal_error": _literal,
    "union_tag_invalid": _branch,
    "union_tag_not_found": _branch,
    "greater_than_equal": _bound("below", "ge", ">="),
    "less_than_equal": _bound("above", "le", "<="),
    "string_too_long": _long_string,
    "string_too_short": _short_string,
    "string_pattern_mismatch": _pattern,
    "too_long": _long_list,
    "too_short": _short_list,
    "missing_mutually_exclusive_parameters": _exclusive,
    "mutually_exclusive_parameters": _exclusive,
    "expected": _unmet,
}
