"""Model name → backend.

Rules
1. An exact name beats a wildcard; a route beats what backends say they have; among wildcards the
   first one in the configuration wins.
2. A route has targets, of which one is asked, and fallbacks, which are asked in their order when
   that fails (`fallback.py`). Which target it is, chance decides by their weights; what belongs
   together (`key`) always has the same order, so that the caches of models are of use.
3. `models` shows the exact names, and of what backends list themselves what their wildcards
   match; lists are cached for a short time. A backend that does not answer hides only its own.
   Their windows are what the backends answer: the configuration may know better than a list.
"""

import asyncio
import hashlib
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from antiphon.backends.base import Backend, Model
from antiphon.backends.fallback import Fallback, Target
from antiphon.errors import ModelNotFound

#: Seconds for which the list of a backend is believed.
_LIST_TTL: Final = 10.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a model is, by the name that clients use; a target whose `model` has a ``*`` has it
    under that same name. `weights` are those of `targets`; `seconds`: see `Fallback`."""

    name: str
    targets: Sequence[Target]
    weights: Sequence[float]
    fallbacks: Sequence[Target] = ()
    seconds: float = 60.0

    def order(self, model: str, key: str | None) -> list[Target]:
        """All targets, the one to be asked first in front."""
        chances = [_chance(place, key) for place in range(len(self.targets))]
        places = sorted(
            range(len(self.targets)),
            key=lambda place: -math.log(chances[place]) / self.weights[place],
        )
        ordered = [*(self.targets[place] for place in places), *self.fallbacks]
        return [_named(target, model) for target in ordered]


def _chance(place: int, key: str | None) -> float:
    """More than 0, less than 1; the same for the same key (rendezvous hashing)."""
    if key is None:
        return 1.0 - random.random()  # noqa: S311
    digest = hashlib.blake2b(f"{place} {key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / 2**64


def _named(target: Target, model: str) -> Target:
    return Target(target.backend, model) if "*" in target.model else target


class TableRouter:
    """Routes by a fixed table: each backend with its {client name: upstream name}; and `routes`."""

    def __init__(
        self,
        table: Sequence[tuple[Backend, Mapping[str, str]]],
        routes: Sequence[Route] = (),
    ) -> None:
        self._table = table
        self._routes = routes
        self._exact: dict[str, Route] = {}
        self._wildcards: list[Route] = []
        for route in (*routes, *_routes_of(table)):
            if "*" in route.name:
                self._wildcards.append(route)
            else:
                self._exact.setdefault(route.name, route)
        self._listed: dict[str, tuple[float, list[Model]]] = {}

    @property
    def backends(self) -> list[Backend]:
        """All backends, in the order of the configuration."""
        return [backend for backend, _ in self._table]

    def route(self, model: str, key: str | None = None) -> tuple[Backend, str]:
        """The backend that has `model`, and its name there."""
        route = self._exact.get(model) or self._matching(model)
        if len(route.targets) == 1 and not route.fallbacks:
            target = _named(route.targets[0], model)
            return target.backend, target.model
        return Fallback(route.order(model, key), route.seconds), model

    def places(self, model: str) -> list[tuple[Backend, str]]:
        """All that have it, with its name there, in the order in which they are asked."""
        route = self._exact.get(model) or self._matching(model)
        return [(target.backend, target.model) for target in route.order(model, None)]

    def _matching(self, model: str) -> Route:
        for route in self._wildcards:
            if fnmatchcase(model, route.name):
                return route
        raise ModelNotFound(model)

    async def models(self) -> list[Model]:
        """All models that clients may name, each once."""
        lists = await asyncio.gather(*(self._list(backend) for backend in self.backends))
        listed = dict(zip((backend.name for backend in self.backends), lists, strict=True))
        found: dict[str, Model] = {}
        for route in (*self._routes, *_routes_of(self._table)):
            target = route.targets[0]
            backend, there = target.backend, listed[target.backend.name]
            if "*" in route.name:
                matching = [model for model in there if fnmatchcase(model.id, route.name)]
            else:
                known = {model.id: model for model in there}
                name = target.model if "*" not in target.model else route.name
                matching = [known.get(name) or Model(name, backend.name)]
            for model in matching:
                shown = model.id if "*" in route.name else route.name
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


def _routes_of(table: Sequence[tuple[Backend, Mapping[str, str]]]) -> list[Route]:
    """What the backends have by themselves."""
    return [
        Route(name, [Target(backend, upstream)], [1.0])
        for backend, names in table
        for name, upstream in names.items()
    ]
