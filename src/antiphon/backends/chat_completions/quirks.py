"""What a refusal says about a server, or about the chat template of a model. Pure.

Rules
1. No list of servers says what the template of a model takes, or which parameter a gateway knows:
   who refuses something is asked as it wants (`ChatCompletions`), once more, and if that went well
   from then on at once.
2. What is matched are phrases of servers in which no name of a client has a place
   (`antiphon.backends.complaints`); should a server quote one, nobody else is asked otherwise.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from antiphon.backends.complaints import Complaint
from antiphon.backends.profiles import Profile
from antiphon.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Quirk:
    """A field of `Profile` that has another value, and what of a request that is about."""

    field: str
    value: Any
    param: str = "input"


_WITHOUT_SYSTEM: Final = Quirk("turns", "without_system")
_ALTERNATING: Final = Quirk("turns", "alternating")
_SHORT_IDS: Final = Quirk("short_ids", value=True)
_COMPLETION: Final = Quirk("max_tokens", "max_completion_tokens", "max_output_tokens")
#: Templates of Gemma and Mistral, Mistral's API; OpenAI, of Kimi's ids, and behind a gateway.
_QUIRKS: Final = (
    (r"system role (is )?not supported", _WITHOUT_SYSTEM),
    (r"only user(, | and )assistant( and tool)? roles are supported", _WITHOUT_SYSTEM),
    (r"roles must alternate", _ALTERNATING),
    (r"unexpected role 'user' after role 'tool'", _ALTERNATING),
    (r"tool call ids? .{0,60}\blength (of )?9\b", _SHORT_IDS),
    (r"\b(tool_call_id|tool_calls\[\d+\]\.id)': string too long", _SHORT_IDS),
    (r"'max_tokens' is not supported .{0,40}'max_completion_tokens'", _COMPLETION),
)


class QuirkRefused(InvalidRequestError):
    """The request has to be made another way."""

    def __init__(self, quirk: Quirk) -> None:
        super().__init__(
            "The model backend does not take this request in any form that is known here. The "
            "operator of this server can find the cause in its log.",
            param=quirk.param,
        )
        self.quirk = quirk

    def mend(self, profile: Profile) -> dict[str, Any] | None:
        """The fields of the profile, as it was asked, that have to be others; None when it was
        asked so. Some say that roles must alternate and mean that there is no system (Mistral
        7B)."""
        quirk = self.quirk
        if quirk.field == "turns" and profile.turns != "free":
            quirk = _WITHOUT_SYSTEM
        change = {quirk.field: quirk.value}
        return None if replace(profile, **change) == profile else change


def quirk_in(said: Complaint) -> QuirkRefused | None:
    """The quirk that was the reason of a refusal."""
    if said.param.startswith(("tools", "response_format")):
        return None  # a schema is quoted
    for phrase, quirk in _QUIRKS:
        if re.search(phrase, said.message, re.IGNORECASE):
            return QuirkRefused(quirk)
    return None
