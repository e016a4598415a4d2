"""Strings and numbers that a JSON Schema describes: one each, the same every time."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from antiphon.backends.simulator.pattern import UnsupportedPatternError, example

#: Characters in one string.
_MAX_TEXT: Final = 10_000
_LARGEST_INT: Final = 2**63

FORMATS: Final = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "url": "https://example.com/",
}


class NoInstanceError(ValueError):
    """The schema has no instance, or none that is small enough."""


def _text(schema: dict[str, Any]) -> str:
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", _MAX_TEXT))
    if least > min(most, _MAX_TEXT):
        raise NoInstanceError
    if "pattern" in schema:
        try:
            return example(schema["pattern"], least, most)
        except UnsupportedPatternError:
            raise NoInstanceError from None
    if "format" in schema:
        return FORMATS.get(schema["format"], "text")
    text = "text" * (least // 4 + 1)
    return text[: max(least, min(4, most))]


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    """The number next to 1 within the bounds, on the grid of `multipleOf`."""
    bound: dict[str, Decimal] = {
        word: Decimal(str(schema[word]))
        for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
        if isinstance(schema.get(word), int | float) and not isinstance(schema[word], bool)
    }
    low, high = _edges(bound)
    barred = (bound.get("exclusiveMinimum"), bound.get("exclusiveMaximum"))
    step = bound.get("multipleOf")
    value = min(max(step or Decimal(1), low), high)
    if whole:  # the integers among the multiples of p/q are the multiples of p
        step = Decimal(Fraction(step or 1).numerator)
    if step:
        value = (value / step).to_integral_value("ROUND_CEILING") * step
        value += step if value == barred[0] else 0
        value -= step if value > high or value == barred[1] else 0
    elif value in barred:
        value = _between(low, high)
    if not low <= value <= high or value in barred:
        raise NoInstanceError
    exact = value == value.to_integral_value() and abs(value) < _LARGEST_INT
    return int(value) if exact else float(value)


def _edges(bound: dict[str, Decimal]) -> tuple[Decimal, Decimal]:
    none = Decimal("Infinity")
    low = max(bound.get("minimum", -none), bound.get("exclusiveMinimum", -none))
    return low, min(bound.get("maximum", none), bound.get("exclusiveMaximum", none))


def _between(low: Decimal, high: Decimal) -> Decimal:
    if low.is_infinite():
        return high - 1
    if high.is_infinite():
        return low + 1
    return (low + high) / 2


#: Type → its value; raises `NoInstanceError`.
SCALARS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "string": _text,
    "number": lambda schema: _number(schema, whole=False),
    "integer": lambda schema: _number(schema, whole=True),
    "boolean": lambda _: True,
    "null": lambda _: None,
}
