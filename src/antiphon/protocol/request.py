"""CreateResponse: the body of ``POST /v1/responses`` (spec §1, App. A).

Rules
1. Every parameter that OpenAI knows is an attribute of the same name; absent and null are None.
   Nested objects stay plain dicts. `input` is always a list of items in their long form.
2. Fields stand in the order in which OpenAI reports their errors: the first error wins.
3. A rule about several parameters is one function in `_RULES`. Those that a template can still
   fulfil wait for it: `check_rules` holds the request that it was put into (`templates.py`).
4. What needs history, a store or a backend is checked by the engine.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
)

from antiphon.errors import InvalidRequestError, ModelNotFound
from antiphon.protocol import parameters
from antiphon.protocol.bodies import parse_object
from antiphon.protocol.fields import (
    BLANK_OR_ID_PATTERN,
    CLOSED,
    MAX_INT,
    MAX_LIST,
    MAX_NAME,
    NO_NUL_PATTERN,
    Id,
    Many,
    Number,
    Text,
    by_kind,
    one_of,
    shape,
)
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.content import without_nulls
from antiphon.protocol.items.message import normalise
from antiphon.protocol.tools import CHOICE_TYPES, Tool, ToolChoice
from antiphon.protocol.validation import echo, empty_array, missing, refusal, unknown

Json: TypeAlias = dict[str, Any]
MAX_ITEMS: Final = 10_000
#: The smallest `max_output_tokens`.
LEAST_TOKENS: Final = 16
#: Items that bring tools of their own.
TOOL_ITEMS: Final = frozenset({"additional_tools", "tool_search_output"})
#: Tools in all of them, those in namespaces too: each is checked before the first byte (R-118).
MAX_LOADED: Final = 1_024


# -- input ---------------------------------------------------------------------------------------


def item_tag(value: object) -> str | None:
    """Which item this is: by `type`; without one a message has a role, a reference only an id."""
    if not isinstance(value, dict):
        return None
    type_ = value.get("type")
    if isinstance(type_, str):
        return f"<{type_}>"
    if type_ is None:
        if "role" in value:
            return "<message>"
        if "id" in value and "content" not in value:
            return "<item_reference>"
    return None


def text_input(text: str) -> list[Item]:
    """The long form of an `input` that is a string."""
    part = {"type": "input_text", "text": text}
    return [{"type": "message", "role": "user", "content": [part]}]


def long_form(items: list[Item]) -> list[Item]:
    """Drop the nulls of each item and write out its short forms."""
    for item in without_nulls(items):
        type_ = item.get("type")
        if type_ is None:
            type_ = item["type"] = "message" if "role" in item else "item_reference"
        if type_ == "message":
            normalise(item)
    return items


InputItem: TypeAlias = Annotated[
    Item, one_of(item_tag, {name: item_type.shape for name, item_type in ITEM_TYPES.items()})
]
Input: TypeAlias = Annotated[
    list[Item],
    by_kind(
        array=Annotated[
            list[InputItem],
            Field(max_length=MAX_ITEMS, fail_fast=True),
            AfterValidator(long_form),
        ],
        string=Annotated[Text, AfterValidator(text_input)],
    ),
]


# -- the request ---------------------------------------------------------------------------------


def _blank_is_absent(value: str | None) -> str | None:
    return value or None


#: Where a request has its client's key. Not a private attribute: each request would pay for it. No
#: field has this name, so it is not shown; but who iterates over a request would meet it.
_CLIENT_KEY: Final = "client key"


class CreateResponse(BaseModel):
    """What the client asks for. Units, defaults and limits: spec §1."""

    model_config = CLOSED

    model: Annotated[str, StringConstraints(max_length=MAX_NAME, pattern=NO_NUL_PATTERN)] | None = (
        None
    )
    input: Input = Field(default_factory=list)
    previous_response_id: Annotated[
        Annotated[str, StringConstraints(max_length=512, pattern=BLANK_OR_ID_PATTERN)] | None,
        AfterValidator(_blank_is_absent),
    ] = None
    conversation: (
        Annotated[str | Json, by_kind(object=parameters.Conversation, string=Id)] | None
    ) = None
    prompt: Annotated[Json, shape(parameters.Prompt)] | None = None
    moderation: Annotated[Json, shape(parameters.Moderation)] | None = None
    include: Many[parameters.Includable] | None = None
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    metadata: parameters.Metadata | None = None
    text: Annotated[Json, shape(parameters.TextConfig)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: Annotated[Json, shape(parameters.StreamOptions)] | None = None
    background: bool | None = None
    background_options: Annotated[Json, shape(parameters.BackgroundOptions)] | None = None
    max_output_tokens: Annotated[int, Field(ge=LEAST_TOKENS, le=MAX_INT)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1, le=MAX_INT)] | None = None
    reasoning: Annotated[Json, shape(parameters.Reasoning)] | None = None
    user: parameters.Label | None = None
    safety_identifier: Annotated[str, StringConstraints(max_length=128)] | None = None
    prompt_cache_options: Annotated[Json, shape(parameters.PromptCacheOptions)] | None = None
    prompt_cache_key: Annotated[str, StringConstraints(max_length=64)] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    instructions: Text | None = None
    store: bool | None = None
    service_tier: parameters.ServiceTier | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    context_management: (
        Annotated[
            list[Annotated[Json, shape(parameters.ContextManagement)]],
            Field(max_length=MAX_LIST, fail_fast=True),
        ]
        | None
    ) = None
    image: Annotated[Json, shape(parameters.Image)] | None = None
    access_programs: Annotated[Json, shape(parameters.AccessPrograms)] | None = None
    #: In no published type: Codex sends it with every request.
    client_metadata: Json | None = None

    @property
    def client_key(self) -> str | None:
        """The client's own key for the upstream. No body has it, and nothing of it is stored."""
        key: str | None = self.__dict__.get(_CLIENT_KEY)
        return key

    def with_client_key(self, key: str | None) -> "CreateResponse":
        """The same request with such a key, if there is one."""
        if key is not None:
            self.__dict__[_CLIENT_KEY] = key
        return self

    @property
    def conversation_id(self) -> str | None:
        """The id of `conversation`, which is sent as a string or as an object."""
        sent = self.conversation
        return sent["id"] if isinstance(sent, dict) else sent


