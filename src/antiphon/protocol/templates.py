"""Prompt templates: what one may say, and the request that comes of it (spec §1, `prompt`).

Rules
1. A template says what the model is told and how it answers; who asks, how the answer is delivered
   and what is kept of it is the request's own business. Limits and error texts are a request's.
2. A field that the request sets overrides the template's, as a whole. `input` does not: the
   template's messages stand before all that was said (`Applied.front`).
3. ``{{name}}`` in `instructions` and in the texts of messages is a variable (`variables.py`).
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

import orjson
from pydantic import AfterValidator, BaseModel, Field, create_model

from antiphon.errors import InvalidRequestError, PromptNotFound
from antiphon.protocol.fields import WITH_ITEMS, Text, by_kind, one_of, shape
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import (
    MAX_ITEMS,
    CreateResponse,
    check_rules,
    item_tag,
    long_form,
    text_input,
)
from antiphon.protocol.schemas import schema_steps
from antiphon.protocol.validation import echo
from antiphon.protocol.variables import Values, check_names, check_places, echoed, names_in

Json: TypeAlias = dict[str, Any]
#: The fields that a template sets; `input` in its long form, nothing null.
Template: TypeAlias = dict[str, Any]

#: Bytes of a template as JSON: more words than any model reads at once.
MAX_BYTES: Final = 1024 * 1024
#: Fields of a request that a template may set, besides `input`.
_SHARED: Final = (
    "model",
    "include",
    "tools",
    "tool_choice",
    "text",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "max_output_tokens",
    "max_tool_calls",
    "reasoning",
    "truncation",
    "instructions",
    "top_logprobs",
    "context_management",
)
_VERSION: Final = re.compile("[1-9][0-9]{0,8}")


# -- what a template may say ---------------------------------------------------------------------


_Messages: TypeAlias = Annotated[
    list[Item],
    by_kind(
        array=Annotated[
            list[Annotated[Item, one_of(item_tag, {"message": ITEM_TYPES["message"].shape})]],
            Field(max_length=MAX_ITEMS, fail_fast=True),
            AfterValidator(long_form),
        ],
        string=Annotated[Text, AfterValidator(text_input)],
    ),
]
_FIELDS: Final[Json] = {
    "input": (_Messages | None, None),
    **{
        name: (field.annotation, field)
        for name, field in CreateResponse.model_fields.items()
        if name in _SHARED
    },
}
_FORM: Final = create_model(
    "PromptTemplate",
    __config__=WITH_ITEMS,
    __doc__="What a stored prompt sets of a request.",
    **_FIELDS,
)


def _without_nulls(form: BaseModel) -> Template:
    return {name: value for name, value in form if value not in (None, [])}


#: A template in a body: the client's JSON becomes a `Template`.
TemplateField: TypeAlias = Annotated[Json, shape(_FORM), AfterValidator(_without_nulls)]


def check_steps(
    template: Template, project: str = "", name: str = "template"
) -> Generator[None, None, None]:
    """Refuse what no request can mend, in steps between which others may work (`schema_steps`);
    `name` is what the body calls it.

    Held against the rules is the best request that the template could meet.
    """
    if (size := len(orjson.dumps(template))) > MAX_BYTES:
        raise InvalidRequestError(
            f"Invalid '{name}': too large. Expected at most {MAX_BYTES} bytes of JSON, but got "
            f"{size} instead.",
            param=name,
            code="template_too_large",
        )
    _check_secrets(template.get("tools", ()), name)
    check_places(template.get("instructions", ""), template.get("input", ()), name)
    probe = CreateResponse().model_copy(
        update={"model": "any", **template, "input": text_input("json")}
    )
    if "tools" not in template:
        probe.tool_choice = None
    try:
        check_rules(probe, ())
        yield from schema_steps(probe, project)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            error.message, param=f"{name}.{error.param}", code=error.code
        ) from None


def _check_secrets(tools: Sequence[Json], name: str) -> None:
    """What is a secret of a request is never stored (R-91)."""
    for place, tool in enumerate(tools):
        for key in ("authorization", "headers"):
            if tool["type"] == "mcp" and tool.get(key):
                raise InvalidRequestError(
                    f"A template cannot hold '{key}': it would be stored. Send the tool with the "
                    "request, or name a server of the configuration by 'connector_id'.",
                    param=f"{name}.tools[{place}].{key}",
                    code="invalid_value",
                )


def variables(template: Template) -> list[str]:
    """The names of all variables, in order of appearance."""
    return names_in(template.get("instructions", ""), template.get("input", ()))


# -- a request with its template -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Applied:
    """A request that a template was put into. `request` echoes the version that it was;
    `front`: the template's messages, which stand before all history. They have no ids."""

    request: CreateResponse
    front: list[Item]


def wanted_version(prompt: Json) -> int | None:
    """The version that `prompt` of a request names; None: the default one. Raises
    `PromptNotFound`."""
    version = prompt.get("version")
    return None if version is None else version_number(prompt["id"], version, param="prompt")


def version_number(prompt_id: str, version: str, *, param: str | None = None) -> int:
    """The number of a version as clients write it. Raises `PromptNotFound` where there can be
    none."""
    if not _VERSION.fullmatch(version):
        raise PromptNotFound(prompt_id, echo(version), param=param)
    return int(version)


def apply_template(request: CreateResponse, template: Template, version: int) -> Applied:
    """Put version `version` of its prompt into `request`. Raises `InvalidRequestError`: a variable
    that is missing or unknown, or a rule that the outcome breaks."""
    prompt = request.prompt or {}
    # `input` is always there, so that of the template never takes its place.
    asked = {name for name, value in request if value is not None}
    taken = {name: value for name, value in template.items() if name not in asked}
    given: Json = prompt.get("variables") or {}
    instructions = taken.get("instructions", "")
    messages = template.get("input", ())
    check_names(given, known=variables(template), used=names_in(instructions, messages))
    values = Values(given)
    if instructions:
        taken["instructions"] = values.fill(instructions, "its instructions")
    front = [values.filled(message) for message in messages]
    echo_of = {key: echoed(value) for key, value in given.items()}
    shown = {"id": prompt["id"], "version": str(version), "variables": echo_of}
    applied = request.model_copy(update={**taken, "prompt": shown})
    check_rules(applied, front)
    return Applied(applied, front)
