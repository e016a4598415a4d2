"""What becomes of the row of a prompt, whatever store keeps it."""

from dataclasses import replace

from antiphon.store.base import MOST_VERSIONS, PromptChange, PromptRow


def changed(prompt: PromptRow, change: PromptChange, now: int) -> PromptRow | None:
    """It after the change; None when it has not the version that shall be its default."""
    default = prompt.default_version if change.default_version is None else change.default_version
    if not 1 <= default <= prompt.versions:
        return None
    draft = prompt.draft if change.draft is None else change.draft
    return replace(
        prompt,
        name=prompt.name if change.name is None else change.name,
        default_version=default,
        draft=None if change.drop_draft else draft,
        updated_at=now,
    )


def published(prompt: PromptRow, now: int, *, default: bool, drop_draft: bool) -> PromptRow | None:
    """It with one version more; None when it has all that it may have."""
    if prompt.versions >= MOST_VERSIONS:
        return None
    number = prompt.versions + 1
    return replace(
        prompt,
        versions=number,
        default_version=number if default else prompt.default_version,
        draft=None if drop_draft else prompt.draft,
        updated_at=now,
    )
