"""Models that run on this machine: their files, and who has them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from antiphon.backends.base import Backend
from antiphon.backends.local.backend import Local, LocalConfig
from antiphon.backends.local.engine import ONCE, Engine, load_of
from antiphon.backends.local.header import NotGGUF
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.config import BackendConfig, ConfigError, EmbeddingsConfig
from antiphon.config.any_llm import AnyLLMProvider
from antiphon.config.local import LocalModel
from antiphon.settings import Settings

#: Of files with models.
SUFFIX: Final = ".gguf"
#: Kinds with keys that are for nobody else.
_OWN: Final = {
    "any_llm": AnyLLMProvider.model_fields.keys(),
    "local": LocalModel.model_fields.keys(),
}
#: Keys that a model here has no use for.
_REMOTE: Final = (
    "connect_timeout",
    *("base_url", "api_key_env", "client_key", "headers"),
    *("profile", "think", "vision", "json_schema"),
)


def models_folder(settings: Settings) -> Path:
    """Where ``antiphon models pull`` puts them."""
    return settings.data_dir / "models"


def model_file(name: str, folder: Path) -> Path:
    """The file that a `path` of the configuration means; it need not be there."""
    given = Path(name).expanduser()
    for path in (given, folder / name, folder / (name + SUFFIX)):
        if path.is_file():
            return path.absolute()
    return given


def located(entry: BackendConfig, folder: Path) -> BackendConfig:
    """The entry with its files where they are. Raises `ConfigError` for keys of another kind."""
    for kind, keys in _OWN.items():
        own = sorted(entry.model_fields_set & keys)
        if entry.kind != kind and own:
            raise ConfigError(f"backend '{entry.name}': '{own[0]}' is for kind '{kind}'")
    named = {"path": entry.path, "mmproj": entry.mmproj}
    found = {key: str(model_file(name, folder)) for key, name in named.items() if name}
    return entry.model_copy(update=found)


def local_of(entry: BackendConfig) -> Backend:
    """The backend, with nothing loaded. Raises `ConfigError`."""
    where = f"backend '{entry.name}'"
    if entry.path is None:
        raise ConfigError(f"{where} needs a path")
    if extra := [key for key in _REMOTE if key in entry.model_fields_set]:
        raise ConfigError(f"{where}: '{extra[0]}' is not for kind 'local'")
    if len(set(entry.windows.values())) > 1:
        raise ConfigError(f"{where}: there is one model, which has one context_window")
    chat = UpstreamConfig(
        name=entry.name,
        base_url="",
        headers=ONCE,
        first_byte_timeout=entry.first_byte_timeout,
        idle_timeout=entry.idle_timeout,
        total_timeout=entry.total_timeout,
        max_retries=entry.max_retries,
        max_concurrency=entry.max_concurrency or entry.parallel,
        breaker=BreakerSettings(entry.breaker_failures, entry.breaker_cool_down),
    )
    with _said_of(where):
        load = load_of(
            Path(entry.path),
            next(iter(entry.windows.values()), None),
            entry.parallel,
            mmproj=Path(entry.mmproj) if entry.mmproj else None,
            threads=entry.threads,
        )
    return Local(LocalConfig(load, chat, entry.idle_unload, entry.preload))


def embedding_engine(config: EmbeddingsConfig, folder: Path) -> Engine:
    """The model that makes vectors, not loaded. Raises `ConfigError`."""
    extra = sorted(config.model_fields_set & {"base_url", "api_key_env", "headers"})
    if extra:
        raise ConfigError(f"embeddings: '{extra[0]}' does not go with a path")
    with _said_of("embeddings"):
        load = load_of(
            model_file(config.path or "", folder),
            config.context_window,
            config.at_once,
            threads=config.threads,
            vectors=True,
        )
    return Engine("embeddings", load, config.idle_unload)


def preload(backends: Iterable[Backend]) -> None:
    """Begin to load what is to be there from the start."""
    for backend in backends:
        if isinstance(backend, Local):
            backend.start()


@contextmanager
def _said_of(where: str) -> Iterator[None]:
    """What keeps a model from being loaded is known before it is (R-132)."""
    if find_spec("xllamacpp") is None:  # not imported, least of all here
        raise ConfigError(
            f"{where}: the package 'xllamacpp' is missing: pip install 'antiphon[local]'"
        )
    try:
        yield
    except (OSError, NotGGUF) as error:
        raise ConfigError(f"{where}: {error}") from None
