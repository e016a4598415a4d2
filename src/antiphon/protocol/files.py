"""Files and uploads on the wire: forms, and names of files (spec §2.3).

Rules
1. A form is checked as the same object in JSON would be, with the same texts: `nested` makes one of
   it. Null is the same as absent.
2. A name is what a human calls a file: it is shown, and nothing is ever opened by it (R-96).
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, StringConstraints, ValidationError, with_config
from typing_extensions import TypedDict

from antiphon.protocol.fields import CLOSED, MAX_INT, MAX_NAME, Id, Name
from antiphon.protocol.validation import refusal

Purpose: TypeAlias = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
#: Characters of a name (R-96).
MAX_FILENAME: Final = 255
#: What a file is called that has no name, as openai-python has it.
NAMELESS: Final = "upload"
#: Parts that an upload is made of, as S3 has it.
MAX_PARTS: Final = 10_000
#: Seconds that a file for a batch is kept unless its form says something else (OpenAI's rule).
BATCH_LIFETIME: Final = 30 * 86_400
#: The names of a form's fields beside the file.
FILE_FIELDS: Final = ("purpose", "expires_after[anchor]", "expires_after[seconds]")

#: Kinds of characters that are not seen, or turn the text around: control, format (bidi),
#: surrogate, private, unassigned, line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SEPARATOR: Final = re.compile(r"[/\\]")
#: Characters of an ending, with its dot, that a name keeps when it is cut.
MAX_ENDING: Final = 32


@with_config(CLOSED)
class ExpiresAfter(TypedDict):
    """How long a file is kept."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class NewFile(BaseModel):
    """The form of ``POST /v1/files`` without the file."""

    model_config = CLOSED

    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class NewUpload(BaseModel):
    """The body of ``POST /v1/uploads``."""

    model_config = CLOSED

    bytes: Annotated[int, Field(ge=1, le=MAX_INT)]
    filename: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
    #: Said, and not needed: what a file is, its bytes say.
    mime_type: Name
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class CompletedUpload(BaseModel):
    """The body of ``POST /v1/uploads/{id}/complete``; `md5`: of the whole file, in hex."""

    model_config = CLOSED

    part_ids: Annotated[list[Id], Field(max_length=MAX_PARTS, fail_fast=True)]
    md5: Name | None = None


def parse_file_form(form: Mapping[str, str]) -> NewFile:
    """What the fields of a form say. Raises `InvalidRequestError`."""
    body = _nested(form)
    try:
        return NewFile.model_validate(body)
    except ValidationError as error:
        raise refusal(error, body) from None


def check_early(form: Mapping[str, str]) -> None:
    """Refuse a purpose that came before the file, which then need not come. Raises
    `InvalidRequestError`."""
    if "purpose" in form:
        parse_file_form({"purpose": form["purpose"]})


def lifetime(purpose: str, expires_after: ExpiresAfter | None) -> int | None:
    """Seconds that a file is kept; None: until it is deleted."""
    if expires_after is not None:
        return expires_after["seconds"]
    return BATCH_LIFETIME if purpose == "batch" else None


def clean_filename(name: str) -> str:
    """A name without folders and without characters that nobody sees; never empty (R-96)."""
    seen = last_name(name) or NAMELESS
    if len(seen) <= MAX_FILENAME:
        return seen
    stem, dot, ending = seen.rpartition(".")
    if not stem or len(ending) >= MAX_ENDING:
        return seen[:MAX_FILENAME]
    return stem[: MAX_FILENAME - len(ending) - 1] + dot + ending


def last_name(name: str) -> str:
    """The same, however long; empty for what is no name."""
    last = _SEPARATOR.split(name)[-1]
    seen = "".join(char for char in last if unicodedata.category(char) not in _UNSEEN).strip()
    return "" if seen in (".", "..") else seen


def _nested(form: Mapping[str, str]) -> dict[str, Any]:
    """The form as an object; digits are integers there."""
    body: dict[str, Any] = {}
    for name, value in form.items():
        outer, _, inner = name.partition("[")
        if inner:
            is_number = re.fullmatch(r"-?[0-9]{1,18}", value) is not None
            inside = int(value) if inner == "seconds]" and is_number else value
            body.setdefault(outer, {})[inner.removesuffix("]")] = inside
        else:
            body[outer] = value
    return body
