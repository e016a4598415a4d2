"""What servers that speak Responses make of it, as data.

Rules
1. A dialect is the profile of the server (`antiphon.backends.profiles`), as far as it holds for
   this API too, and what only this API has. Code asks the fields, never the name of a server.
2. It comes from the configuration (`profile`), else from the host or port, else from the `owned_by`
   of the model list.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from antiphon.backends.profiles import (
    PROFILES,
    Profile,
    profile_for,
    profile_named,
    profile_of_owner,
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one kind of server understands of the Responses API."""

    profile: Profile
    #: It gives its reasoning encrypted to who asks for it with `include`.
    encrypts: bool = False
    #: Models that do not reason, and refuse to be asked for it or shown any: names and wildcards.
    plain: tuple[str, ...] = ()
    #: It takes the text of reasoning back, whoever made it.
    text_back: bool = False
    #: What the assistant has said has to be a list of parts, with or without an id; others take a
    #: string without an id only.
    said_in_parts: bool = False
    #: It makes summaries of its reasoning; others show the reasoning itself.
    summaries: bool = False
    #: `reasoning.mode`, and `phase` of what the model has said.
    modes: bool = False
    #: Images may be looked at in their original size.
    originals: bool = False
    #: `text.format` is obeyed.
    formats: bool = True
    #: `top_logprobs` and what belongs to it are known.
    logprobs: bool = True
    #: ``POST /responses/input_tokens`` is there.
    counts: bool = False
    #: Hosted tools that it runs itself, because the configuration says so.
    hosted: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """That of the profile."""
        return self.profile.name

    def runs(self, tool: Mapping[str, Any]) -> bool:
        """Whether it runs a tool of a request itself."""
        return tool["type"] in tool_types(self.hosted)

    def is_sealing(self, model: str) -> bool:
        """Whether a model, by its name at the upstream, is asked for its reasoning encrypted."""
        return self.encrypts and self.reasons(model)

    def reasons(self, model: str) -> bool:
        """Whether a model may be shown reasoning."""
        return not any(fnmatchcase(model, name) for name in self.plain)


def _of(name: str) -> Profile:
    return PROFILES[name]


#: OpenAI's models before its first ones that reason: a list that does not grow.
_WITHOUT_REASONING: Final = (
    *("gpt-3.5*", "gpt-4*", "gpt-5-chat*", "chatgpt-4o*"),
    *("ft:gpt-3.5*", "ft:gpt-4*"),
)

DIALECTS: Final[dict[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        # Where it goes is part of the API, unlike in chat-completions.
        Dialect(replace(_of("generic"), effort="reasoning")),
        Dialect(
            replace(_of("openai"), effort="reasoning", tool_images=True),
            encrypts=True,
            plain=_WITHOUT_REASONING,
            summaries=True,
            modes=True,
            originals=True,
            counts=True,
        ),
        # Of `tool_choice` its older versions know "auto" alone, newer ones the three words.
        Dialect(
            replace(_of("vllm"), effort="reasoning", tool_choice="words", json_object=False),
            text_back=True,
        ),
        # It calls the text of its reasoning encrypted, and wants that back.
        Dialect(replace(_of("ollama"), effort="reasoning", json_object=False), logprobs=False),
        Dialect(
            _of("llama.cpp"), text_back=True, said_in_parts=True, formats=False, logprobs=False
        ),
        # Its windows are in a list of another API (chat_completions reads it): to be configured.
        Dialect(replace(_of("lmstudio"), effort="reasoning", windows=()), formats=False),
        Dialect(replace(_of("deepseek"), effort="reasoning", json_schema=True)),
        Dialect(
            replace(_of("openrouter"), effort="reasoning", verbosity=False),
            encrypts=True,
            summaries=True,
        ),
    )
}

#: Hosts below which many models are served, and over this API only those of OpenAI.
_FOUNDRY: Final = ".services.ai.azure.com"


def tool_types(hosted: Iterable[str]) -> frozenset[str]:
    """Names of hosted tools → all types that they have in requests."""
    return frozenset(type_ for name in hosted for type_ in _TYPES.get(name, (name,)))


#: What has several types.
_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "web_search": (
        *("web_search", "web_search_2025_08_26"),
        *("web_search_preview", "web_search_preview_2025_03_11"),
    )
}


def dialect_named(name: str) -> Dialect:
    """The dialect of a profile that a configuration names. Raises `ValueError`."""
    return DIALECTS[profile_named(name).name]


def dialect_for(base_url: str) -> Dialect:
    """The dialect that the address of a server suggests."""
    host = urlsplit(base_url).hostname or ""
    return DIALECTS["openai" if host.endswith(_FOUNDRY) else profile_for(base_url).name]


def dialect_of_owner(owned_by: str) -> Dialect:
    """The dialect that `owned_by` in the model list of a server suggests."""
    return DIALECTS[profile_of_owner(owned_by).name]
