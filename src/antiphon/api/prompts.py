"""``/v1/prompts``: prompt templates and their versions (spec §1, `prompt`; docs/prompts.md).

Rules
1. The API is ours, in OpenAI's style: OpenAI shuts its prompt objects down (spec §1).
2. A version never changes. What a request without a version gets is the default one.
3. A template that could never become a request is refused when it is stored.
4. Lists show no templates, and nothing that has to be read from them: each may have 1 MiB.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from antiphon.api.auth import Authenticator
from antiphon.api.body import read_form
from antiphon.api.operations import Operations
from antiphon.api.query import EveryQuery, Limit
from antiphon.api.responses import JSON, check_id, paginate
from antiphon.errors import InvalidRequestError, PromptNotFound
from antiphon.protocol.prompts import ChangedPrompt, NewPrompt, NewVersion
from antiphon.protocol.templates import Template, check_steps, variables, version_number
from antiphon.protocol.validation import missing
from antiphon.store.base import (
    MOST_PROMPTS,
    MOST_VERSIONS,
    PromptChange,
    PromptRow,
    Prompts,
    PromptVersion,
)

#: Bytes of a body: a template of full size, however its characters are escaped.
_MAX_BODY: Final = 8 * 1024 * 1024


class ListQuery(EveryQuery):
    """The query of both lists; `after`: an id, or a version."""

    after: str | None = None
    limit: Limit = 20


class PromptEndpoints:
    """The endpoints on prompts."""

    def __init__(
        self, prompts: Prompts, auth: Authenticator, clock: Callable[[], float] = time.time
    ) -> None:
        self._prompts = prompts
        self._clock = clock
        self.operations = Operations("Prompts", "/v1/prompts", auth)
        add, one, versions = self.operations.add, "/{prompt_id}", "/{prompt_id}/versions"
        add("POST", "", self.create)
        add("GET", "", self.list, ListQuery)
        add("GET", one, self.retrieve)
        add("POST", one, self.update)
        add("DELETE", one, self.delete)
        add("POST", versions, self.publish)
        add("GET", versions, self.list_versions, ListQuery)
        add("GET", versions + "/{version}", self.retrieve_version)

    async def create(self, request: Request) -> Response:
        """A new prompt with its version 1."""
        body = await read_form(request, NewPrompt, limit=_MAX_BODY)
        project, now = request.state.project, self._now()
        await _check(body.template, project)
        id_ = "pmpt_" + secrets.token_hex(24)
        row = PromptRow(id_, project, body.name or "", created_at=now, updated_at=now)
        if not await self._prompts.add(row, body.template):
            raise InvalidRequestError(
                f"This project has {MOST_PROMPTS} prompts, which is the limit. Delete one to add "
                "another."
            )
        return _json(_shape(row, body.template))

    async def list(self, request: Request, query: ListQuery) -> Response:
        """The prompts of the project, newest first."""
        found = await self._prompts.all(request.state.project)
        oldest_first = [_head(row) for row in reversed(found)]
        return _json(paginate(oldest_first, query.limit, "desc", query.after))

    async def retrieve(self, request: Request, prompt_id: str) -> Response:
        """One prompt."""
        return _json(await self._shown(await self._row(request, prompt_id)))

    async def update(self, request: Request, prompt_id: str) -> Response:
        """Change its name, its default version, or its draft."""
        row = await self._row(request, prompt_id)
        body = await read_form(request, ChangedPrompt, limit=_MAX_BODY)
        default = None
        if body.default_version is not None:
            default = version_number(prompt_id, body.default_version, param="default_version")
            if default > row.versions:
                raise PromptNotFound(prompt_id, body.default_version, param="default_version")
        if body.draft is not None:
            await _check(body.draft, row.project, "draft")
        drop = "draft" in body.model_fields_set and body.draft is None
        change = PromptChange(body.name, default, body.draft, drop_draft=drop)
        if not await self._prompts.change(row.project, prompt_id, change, self._now()):
            raise PromptNotFound(prompt_id)
        return await self.retrieve(request, prompt_id)

    async def delete(self, request: Request, prompt_id: str) -> Response:
        """Forget a prompt and its versions."""
        check_id(prompt_id, "prompt_id", "pmpt")
        if not await self._prompts.delete(request.state.project, prompt_id):
            raise PromptNotFound(prompt_id)
        return _json({"id": prompt_id, "object": "prompt.deleted", "deleted": True})

    async def publish(self, request: Request, prompt_id: str) -> Response:
        """A new version: the template of the body, else the draft, which is then gone."""
        row = await self._row(request, prompt_id)
        body = await read_form(request, NewVersion, limit=_MAX_BODY, absent=b"{}")
        if body.template is not None:
            await _check(body.template, row.project)
        number = await self._prompts.publish(
            row.project, prompt_id, body.template, self._now(), default=body.default is not False
        )
        if number is None:
            if (await self._row(request, prompt_id)).versions >= MOST_VERSIONS:
                raise InvalidRequestError(
                    f"This prompt has {MOST_VERSIONS} versions, which is the limit. Make another "
                    "prompt to go on."
                )
            raise missing("template")
        return _json(_version_shape(await self._version(row, number)))

    async def list_versions(self, request: Request, prompt_id: str, query: ListQuery) -> Response:
        """The versions of a prompt, newest first."""
        check_id(prompt_id, "prompt_id", "pmpt")
        dates = await self._prompts.dates(request.state.project, prompt_id)
        if dates is None:
            raise PromptNotFound(prompt_id)
        oldest_first = [_version_head(prompt_id, n, date) for n, date in enumerate(dates, 1)]
        return _json(paginate(oldest_first, query.limit, "desc", query.after))

    async def retrieve_version(self, request: Request, prompt_id: str, version: str) -> Response:
        """One version."""
        row = await self._row(request, prompt_id)
        number = version_number(prompt_id, version)
        return _json(_version_shape(await self._version(row, number)))

    async def _row(self, request: Request, prompt_id: str) -> PromptRow:
        check_id(prompt_id, "prompt_id", "pmpt")
        row = await self._prompts.get(request.state.project, prompt_id)
        if row is None:
            raise PromptNotFound(prompt_id)
        return row

    async def _version(self, row: PromptRow, number: int) -> PromptVersion:
        found = await self._prompts.version(row.project, row.id, number)
        if found is None:
            raise PromptNotFound(row.id, str(number))
        return found

    async def _shown(self, row: PromptRow) -> dict[str, Any]:
        return _shape(row, (await self._version(row, row.default_version)).template)

    def _now(self) -> int:
        return int(self._clock())


async def _check(template: Template, project: str, name: str = "template") -> None:
    """Raises `InvalidRequestError`; others get their turn between two schemas (R-118)."""
    for _ in check_steps(template, project, name):
        await asyncio.sleep(0)


def _head(row: PromptRow) -> dict[str, Any]:
    """A prompt in a list."""
    return {
        "id": row.id,
        "object": "prompt",
        "name": row.name,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "default_version": str(row.default_version),
        "latest_version": str(row.versions),
    }


def _shape(row: PromptRow, default: Template) -> dict[str, Any]:
    """`default`: the template of the default version."""
    return {**_head(row), "variables": variables(default), "draft": row.draft}


def _version_head(prompt_id: str, number: int, created_at: int) -> dict[str, Any]:
    """A version in a list."""
    return {
        "id": str(number),
        "object": "prompt.version",
        "prompt_id": prompt_id,
        "version": str(number),
        "created_at": created_at,
    }


def _version_shape(version: PromptVersion) -> dict[str, Any]:
    head = _version_head(version.prompt_id, version.version, version.created_at)
    return {**head, "variables": variables(version.template), "template": version.template}


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)
