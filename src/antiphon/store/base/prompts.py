"""The port to prompt templates (spec §1, `prompt`).

Rules
1. A version never changes: a new text is a new version, numbered from 1. Only the draft, which no
   request can use, is written over.
2. A request that names no version gets the default one.
3. A project has so many prompts and a prompt so many versions that each list can be read as a
   whole; lists hold no templates and no drafts, which have up to 1 MiB each.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

#: The fields of a request that a template sets (`protocol.templates`).
Template: TypeAlias = dict[str, Any]

#: Prompts of one project, and versions of one prompt.
MOST_PROMPTS: Final = 1_000
MOST_VERSIONS: Final = 1_000


@dataclass(slots=True)
class PromptRow:
    """``pmpt_…`` and what may change of it; times in Unix seconds."""

    id: str
    project: str
    name: str
    created_at: int
    updated_at: int
    default_version: int = 1
    #: How many versions there are: the newest has this number.
    versions: int = 1
    draft: Template | None = None


@dataclass(slots=True)
class PromptVersion:
    """One version of a prompt."""

    prompt_id: str
    version: int
    created_at: int
    template: Template


@dataclass(frozen=True, slots=True)
class PromptChange:
    """What of a prompt becomes different; None: nothing. `drop_draft`: there is no draft then."""

    name: str | None = None
    default_version: int | None = None
    draft: Template | None = None
    drop_draft: bool = False


class Prompts(Protocol):
    """Prompts and their versions."""

    async def add(self, prompt: PromptRow, template: Template) -> bool:
        """Store a new prompt with its version 1, unless its project has `MOST_PROMPTS`: whether it
        did. ValueError when its id is taken."""
        ...

    async def get(self, project: str, id: str) -> PromptRow | None:  # noqa: A002
        """One prompt."""
        ...

    async def all(self, project: str) -> list[PromptRow]:
        """All prompts of a project, newest first, without their drafts."""
        ...

    async def change(self, project: str, id: str, change: PromptChange, now: int) -> bool:  # noqa: A002
        """Change a prompt; whether it is there and has the version that shall be its default."""
        ...

    async def publish(
        self,
        project: str,
        id: str,  # noqa: A002
        template: Template | None,
        now: int,
        *,
        default: bool,
    ) -> int | None:
        """Add a version, which becomes the `default` one or not; its number, None when there is no
        such prompt or it has `MOST_VERSIONS`. `template` None: the draft becomes it and is gone;
        None without a draft."""
        ...

    async def version(self, project: str, id: str, version: int | None) -> PromptVersion | None:  # noqa: A002
        """One version; None: the default one."""
        ...

    async def dates(self, project: str, id: str) -> list[int] | None:  # noqa: A002
        """When its versions were stored, the first one first."""
        ...

    async def versions(self, project: str, id: str) -> list[PromptVersion] | None:  # noqa: A002
        """All versions, newest first."""
        ...

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget a prompt and its versions; whether it was there."""
        ...
