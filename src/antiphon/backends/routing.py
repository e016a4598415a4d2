"""Model name → backend.

Rules
1. An exact name beats a wildcard; among wildcards the first backend in the configuration wins.
2. `models` shows the exact names, and of what backends list themselves what their wildcards
   match; lists are cached for a short time. A backend that does not answer hides only its own.
   Their windows are what the backends answer: the configuration may know better than a list.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from antiphon.backends.base import Backend, Model
from antiphon.errors import ModelNotFound

#: Seconds for which the list of a backend is believed.
_LIST_TTL: Final = 10.0


class TableRouter:
    """Routes by a fixed table: each backend with its {client name: upstream name}."""

    def __init__(self, table: Sequence[tuple[Backend, Mapping[str, str]]]) -> None:
        self._table = table
        self._exact: dict[str, tuple[Backend, str]] = {}
        self._wildcards: list[tuple[str, Backend]] = []
        for backend, names in table:
            for name, upstream in names.items():
                if "*" in name:
                    self._wildcards.append((name, backend))
                else:
                    self._exact.setdefault(name, (backend, upstream))
        self._listed: dict[str, tuple[float, list[Model]]] = {}

    @property
    def backends(self) -> list[Backend]:
        """All backends, in the order of the configuration."""
        return [backend for backend, _ in self._table]

    def route(self, model: str) -> tuple[Backend, str]:
        """The backend that has `model`, and its name there."""
        exact = self._exact.get(model)
        if exact is not None:
            return exact
        for pattern, backend in self._wildcards:
            if fnmatchcase(model, pattern):
                return backend, model
        raise ModelNotFound(model)

    async def models(self) -> list[Model]:
        """All models that clients may name, each once."""
        lists = await asyncio.gather(*(self._list(backend) for backend in self.backends))
        found: dict[str, Model] = {}
        for (backend, names), listed in zip(self._table, lists, strict=True):
            known = {model.id: model for model in listed}
            for name, upstream in names.items():
                if "*" in name:
                    matching = [model for model in listed if fnmatchcase(model.id, name)]
                else:
                    matching = [known.get(upstream) or Model(upstream, backend.name)]
                for model in matching:
                    shown = model.id if "*" in name else name
                    if shown not in found:
                        window = await backend.window(model.id)
                        found[shown] = replace(model, id=shown, context_window=window)
        return list(found.values())

    async def _list(self, backend: Backend) -> list[Model]:
        now = time.monotonic()
        cached = self._listed.get(backend.name)
        if cached is not None and now - cached[0] < _LIST_TTL:
            return cached[1]
        models = await backend.models()
        self._listed[backend.name] = (now, models)
        return models

    async def aclose(self) -> None:
        """Close all backends."""
        for backend in self.backends:
            await backend.aclose()