_FIELDS: Final = CreateResponse.model_fields.keys()


def parse_request(raw: bytes) -> CreateResponse:
    """The request in the body `raw`. Raises `InvalidRequestError`: the first thing wrong."""
    return check_request(parse_object(raw))


def check_request(body: Json) -> CreateResponse:
    """The same for a body that was read already."""
    if "model" not in body and body.get("prompt") is None:
        raise missing("model")
    if len(body) > len(_FIELDS):
        # Said here, because pydantic would describe each of a million unknown keys first.
        raise unknown(echo(next(key for key in body if key not in _FIELDS)))
    if body.get("input", body) is None:
        del body["input"]
    try:
        request = CreateResponse.model_validate(body)
    except ValidationError as error:
        raise refusal(error, body) from None
    for rule in _RULES if request.prompt is None else _OWN_RULES:
        rule(request, ())
    return request


def check_rules(request: CreateResponse, front: Sequence[Item]) -> None:
    """Hold a request that a template was put into against all rules; `front`: the messages of the
    template. Raises `InvalidRequestError`."""
    for rule in _RULES:
        rule(request, front)


# -- rules about several parameters --------------------------------------------------------------

#: The messages of a template, which stand before the input.
_Front: TypeAlias = Sequence[Item]


def _model(request: CreateResponse, _: _Front) -> None:
    if request.model is None:
        raise missing("model")
    if request.model == "":
        raise ModelNotFound("")


def _input(request: CreateResponse, front: _Front) -> None:
    """Something must be said, here or before; instructions are enough where a template has them."""
    elsewhere = request.previous_response_id or request.conversation or front
    if not request.input and not elsewhere and not (request.prompt and request.instructions):
        raise empty_array("input") if "input" in request.model_fields_set else missing("input")


def _trigger(request: CreateResponse, _: _Front) -> None:
    """A wish for a compaction is about all that stands before it (spec §3.4)."""
    for index, item in enumerate(request.input[:-1]):
        if item["type"] == "compaction_trigger":
            raise InvalidRequestError(
                f"Invalid 'input[{index}]': a 'compaction_trigger' is only allowed as the last "
                "item.",
                param=f"input[{index}]",
                code="invalid_value",
            )


def _loaded(request: CreateResponse, _: _Front) -> None:
    """Tools in items are not without end."""
    count = 0
    for index, item in enumerate(request.input):
        if item["type"] in TOOL_ITEMS:
            count += sum(1 + len(tool.get("tools") or ()) for tool in item["tools"])
            if count > MAX_LOADED:
                raise InvalidRequestError(
                    f"Invalid 'input[{index}].tools': too many tools. Expected at most "
                    f"{MAX_LOADED} in all items together.",
                    param=f"input[{index}].tools",
                    code="array_above_max_length",
                )


