"""Prompts in memory (`store.base.prompts`).

Rules
1. Same contract as the SQL ones (tests/store/test_contract_prompts.py runs on both).
2. Templates are kept encoded: what goes in and out is a copy.
"""

from dataclasses import dataclass, field, replace

import orjson

from antiphon.store import prompts
from antiphon.store.base import (
    MOST_PROMPTS,
    PromptChange,
    PromptRow,
    PromptVersion,
    Template,
)


@dataclass(slots=True)
class _Entry:
    """A prompt, and time and encoded template of its versions, of which the first is 1."""

    prompt: PromptRow
    versions: list[tuple[int, bytes]] = field(default_factory=list)

    def version(self, number: int) -> PromptVersion | None:
        """One of them."""
        if not 1 <= number <= len(self.versions):
            return None
        created_at, template = self.versions[number - 1]
        return PromptVersion(self.prompt.id, number, created_at, orjson.loads(template))


class MemoryPrompts:
    """See `Prompts`."""

    def __init__(self) -> None:
        #: By id, in the order in which they came.
        self._entries: dict[str, _Entry] = {}

    async def add(self, prompt: PromptRow, template: Template) -> bool:
        """See `Prompts.add`."""
        if prompt.id in self._entries:
            raise ValueError("A prompt with this id exists.")
        known = [
            entry for entry in self._entries.values() if entry.prompt.project == prompt.project
        ]
        if len(known) >= MOST_PROMPTS:
            return False
        first = (prompt.created_at, orjson.dumps(template))
        self._entries[prompt.id] = _Entry(_copy(prompt), [first])
        return True

    async def get(self, project: str, id: str) -> PromptRow | None:  # noqa: A002
        """See `Prompts.get`."""
        found = self._find(project, id)
        return _copy(found.prompt) if found else None

    async def all(self, project: str) -> list[PromptRow]:
        """See `Prompts.all`."""
        known = [entry.prompt for entry in self._entries.values()]
        found = [
            replace(prompt, draft=None) for prompt in reversed(known) if prompt.project == project
        ]
        return sorted(found, key=lambda prompt: -prompt.created_at)

    async def change(self, project: str, id: str, change: PromptChange, now: int) -> bool:  # noqa: A002
        """See `Prompts.change`."""
        found = self._find(project, id)
        new = prompts.changed(found.prompt, change, now) if found else None
        if found is None or new is None:
            return False
        found.prompt = _copy(new)
        return True

    async def publish(
        self,
        project: str,
        id: str,  # noqa: A002
        template: Template | None,
        now: int,
        *,
        default: bool,
    ) -> int | None:
        """See `Prompts.publish`."""
        found = self._find(project, id)
        said = found.prompt.draft if found is not None and template is None else template
        if found is None or said is None:
            return None
        drop = template is None
        new = prompts.published(found.prompt, now, default=default, drop_draft=drop)
        if new is None:
            return None
        found.versions.append((now, orjson.dumps(said)))
        found.prompt = new
        return new.versions

    async def version(self, project: str, id: str, version: int | None) -> PromptVersion | None:  # noqa: A002
        """See `Prompts.version`."""
        found = self._find(project, id)
        if found is None:
            return None
        return found.version(found.prompt.default_version if version is None else version)

    async def dates(self, project: str, id: str) -> list[int] | None:  # noqa: A002
        """See `Prompts.dates`."""
        found = self._find(project, id)
        return None if found is None else [time for time, _template in found.versions]

    async def versions(self, project: str, id: str) -> list[PromptVersion] | None:  # noqa: A002
        """See `Prompts.versions`."""
        found = self._find(project, id)
        if found is None:
            return None
        numbers = range(found.prompt.versions, 0, -1)
        return [one for number in numbers if (one := found.version(number)) is not None]

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Prompts.delete`."""
        if self._find(project, id) is None:
            return False
        del self._entries[id]
        return True

    def _find(self, project: str, id: str) -> _Entry | None:  # noqa: A002
        entry = self._entries.get(id)
        return entry if entry is not None and entry.prompt.project == project else None


def _copy(prompt: PromptRow) -> PromptRow:
    draft = None if prompt.draft is None else orjson.loads(orjson.dumps(prompt.draft))
    return replace(prompt, draft=draft)
