"""Quirks of chat-completions servers, as data.

Rules
1. A quirk is a field of `Profile`; code asks the field, never the name of a server or a model.
2. `GENERIC` is what any server can be trusted with; a server that can do more says so here.
3. The profile comes from the configuration, else from the host or port, else from the `owned_by`
   of its model list.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

#: Chain of thought in the text: never, between tags at its start, or from its start (the template
#: has opened the tag) up to the closing tag.
ThinkTags: TypeAlias = Literal["never", "tags", "opened"]
#: Who may speak when: anybody; user and assistant by turns; these two alone, without a system.
Turns: TypeAlias = Literal["free", "alternating", "without_system"]
#: A value in a row of a model list: the keys that lead to it.
Place: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of server understands beyond the common core."""

    name: str
    #: The role that `developer` messages and instructions get.
    developer_role: Literal["developer", "system"] = "system"
    #: Many chat templates allow only one system message, at the start: several there become one,
    #: later ones words of the user.
    merge_system: bool = True
    #: What the chat template of a model takes (`chat_completions/turns.py`).
    turns: Turns = "free"
    #: Ids of calls are nine letters and digits (Mistral).
    short_ids: bool = False
    #: The field that limits the tokens of the answer.
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: Where `reasoning.effort` goes: a field, an object with `effort` in it, or nowhere.
    effort: Literal["reasoning_effort", "reasoning"] | None = None
    #: `text.verbosity` is known as `verbosity`.
    verbosity: bool = False
    #: Request parameters (`_HINTS` of `chat_completions/request.py`) that are passed on by name.
    forwards: frozenset[str] = frozenset()
    #: The efforts that it takes, None for all; another one becomes its neighbour.
    efforts: frozenset[str] | None = None
    #: The forms of `tool_choice` that are obeyed: all, those with a name, the three words, none.
    #: The rest is done by leaving tools out.
    tool_choice: Literal["all", "names", "words", "ignored"] = "names"
    #: Custom tools are known, with their grammars; else they are functions with one string.
    custom_tools: bool = False
    #: `parallel_tool_calls` is obeyed.
    parallel_tool_calls: bool = True
    #: Answers can have a JSON Schema; else the model is told in words (`engine/prompted.py`).
    json_schema: bool = True
    #: ``response_format: {"type": "json_object"}`` is known; else a schema of any object is sent.
    json_object: bool = True
    #: Images may be web addresses, not only data URLs.
    image_urls: bool = True
    #: `file` parts with PDF in them are known; else the text of files is sent.
    files: bool = False
    #: Tool results may be a list of parts with images in it.
    tool_images: bool = False
    #: The models see: they are shown the images that tools of this server make. What a client sends
    #: is its own decision.
    vision: bool = False
    #: Parts that the models take besides text and files. Others in a request are a 400, and of
    #: earlier ones they read that they were there.
    media: frozenset[str] = frozenset({"input_audio", "input_image", "input_video"})
    #: The field of assistant messages in which the server wants its old reasoning back.
    reasoning_back: Literal["reasoning_content", "reasoning"] | None = None
    #: Each message of the assistant has to have that field, whatever is known of its reasoning:
    #: models that think refuse a history without.
    reasoning_needed: bool = False
    #: It streams `reasoning_details` and wants them back unchanged, signatures and all.
    details_back: bool = False
    #: Its answers hold no reasoning, so that there is none to show as a summary.
    hides_reasoning: bool = False
    think: ThinkTags = "tags"
    #: How the server counts tokens (`chat_completions/tokenize.py`); None: it does not.
    counts: Literal["vllm", "llama.cpp"] | None = None
    #: Where its model list has the context window with which a model is served; the first one that
    #: is there counts. None at all: the list is not asked.
    windows: tuple[Place, ...] = (
        ("max_model_len",),
        ("meta", "n_ctx"),
        ("top_provider", "context_length"),
        ("context_length",),
        ("context_window",),
        ("max_context_length",),
    )
    #: The list with the windows, from the root of the server, if it is not ``/v1/models``.
    windows_at: str | None = None
    #: The only model of the list answers to any name.
    any_name: bool = False


