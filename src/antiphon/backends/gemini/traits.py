"""What the models behind the Gemini API can do, as data.

Rules
1. A difference between models is a field of `Traits`; code asks the field, never the name.
2. The first pattern that fits a name decides. A name that none fits is taken for a new model:
   ``gemini-pro-latest`` is one.
"""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Traits:
    """One kind of model."""

    #: There is a place for instructions; else the user's first words begin with them.
    system: bool = True
    #: What `thinkingLevel` may be, the least first; none: it has no levels.
    levels: tuple[str, ...] = ("low", "medium", "high")
    #: What `thinkingBudget` may be, least and most; None: it has no budget.
    budget: tuple[int, int] | None = None
    #: A budget of 0 is allowed too.
    stops: bool = False
    #: It thinks when nothing is said about it.
    thinks: bool = True
    #: Calls of the current turn must come back with a signature.
    signed: bool = True
    #: Functions and a schema of the answer may come together.
    schema_with_functions: bool = True
    #: Results of functions may hold images and files.
    result_media: bool = True
    #: The mode VALIDATED: text or calls, and calls match the schema.
    validated: bool = True

    @property
    def can_think(self) -> bool:
        """There is something to ask for."""
        return bool(self.levels) or self.budget is not None


NEWEST: Final = Traits()
_MINIMAL: Final = Traits(levels=("minimal", "low", "medium", "high"))


def _budget(least: int, most: int, *, stops: bool, thinks: bool = True) -> Traits:
    """A model of 2.5."""
    return Traits(
        levels=(),
        budget=(least, most),
        stops=stops,
        thinks=thinks,
        signed=False,
        schema_with_functions=False,
        result_media=False,
    )


_PLAIN: Final = Traits(
    levels=(),
    thinks=False,
    signed=False,
    schema_with_functions=False,
    result_media=False,
    validated=False,
)

#: The levels and budgets are those of Google's page on thinking (November 2026).
_TRAITS: Final[tuple[tuple[str, Traits], ...]] = (
    ("gemini-1*", _PLAIN),
    ("gemini-2.0-*", _PLAIN),
    ("gemma-[123]*", replace(_PLAIN, system=False)),
    ("gemma-*", _PLAIN),
    ("gemini-2.5-*image*", _PLAIN),
    ("gemini-2.5-pro*", _budget(128, 32_768, stops=False)),
    ("gemini-2.5-flash-lite*", _budget(512, 24_576, stops=True, thinks=False)),
    ("gemini-2.5-*", _budget(1, 24_576, stops=True)),
    ("gemini-3-pro*", Traits(levels=("low", "high"))),
    ("gemini-3-flash*", _MINIMAL),
    ("gemini-3.[156]-flash*", _MINIMAL),
)

#: From the least to the most.
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
#: `reasoning.effort` → tokens; the first five as Google's own OpenAI endpoint has them, but for
#: ``minimal``, which is less than ``low`` here.
_BUDGETS: Final = {
    "none": 0,
    "minimal": 512,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}


def traits_of(model: str) -> Traits:
    """Of a model, by its name at the upstream."""
    name = model.rpartition("/")[2]
    return next((traits for pattern, traits in _TRAITS if fnmatchcase(name, pattern)), NEWEST)


@dataclass(frozen=True, slots=True)
class Thinking:
    """`thinkingConfig`, and whether it is the effort that was asked for."""

    config: Json | None
    exact: bool


def thinking(effort: str | None, traits: Traits) -> Thinking:
    """What is asked of a model for `reasoning.effort`. What it cannot do becomes the next higher
    effort that it can, else its highest."""
    if not traits.can_think:
        return Thinking(None, effort in (None, "none"))
    if effort is None:
        return Thinking({"includeThoughts": True} if traits.thinks else None, exact=True)
    if traits.budget is None:
        higher = _EFFORTS[_EFFORTS.index(effort) :]
        level = next((each for each in higher if each in traits.levels), traits.levels[-1])
        return Thinking({"includeThoughts": True, "thinkingLevel": level.upper()}, level == effort)
    wanted = _BUDGETS[effort]
    if wanted == 0 and traits.stops:
        return Thinking({"thinkingBudget": 0}, exact=True)  # there is nothing to include
    least, most = traits.budget
    tokens = max(least, min(wanted, most))
    return Thinking({"includeThoughts": True, "thinkingBudget": tokens}, tokens == wanted)
