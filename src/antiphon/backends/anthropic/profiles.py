"""What the models behind a Messages API can do, as data.

Rules
1. An ability is a field of `Profile`; code asks the field, never the name of a model.
2. The first pattern that is found in the name of a model decides. Names come with prefixes and
   dates, and with dots for dashes (``us.anthropic.claude-opus-4-6-v1``, ``claude-opus-4.6``).
3. A Claude that is not known is taken for one of the newest; any other model can do little, and
   what it does not know it is not sent.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Profile:
    """What one generation of models understands."""

    #: How thinking is asked for: tokens that it may cost, or the model decides (``output_config``);
    #: None: it does not think.
    thinking: Literal["budget", "adaptive"] | None = "budget"
    #: It thinks unless it is told not to.
    by_default: bool = False
    #: The type of `thinking` that turns it off; None: it is off when nothing is said, or always on.
    off: Literal["disabled", "between_tools"] | None = None
    #: Thinking is shown only when it is asked for.
    hides_thinking: bool = False
    #: The values of `output_config.effort`.
    efforts: tuple[str, ...] = ()
    #: A call can be forced with `tool_choice` (while it does not think, where that can be helped).
    forced: bool = True
    #: Of `temperature` and `top_p`: both, one of them, or none is taken.
    sampling: Literal["both", "one", "none"] = "one"
    #: Answers and arguments are held to a JSON Schema (`output_config.format`, `strict`).
    schemas: bool = False
    #: Images, web addresses of them too, and PDF.
    sees: bool = True
    #: The prompt is cached where it is asked for, `metadata.user_id` is known, thinking is signed.
    native: bool = True
    #: Tokens that an answer may have when the request does not say: `max_tokens` is required.
    max_tokens: int = 64_000
    #: Tokens that the model can see and say, if its server does not say.
    window: int | None = 200_000

    @property
    def always_thinks(self) -> bool:
        """Nothing turns it off."""
        return self.by_default and self.off is None


_ADAPTIVE: Final = Profile(
    "adaptive",
    efforts=("low", "medium", "high", "max"),
    schemas=True,
    window=1_000_000,
)
_OPUS_4_7: Final = replace(
    _ADAPTIVE,
    hides_thinking=True,
    efforts=("low", "medium", "high", "xhigh", "max"),
    sampling="none",
)
_NEWEST: Final = replace(_OPUS_4_7, by_default=True, off="disabled")
_ALWAYS: Final = replace(_NEWEST, off=None)
_BUDGET: Final = Profile(schemas=True)
_CLAUDE_4: Final = Profile(sampling="both", max_tokens=32_000)
_CLAUDE_3: Final = Profile(None, sampling="both", max_tokens=4_096)
#: DeepSeek, Kimi, Ollama, vLLM, …
_OTHER: Final = Profile(
    off="disabled", sampling="both", sees=False, native=False, max_tokens=8_192, window=None
)

#: What is found in the name, in lower case and with dashes for dots → the profile.
_BY_NAME: Final[tuple[tuple[str, Profile], ...]] = (
    (r"(fable|mythos)-5-[1-9](?!\d)|opus-5-[5-9](?!\d)", replace(_ALWAYS, forced=False)),
    (r"fable|mythos-5", _ALWAYS),
    (r"mythos-preview", replace(_ALWAYS, efforts=_ADAPTIVE.efforts)),
    (r"sonnet-5-[5-9](?!\d)", replace(_NEWEST, off="between_tools", forced=False)),
    (r"opus-4-[789](?!\d)", _OPUS_4_7),
    (r"(opus|sonnet)-4-6(?!\d)", _ADAPTIVE),
    (r"(opus|sonnet|haiku)-4-5(?!\d)", _BUDGET),
    (r"opus-4-1(?!\d)", replace(_BUDGET, max_tokens=32_000)),
    (r"(opus|sonnet)-4|claude-4|claude-3-7", _CLAUDE_4),
    (r"claude-3-5", replace(_CLAUDE_3, max_tokens=8_192)),
    (r"claude-(3|2|v2|instant)", _CLAUDE_3),
    (r"claude", _NEWEST),
)


def profile_for(model: str) -> Profile:
    """The profile of a model, by its name at the upstream."""
    name = model.lower().replace(".", "-")
    return next((profile for pattern, profile in _BY_NAME if re.search(pattern, name)), _OTHER)


def is_known(model: str) -> bool:
    """Whether it is the name of a Claude."""
    return profile_for(model) is not _OTHER
