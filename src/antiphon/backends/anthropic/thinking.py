"""How much a model is to think, in the words of the Messages API. Pure.

Rules
1. What it thinks is shown, where it can be.
2. A forced call turns thinking off where that can be done. A turn that has begun without thinking
   goes on without where thinking has a budget: the API wants it at the beginning.
3. `temperature` and `top_p` are for models that do not think.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from antiphon.backends.anthropic.profiles import Profile

Json: TypeAlias = dict[str, Any]

#: What thinking may cost.
_BUDGETS: Final = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_000,
}
#: The API takes no smaller budget.
_LEAST: Final = 1_024
#: Efforts in their order.
_SCALE: Final = ("minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Thinking:
    """`thinking` and `output_config.effort` of a request; None: nothing is said."""

    config: Json | None = None
    effort: str | None = None
    #: Nothing of it gets lost.
    honoured: bool = True

    @property
    def is_on(self) -> bool:
        """The model thinks."""
        return self.config is not None and self.config["type"] in ("adaptive", "enabled")

    @property
    def keeps(self) -> bool:
        """Earlier thinking is read."""
        return self.config is None or self.config["type"] != "disabled"


def thinking_of(effort: str | None, profile: Profile, most: int, *, stopped: bool) -> Thinking:
    """`effort`: what was asked for. `most`: tokens of the answer. `stopped`: not in this turn."""
    match profile.thinking:
        case "adaptive":
            return _adaptive(effort, profile, stopped=stopped)
        case "budget" if effort not in (None, "none"):
            return _budgeted(effort, most, stopped=stopped)
        case "budget":
            return Thinking({"type": profile.off} if effort and profile.off else None)
        case _:
            return Thinking(honoured=effort in (None, "none"))


def _adaptive(effort: str | None, profile: Profile, *, stopped: bool) -> Thinking:
    asked = profile.by_default if effort is None else effort != "none"
    if (asked and not stopped) or profile.always_thinks:
        config = {"type": "adaptive"}
        if profile.hides_thinking:
            config["display"] = "summarized"
        level = None if effort is None else _nearest(effort, profile.efforts)
        return Thinking(config, level, honoured=effort in (None, level))
    config_off = {"type": profile.off} if profile.by_default else None
    if effort in (None, "none"):
        return Thinking(config_off)
    # More than this needs thinking.
    level = _nearest(effort or "", tuple(e for e in profile.efforts if e not in ("xhigh", "max")))
    return Thinking(config_off, level, honoured=False)


def _budgeted(effort: str | None, most: int, *, stopped: bool) -> Thinking:
    budget = max(_LEAST, min(_BUDGETS[effort or "low"], most // 2))
    if stopped or budget >= most:
        return Thinking(honoured=False)
    return Thinking({"type": "enabled", "budget_tokens": budget})


def _nearest(effort: str, known: tuple[str, ...]) -> str:
    """The effort itself, else the highest one below it, else the lowest."""
    if effort in known:
        return effort
    below = _SCALE[: _SCALE.index(effort)] if effort in _SCALE else ()
    return next((e for e in reversed(below) if e in known), known[0])
