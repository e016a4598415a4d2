"""What one of several server processes has of the whole (``antiphon serve --workers``).

Rules
1. A setting is for the server, however many processes it has: what may be there or be done at once
   is divided among them, rounded up. 0 stays 0.
2. What cannot be divided is refused at the start, and not multiplied.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from antiphon.config import BackendConfig, Config, ConfigError
from antiphon.settings import Settings

#: Settings of what may be there or be done at once in one process.
DIVIDED: Final = (
    *("background_runs", "containers", "ingestions", "vector_memory"),
    *("max_in_flight", "max_in_flight_per_project"),
    *("max_websockets", "max_websockets_per_project"),
)


@dataclass(frozen=True, slots=True)
class Share:
    """The process `number` of so many; `folder` is theirs, and goes with them."""

    number: int
    of: int
    folder: Path

    def settings(self, whole: Settings) -> Settings:
        """What this process may."""
        parts = {name: self._part(whole.model_dump()[name]) for name in DIVIDED}
        return whole.model_copy(update=parts)

    def config(self, whole: Config | None) -> Config | None:
        """The same of the file. Raises `ConfigError`."""
        if whole is None:
            return None
        if whole.embeddings is not None and whole.embeddings.path is not None:
            raise ConfigError(f"embeddings: a model in a file {self._refusal}")
        parts: dict[str, Any] = {"backends": list(self._backends(whole.backends))}
        if whole.embeddings is not None:
            at_once = self._part(whole.embeddings.at_once)
            parts["embeddings"] = whole.embeddings.model_copy(update={"at_once": at_once})
        if whole.image_generation is not None:
            at_once = self._part(whole.image_generation.at_once)
            parts["image_generation"] = whole.image_generation.model_copy(
                update={"at_once": at_once}
            )
        return whole.model_copy(update=parts)

    def _backends(self, whole: Iterable[BackendConfig]) -> Iterator[BackendConfig]:
        for entry in whole:
            most = entry.max_concurrency
            if entry.kind == "local":
                raise ConfigError(f"backend '{entry.name}': a model in a file {self._refusal}")
            if most is not None and most < self.of:
                raise ConfigError(
                    f"backend '{entry.name}': max_concurrency = {most} cannot be divided among "
                    f"{self.of} workers"
                )
            shared = {} if most is None else {"max_concurrency": self._part(most)}
            yield entry.model_copy(update=shared)

    def _part(self, most: int) -> int:
        return -(-most // self.of)

    @property
    def _refusal(self) -> str:
        return f"would be loaded {self.of} times, once in each worker; serve it with one worker"