GENERIC = Profile("generic")

_THREE_EFFORTS = frozenset({"none", "low", "medium", "high"})

_OPENAI = Profile(
    "openai",
    developer_role="developer",
    merge_system=False,
    max_tokens="max_completion_tokens",
    effort="reasoning_effort",
    verbosity=True,
    forwards=frozenset(
        {"user", "safety_identifier", "service_tier", "prompt_cache_key", "prompt_cache_retention"}
    ),
    tool_choice="all",
    custom_tools=True,
    files=True,
    vision=True,
    hides_reasoning=True,
    think="never",
    windows=(),
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        GENERIC,
        _OPENAI,
        Profile(
            "vllm",
            effort="reasoning_effort",
            efforts=_THREE_EFFORTS,
            reasoning_back="reasoning",
            counts="vllm",
            windows=(("max_model_len",),),
        ),
        # Its list has no windows, and what it loads a model with depends on the request.
        Profile(
            "ollama",
            effort="reasoning_effort",
            efforts=_THREE_EFFORTS,
            tool_choice="ignored",
            parallel_tool_calls=False,
            image_urls=False,
            reasoning_back="reasoning",
            windows=(),
        ),
        # It takes a named choice for "auto" without a word. `n_ctx` is what one request has, after
        # -c, --parallel and the limit of the model; `n_ctx_train` is that limit only.
        Profile(
            "llama.cpp",
            tool_choice="words",
            reasoning_back="reasoning_content",
            counts="llama.cpp",
            windows=(("meta", "n_ctx"),),
            any_name=True,
        ),
        # It answers 400 to a named choice and to json_object.
        Profile(
            "lmstudio",
            tool_choice="words",
            json_object=False,
            parallel_tool_calls=False,
            image_urls=False,
            # Only of models that are loaded: `max_context_length` is what they could have.
            windows=(("loaded_context_length",),),
            windows_at="/api/v0/models",
        ),
        # Kimi is like it. Its forms of answers are text and any object.
        Profile(
            "deepseek",
            json_schema=False,
            reasoning_back="reasoning_content",
            reasoning_needed=True,
            windows=(("context_length",),),
        ),
        Profile(
            "openrouter",
            effort="reasoning",
            files=True,
            verbosity=True,
            forwards=frozenset({"user"}),
            reasoning_back="reasoning",
            details_back=True,
            # The model's own may be longer than what its first provider takes.
            windows=(("top_provider", "context_length"), ("context_length",)),
        ),
    )
}

_BY_HOST = {
    "api.openai.com": "openai",
    "openrouter.ai": "openrouter",
    **dict.fromkeys(("api.deepseek.com", "api.moonshot.ai", "api.moonshot.cn"), "deepseek"),
}
#: Hosts below which Azure serves OpenAI's models, as OpenAI does.
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com")
#: The ports on which local servers listen unless told otherwise.
_BY_PORT = {11434: "ollama", 1234: "lmstudio", 8080: "llama.cpp"}
_BY_OWNER = {
    "vllm": "vllm",
    "library": "ollama",
    "llamacpp": "llama.cpp",
    "organization_owner": "lmstudio",
}


def profile_named(name: str) -> Profile:
    """The profile that a configuration names. Raises `ValueError`."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile '{name}'; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def profile_for(base_url: str) -> Profile:
    """The profile that the address of a server suggests."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    name = "openai" if host.endswith(_AZURE) else _BY_HOST.get(host)
    name = name or _BY_PORT.get(parts.port or 0)
    return PROFILES[name] if name else GENERIC


def profile_of_owner(owned_by: str) -> Profile:
    """The profile that `owned_by` in the model list of a server suggests."""
    return PROFILES[_BY_OWNER.get(owned_by, "generic")]
