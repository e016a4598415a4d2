"""The bodies of the Prompts API, which is ours, in OpenAI's style (docs/prompts.md).

Rules
1. A version is a string of digits, as in `prompt.version` of a request.
2. Null is the same as absent, but for `draft`: null takes it away.
"""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, StringConstraints

from antiphon.protocol.fields import MAX_NAME, NO_NUL_PATTERN, WITH_ITEMS, Name
from antiphon.protocol.templates import TemplateField

#: What people call a prompt; it may be empty.
PromptName: TypeAlias = Annotated[
    str, StringConstraints(max_length=MAX_NAME, pattern=NO_NUL_PATTERN)
]


class NewPrompt(BaseModel):
    """The body of ``POST /v1/prompts``; `template` becomes version 1."""

    model_config = WITH_ITEMS

    name: PromptName | None = None
    template: TemplateField


class ChangedPrompt(BaseModel):
    """The body of ``POST /v1/prompts/{id}``."""

    model_config = WITH_ITEMS

    name: PromptName | None = None
    default_version: Name | None = None
    draft: TemplateField | None = None


class NewVersion(BaseModel):
    """The body of ``POST /v1/prompts/{id}/versions``; without a template the draft is published.
    Unless `default` is false the new version is what requests get that name none."""

    model_config = WITH_ITEMS

    template: TemplateField | None = None
    default: bool | None = None
