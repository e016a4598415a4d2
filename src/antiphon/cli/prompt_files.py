"""Prompts as files that people review (docs/prompts.md).

    FOLDER/support-answer/prompt.yaml       id, name, default version, the newest template
    FOLDER/support-answer/versions/1.yaml   what it was before; never changes

Rules
1. The same prompt gives the same bytes: keys in a fixed order, texts of several lines as blocks.
2. Whatever is wrong is a `PromptFileError`, which names the file in one line.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, Field, ValidationError

from antiphon.errors import InvalidRequestError
from antiphon.protocol.fields import WITH_ITEMS, Id
from antiphon.protocol.items.message import normalise
from antiphon.protocol.prompts import PromptName
from antiphon.protocol.templates import Template, TemplateField, check_steps
from antiphon.protocol.validation import invalid_type, refusal

Json: TypeAlias = dict[str, Any]

PROMPT: Final = "prompt.yaml"
VERSIONS: Final = "versions"
_VERSION: Final = re.compile(r"([1-9][0-9]{0,8})\.yaml")
_MAX_BYTES: Final = 4 * 1024 * 1024
_SLUG: Final = 60
#: Fields of a template that stand at the top.
_FIRST: Final = ("model", "instructions", "input")


class PromptFileError(ValueError):
    """A file that cannot be used: ``path: why``."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {' '.join(why.split())}")


@dataclass(frozen=True, slots=True)
class PromptFiles:
    """A prompt as its folder at `path` has it. `older`: the templates before the newest one."""

    path: Path
    id: str
    name: str
    #: None: the version that has the newest template's text.
    default_version: int | None
    newest: Template
    older: dict[int, Template]

    @property
    def number(self) -> int:
        """The version that the newest template is, as far as the files know."""
        return max(self.older, default=0) + 1


# -- reading -------------------------------------------------------------------------------------


class _VersionFile(BaseModel):
    model_config = WITH_ITEMS

    template: TemplateField


class _PromptFile(_VersionFile):
    id: Id | None = None
    name: PromptName | None = None
    default_version: Annotated[int, Field(ge=1, le=999_999_999)] | None = None


_Form = TypeVar("_Form", bound=_VersionFile)


def read_folder(folder: Path, project: str) -> list[PromptFiles]:
    """All prompts of a folder, by name of their own folders. Raises `PromptFileError` or OSError.

    A prompt without an id gets the one that belongs to its project and folder name.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found.append(_read_prompt(path, project))
        elif path.suffix in (".yaml", ".yml"):
            raise PromptFileError(path, f"a prompt is a folder with a {PROMPT}")
    ids: dict[str, Path] = {}
    for files in found:
        if (other := ids.setdefault(files.id, files.path)) != files.path:
            raise PromptFileError(files.path, f"has the same id as {other}")
    return found


def _read_prompt(path: Path, project: str) -> PromptFiles:
    file = path / PROMPT
    if not file.is_file():
        raise PromptFileError(path, f"has no {PROMPT}")
    read = _validated(file, _PromptFile)
    derived = hashlib.sha256(f"{project}/{path.name}".encode()).hexdigest()[:48]
    id_ = read.id or f"pmpt_{derived}"
    if not id_.startswith("pmpt_"):
        raise PromptFileError(file, f"invalid id '{id_}': it begins with 'pmpt_'")
    older = dict(_older(path / VERSIONS))
    name = path.name if read.name is None else read.name
    return PromptFiles(path, id_, name, read.default_version, read.template, older)


def _older(folder: Path) -> Iterator[tuple[int, Template]]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        number = _VERSION.fullmatch(path.name)
        if number is None:
            raise PromptFileError(path, "a version is a file such as 1.yaml")
        yield int(number[1]), _validated(path, _VersionFile).template


def _validated(path: Path, form: type[_Form]) -> _Form:
    from antiphon.cli.plain_yaml import load  # noqa: PLC0415

    if path.stat().st_size > _MAX_BYTES:
        raise PromptFileError(path, f"larger than {_MAX_BYTES} bytes")
    try:
        body = load(path.read_bytes())
    except ValueError as error:
        raise PromptFileError(path, str(error)) from None
    try:
        if not isinstance(body, dict):
            raise invalid_type(None, "an object", body)
        read = form.model_validate(body)
        for _ in check_steps(read.template):
            pass
    except ValidationError as error:
        raise PromptFileError(path, refusal(error, body).message) from None
    except InvalidRequestError as error:
        raise PromptFileError(path, error.message) from None
    return read


# -- writing -------------------------------------------------------------------------------------


def write_prompt(files: PromptFiles) -> bool:
    """Write the files of a prompt; whether any of them changed. Raises OSError."""
    head: Json = {"id": files.id, "name": files.name}
    if files.default_version not in (None, files.number):
        head["default_version"] = files.default_version
    changed = _write(files.path / PROMPT, {**head, "template": _short(files.newest)})
    for number, template in files.older.items():
        path = files.path / VERSIONS / f"{number}.yaml"
        changed = _write(path, {"template": _short(template)}) or changed
    return changed


def _write(path: Path, body: Json) -> bool:
    from antiphon.cli.plain_yaml import dump  # noqa: PLC0415

    text = dump(body).encode()
    if path.is_file() and path.read_bytes() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return True


def known_folders(folder: Path, project: str) -> dict[str, Path]:
    """Id of a prompt → its folder in `folder`, which need not be there. Raises `PromptFileError` or
    OSError."""
    if not folder.exists():
        return {}
    return {files.id: files.path for files in read_folder(folder, project)}


def new_folder(folder: Path, name: str, id_: str) -> Path:
    """Where a new prompt goes: its name in plain letters, plus a piece of its id where need be."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG].strip("-") or "prompt"
    path = folder / slug
    return folder / f"{slug}-{id_[5:13]}" if path.exists() else path


def _short(template: Template) -> Template:
    """The template as people write it: what is said first, messages in their short form."""
    if "input" in template:
        template = {**template, "input": [_short_message(one) for one in template["input"]]}
    return _in_order(template, _FIRST)


def _short_message(message: Json) -> Json:
    content = message["content"]
    short = {"role": message["role"], "content": content[0].get("text") if content else None}
    if short["content"] is not None:
        long = dict(short)
        normalise(long)
        if long == message:
            return short
    return _in_order({key: message[key] for key in message if key != "type"}, ("role",))


def _in_order(value: Json, first: Sequence[str]) -> Json:
    return {key: value[key] for key in (*first, *value) if key in value}