def _one_history(request: CreateResponse, _: _Front) -> None:
    if request.previous_response_id is not None and request.conversation is not None:
        raise InvalidRequestError(
            "Mutually exclusive parameters: ''. Ensure you are only providing one of: "
            "'previous_response_id' or 'conversation'.",
            code="mutually_exclusive_parameters",
        )


def _streaming(request: CreateResponse, _: _Front) -> None:
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )


def _background(request: CreateResponse, _: _Front) -> None:
    window = (request.background_options or {}).get("completion_window")
    if window in ("2h", "8h") and (not request.background or request.stream):
        raise InvalidRequestError(
            f"A 'completion_window' of '{window}' is only allowed when 'background' is enabled "
            "and 'stream' is not.",
            param="background_options.completion_window",
        )


def _json_word(request: CreateResponse, front: _Front) -> None:
    """`json_object` without the word makes models talk for ever (spec §1, `text.format`)."""
    format_ = (request.text or {}).get("format")
    if format_ is None or format_["type"] != "json_object":
        return
    if request.previous_response_id is not None or request.conversation is not None:
        return
    # A prompt's instructions are one of its messages.
    texts = [request.instructions or ""] if request.prompt is not None else []
    if not any("json" in text.lower() for text in (*texts, *_texts((*front, *request.input)))):
        raise InvalidRequestError(
            "Response input messages must contain the word 'json' in some form to use "
            "'text.format' of type 'json_object'.",
            param="text.format",
        )


def _texts(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        if item["type"] == "message":
            for part in item["content"]:
                yield part.get("text") or ""


def _unique_names(request: CreateResponse, _: _Front) -> None:
    """A call must lead to one tool."""
    _check_names(request.tools or (), "tools")


def _check_names(tools: Sequence[Json], path: str) -> None:
    seen: set[tuple[str, str]] = set()
    for index, tool in enumerate(tools):
        _check_names(tool.get("tools") or (), f"{path}[{index}].tools")
        key = "server_label" if tool["type"] == "mcp" else "name"
        if key not in tool:
            continue
        # A model sees functions and custom tools alike.
        kind = "function" if tool["type"] == "custom" else tool["type"]
        if (kind, tool[key]) in seen:
            raise InvalidRequestError(
                f"Invalid '{path}[{index}].{key}': '{tool[key]}' is already in use. "
                f"Expected every tool to have another {key}.",
                param=f"{path}[{index}].{key}",
                code="invalid_value",
            )
        seen.add((kind, tool[key]))


def _tool_choice(request: CreateResponse, _: _Front) -> None:
    """What is chosen must be there."""
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return
    tools = list(_all_tools(request))
    if choice == "required":
        if not tools:
            raise InvalidRequestError(
                "Tool choice 'required' must be specified with 'tools' parameter.",
                param="tool_choice",
            )
        return
    for wanted in choice["tools"] if choice["type"] == "allowed_tools" else [choice]:
        if not any(_means(wanted, tool) for tool in tools):
            name = wanted.get("name") or wanted.get("server_label") or wanted["type"]
            raise InvalidRequestError(
                f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice"
            )


def _all_tools(request: CreateResponse) -> Iterator[Json]:
    """All tools that the model may know: also those in namespaces and in the input."""
    lists = [request.tools or []]
    lists.extend(item["tools"] for item in request.input if item["type"] in TOOL_ITEMS)
    for tools in lists:
        for tool in tools:
            yield tool
            if tool["type"] == "namespace":
                yield from tool.get("tools") or ()


def _means(wanted: Json, tool: Json) -> bool:
    """Whether a choice means this tool."""
    type_ = wanted["type"]
    if type_ in CHOICE_TYPES:
        return tool["type"] in CHOICE_TYPES[type_]
    key = "server_label" if type_ == "mcp" else "name"
    return tool["type"] == type_ and wanted.get(key) in (None, tool.get(key))


_RULES: Final[tuple[Callable[[CreateResponse, _Front], None], ...]] = (
    _model,
    _input,
    _trigger,
    _loaded,
    _one_history,
    _streaming,
    _background,
    _json_word,
    _unique_names,
    _tool_choice,
)
#: What no template can mend.
_OWN_RULES: Final = (_trigger, _loaded, _one_history, _streaming, _background, _unique_names)
