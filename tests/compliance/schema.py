"""What Open Responses says a Response, its items and its events look like (spec §10.1, §10.3), as
plain checks: `check` is as strict as the judge of the compliance suite, or stricter.

Rules
1. A check yields what is wrong as ``path: what``; nothing means valid.
2. Objects are open: a key that nobody names here may hold anything.
3. A key in the first table of `shape` must be there; one in the second may be absent. Whether it
   may be null is said by its own check.
4. Types are strict: true is no integer, 1.0 is none either, "1" is no number.
5. Unions are told apart by `type`. What has another `type` is not in the union, hosted tools and
   their events among it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

Check: TypeAlias = Callable[[Any, str], Iterator[str]]
Keys: TypeAlias = Mapping[str, Check]


def check(what: Check, value: Any) -> list[str]:
    """All that is wrong with `value`."""
    return list(what(value, "$"))


def _typed(name: str, *types: type) -> Check:
    def checked(value: Any, path: str) -> Iterator[str]:
        if type(value) not in types:
            yield f"{path}: expected {name}, got {value!r:.60}"

    return checked


def anything(value: Any, path: str) -> Iterator[str]:
    """No rule at all."""
    yield from ()


TEXT: Final = _typed("a string", str)
INTEGER: Final = _typed("an integer", int)
NUMBER: Final = _typed("a number", int, float)
BOOLEAN: Final = _typed("a boolean", bool)
NULL: Final = _typed("null", type(None))
OBJECT: Final = _typed("an object", dict)


def nullable(inner: Check) -> Check:
    """`inner`, or null."""

    def checked(value: Any, path: str) -> Iterator[str]:
        if value is not None:
            yield from inner(value, path)

    return checked


def literal(*words: str) -> Check:
    """One of these strings."""

    def checked(value: Any, path: str) -> Iterator[str]:
        if type(value) is not str or value not in words:
            yield f"{path}: expected one of {words}, got {value!r:.60}"

    return checked


def each(inner: Check) -> Check:
    """A list of these."""

    def checked(value: Any, path: str) -> Iterator[str]:
        if type(value) is not list:
            yield f"{path}: expected a list, got {value!r:.60}"
            return
        for index, element in enumerate(value):
            yield from inner(element, f"{path}[{index}]")

    return checked


def mapping(inner: Check) -> Check:
    """An object whose values are these."""

    def checked(value: Any, path: str) -> Iterator[str]:
        yield from OBJECT(value, path)
        if type(value) is dict:
            for key, element in value.items():
                yield from inner(element, f"{path}.{key}")

    return checked


def shape(required: Keys, optional: Keys | None = None) -> Check:
    """An object with these keys."""

    def checked(value: Any, path: str) -> Iterator[str]:
        if type(value) is not dict:
            yield f"{path}: expected an object, got {value!r:.60}"
            return
        for key, inner in required.items():
            if key in value:
                yield from inner(value[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: missing"
        for key, inner in (optional or {}).items():
            if key in value:
                yield from inner(value[key], f"{path}.{key}")

    return checked


def union(members: Keys) -> Check:
    """An object that is told by its `type`."""

    def checked(value: Any, path: str) -> Iterator[str]:
        yield from OBJECT(value, path)
        if type(value) is dict:
            inner = members.get(str(value.get("type")))
            if inner is None:
                yield f"{path}: {value.get('type')!r:.60} is not in the union"
            else:
                yield from inner(value, path)

    return checked


_URL_CITATION: Final = shape(
    {"url": TEXT, "title": TEXT, "start_index": INTEGER, "end_index": INTEGER}
)
_ANNOTATION: Final = union({"url_citation": _URL_CITATION})
_TOP_LOGPROB: Final = {"token": TEXT, "logprob": NUMBER, "bytes": each(INTEGER)}
_LOGPROBS: Final = each(shape({**_TOP_LOGPROB, "top_logprobs": each(shape(_TOP_LOGPROB))}))
_STATUS: Final = literal("in_progress", "completed", "incomplete")
_TEXT_PART: Final = shape({"text": TEXT})

_INPUT_PARTS: Final[Keys] = {
    "input_text": _TEXT_PART,
    "input_image": shape({"image_url": nullable(TEXT), "detail": literal("low", "high", "auto")}),
    "input_file": shape({}, {"filename": TEXT, "file_url": TEXT}),
}
_PARTS: Final[Keys] = {
    **_INPUT_PARTS,
    "output_text": shape({"text": TEXT, "annotations": each(_ANNOTATION)}, {"logprobs": _LOGPROBS}),
    "text": _TEXT_PART,
    "summary_text": _TEXT_PART,
    "reasoning_text": _TEXT_PART,
    "refusal": shape({"refusal": TEXT}),
}
_PART: Final = union(_PARTS)
_MESSAGE_PART: Final = union({**_PARTS, "input_video": shape({"video_url": TEXT})})


def _output(value: Any, path: str) -> Iterator[str]:
    """The output of a function: a string, or parts of input."""
    yield from (TEXT if type(value) is str else each(union(_INPUT_PARTS)))(value, path)


ITEM: Final = union(
    {
        "message": shape(
            {
                "id": TEXT,
                "status": _STATUS,
                "role": literal("user", "assistant", "system", "developer"),
                "content": each(_MESSAGE_PART),
            },
            {"phase": literal("commentary", "final_answer")},
        ),
        "function_call": shape(
            {"id": TEXT, "call_id": TEXT, "name": TEXT, "arguments": TEXT, "status": _STATUS}
        ),
        "function_call_output": shape(
            {"id": TEXT, "call_id": TEXT, "output": _output, "status": _STATUS}
        ),
        "reasoning": shape(
            {"id": TEXT, "summary": each(_PART)},
            {"content": each(_PART), "encrypted_content": TEXT},
        ),
        "compaction": shape({"id": TEXT, "encrypted_content": TEXT}, {"created_by": TEXT}),
    }
)

_USAGE: Final = shape(
    {
        "input_tokens": INTEGER,
        "input_tokens_details": shape({"cached_tokens": INTEGER}),
        "output_tokens": INTEGER,
        "output_tokens_details": shape({"reasoning_tokens": INTEGER}),
        "total_tokens": INTEGER,
    }
)
_TOOL: Final = union(
    {
        "function": shape(
            {
                "name": TEXT,
                "description": nullable(TEXT),
                "parameters": nullable(OBJECT),
                "strict": nullable(BOOLEAN),
            }
        )
    }
)
_MODE: Final = literal("none", "auto", "required")
_FUNCTION: Final = shape({"type": literal("function")}, {"name": TEXT})
_CHOICE: Final = union(
    {
        "function": _FUNCTION,
        "allowed_tools": shape({"tools": each(_FUNCTION), "mode": _MODE}),
    }
)


def _tool_choice(value: Any, path: str) -> Iterator[str]:
    yield from (_MODE if type(value) is str else _CHOICE)(value, path)


_FORMAT: Final = union(
    {
        "text": OBJECT,
        "json_object": OBJECT,
        # A schema in the echo fails: a quirk of their document that no case of theirs meets.
        "json_schema": shape(
            {"name": TEXT, "description": nullable(TEXT), "schema": NULL, "strict": BOOLEAN}
        ),
    }
)
_REASONING: Final = shape(
    {
        "effort": nullable(literal("none", "low", "medium", "high", "xhigh")),
        "summary": nullable(literal("concise", "detailed", "auto")),
    }
)

#: Keys that must be there and hold something.
_HELD: Final[Keys] = {
    "id": TEXT,
    "created_at": INTEGER,
    "status": TEXT,
    "background": BOOLEAN,
    "frequency_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "model": TEXT,
    "output": each(ITEM),
    "parallel_tool_calls": BOOLEAN,
    "service_tier": TEXT,
    "store": BOOLEAN,
    "temperature": NUMBER,
    "text": shape({"format": _FORMAT}, {"verbosity": literal("low", "medium", "high")}),
    "tool_choice": _tool_choice,
    "tools": each(_TOOL),
    "top_logprobs": INTEGER,
    "top_p": NUMBER,
    "truncation": literal("auto", "disabled"),
}
#: Keys that must be there and may be null.
_SHOWN: Final[Keys] = {
    "completed_at": INTEGER,
    "error": shape({"code": TEXT, "message": TEXT}),
    "incomplete_details": shape({"reason": TEXT}),
    "instructions": TEXT,
    "max_output_tokens": INTEGER,
    "max_tool_calls": INTEGER,
    "previous_response_id": TEXT,
    "prompt_cache_key": TEXT,
    "reasoning": _REASONING,
    "safety_identifier": TEXT,
    "usage": _USAGE,
}
RESPONSE: Final = shape(
    {**_HELD, **{key: nullable(inner) for key, inner in _SHOWN.items()}},
    {"object": nullable(literal("response")), "metadata": anything},
)

COMPACTION: Final = shape(
    {
        "id": TEXT,
        "object": literal("response.compaction"),
        "created_at": INTEGER,
        "output": each(ITEM),
        "usage": _USAGE,
    }
)

_ERROR: Final = {"message": TEXT, "code": nullable(TEXT), "param": nullable(TEXT), "type": TEXT}
#: An `error` frame of a WebSocket.
SOCKET_ERROR: Final = shape(
    {"type": literal("error"), "status": INTEGER, "error": shape({"code": TEXT, "message": TEXT})}
)

_AT_ITEM: Final[Keys] = {"item_id": TEXT, "output_index": INTEGER}
_AT_PART: Final[Keys] = {**_AT_ITEM, "content_index": INTEGER}
_AT_SUMMARY: Final[Keys] = {**_AT_ITEM, "summary_index": INTEGER}
_STATE: Final = ({"response": RESPONSE}, None)
_ITEM_EVENT: Final = ({"output_index": INTEGER, "item": nullable(ITEM)}, None)
_PADDED: Final[Keys] = {"obfuscation": TEXT}

#: The 24 events, each with the keys that must and those that may be there, besides its type and
#: `sequence_number`.
_EVENTS: Final[Mapping[str, tuple[Keys, Keys | None]]] = {
    "response.created": _STATE,
    "response.queued": _STATE,
    "response.in_progress": _STATE,
    "response.completed": _STATE,
    "response.failed": _STATE,
    "response.incomplete": _STATE,
    "response.output_item.added": _ITEM_EVENT,
    "response.output_item.done": _ITEM_EVENT,
    "response.content_part.added": ({**_AT_PART, "part": _PART}, None),
    "response.content_part.done": ({**_AT_PART, "part": _PART}, None),
    "response.output_text.delta": (
        {**_AT_PART, "delta": TEXT},
        {**_PADDED, "logprobs": _LOGPROBS},
    ),
    "response.output_text.done": ({**_AT_PART, "text": TEXT}, {"logprobs": _LOGPROBS}),
    "response.output_text.annotation.added": (
        {**_AT_PART, "annotation_index": INTEGER, "annotation": nullable(_ANNOTATION)},
        None,
    ),
    "response.refusal.delta": ({**_AT_PART, "delta": TEXT}, None),
    "response.refusal.done": ({**_AT_PART, "refusal": TEXT}, None),
    "response.function_call_arguments.delta": ({**_AT_ITEM, "delta": TEXT}, _PADDED),
    "response.function_call_arguments.done": ({**_AT_ITEM, "arguments": TEXT}, None),
    "response.reasoning_summary_part.added": ({**_AT_SUMMARY, "part": _PART}, None),
    "response.reasoning_summary_part.done": ({**_AT_SUMMARY, "part": _PART}, None),
    "response.reasoning_summary_text.delta": ({**_AT_SUMMARY, "delta": TEXT}, _PADDED),
    "response.reasoning_summary_text.done": ({**_AT_SUMMARY, "text": TEXT}, None),
    "response.reasoning.delta": ({**_AT_PART, "delta": TEXT}, _PADDED),
    "response.reasoning.done": ({**_AT_PART, "text": TEXT}, None),
    "error": ({"error": shape(_ERROR, {"headers": mapping(TEXT)})}, None),
}
EVENT_TYPES: Final = frozenset(_EVENTS)
EVENT: Final = union(
    {
        name: shape({"sequence_number": INTEGER, **required}, optional)
        for name, (required, optional) in _EVENTS.items()
    }
)
