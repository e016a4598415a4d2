"""What any-llm makes of a chat request on its way to a provider, as data.

Rules
1. A trait is a field of `Traits`; code asks the field, never for a provider.
2. What any-llm, or its adapter for a provider, would leave out without a word is never sent: it is
   refused or reported, or said in another way. The fields say what is left out.
3. Who is not in the table gets what is safe with everybody; who speaks chat completions, all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from antiphon.backends.profiles import GENERIC, Profile


@dataclass(frozen=True, slots=True)
class Traits:
    """One provider."""

    profile: Profile
    #: Log probabilities come back.
    logprobs: bool = False
    #: `strict` of functions is passed on.
    strict: bool = False
    #: How it says that no tool may be called; None: tools are left out.
    none: str | None = "none"
    #: How it says that some tool has to be called.
    required: str = "required"
    #: What it calls `top_p`.
    top_p: str = "top_p"
    #: The efforts that it tells apart; None: all.
    efforts: frozenset[str] | None = None
    #: Reasoning goes with tools.
    reasons_with_tools: bool = True
    #: Results of calls are texts; else what is JSON has to be an object.
    text_results: bool = True
    #: The argument of the provider's class with the address; None: it takes none.
    address: str | None = "api_base"
    #: Its SDK has no other calls than those that block.
    blocks: bool = False


#: What any-llm's own adapters are sure to pass on.
_CAREFUL: Final = Profile(
    "any_llm",
    effort="reasoning_effort",
    tool_choice="words",
    parallel_tool_calls=False,
    json_schema=False,
    image_urls=False,
    media=frozenset({"input_image"}),
    windows=(),
)
#: Google's models hear; schemas and names of tools are passed on.
_GOOGLE: Final = Traits(
    replace(
        _CAREFUL,
        tool_choice="names",
        json_schema=True,
        media=frozenset({"input_audio", "input_image"}),
    ),
    address=None,
)
_TRAITS: Final[Mapping[str, Traits]] = {
    # Converse: one toolChoice of three is known; thoughts cannot go back, which Claude wants with
    # tools; schemas are a call, which is not streamed.
    "bedrock": Traits(
        _CAREFUL,
        none=None,
        reasons_with_tools=False,
        text_results=False,
        blocks=True,
    ),
    "cohere": Traits(
        replace(_CAREFUL, json_schema=True),
        strict=True,
        none="NONE",
        required="REQUIRED",
        top_p="p",
        address="base_url",
    ),
    "gemini": _GOOGLE,
    "mistral": Traits(
        replace(
            _CAREFUL,
            tool_choice="names",
            parallel_tool_calls=True,
            json_schema=True,
            forwards=frozenset({"prompt_cache_key"}),
            reasoning_back="reasoning",
            short_ids=True,
        ),
        strict=True,
        efforts=frozenset({"none", "high"}),
    ),
    "sagemaker": Traits(_CAREFUL, blocks=True),
    "vertexai": _GOOGLE,
    "vertexaianthropic": Traits(_CAREFUL, none=None, address=None),
}
#: What everybody gets who is asked by OpenAI's own client.
_OPENAI: Final = Traits(
    replace(
        _CAREFUL,
        tool_choice="names",
        parallel_tool_calls=True,
        json_schema=True,
        media=GENERIC.media,
    ),
    logprobs=True,
    strict=True,
)


def traits_of(provider: str, *, speaks_chat: bool, reasons: bool, sees: bool) -> Traits:
    """`speaks_chat`: any-llm asks it by OpenAI's own client; `reasons`, `sees`: any-llm says that
    it passes efforts and images on."""
    blind = Traits(replace(_CAREFUL, media=frozenset()))
    other = _OPENAI if speaks_chat else Traits(_CAREFUL) if sees else blind
    traits = _TRAITS.get(provider, other)
    if reasons:
        return traits
    return replace(traits, profile=replace(traits.profile, effort=None))
