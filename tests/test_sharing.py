"""What one of several server processes has of the whole."""

from pathlib import Path

import pytest

from antiphon.app import Antiphon
from antiphon.app.sharing import DIVIDED, Share
from antiphon.config import ConfigError, load_config
from antiphon.settings import Settings
from tests.live import CHAT_TOML

THREE = Share(1, 3, Path())
UP = CHAT_TOML.format(base_url="http://127.0.0.1:1/v1")


def test_limits_are_divided_and_rounded_up(tmp_path: Path) -> None:
    whole = Settings(config=tmp_path / "none.toml", background_runs=16, ingestions=0, containers=2)
    part = THREE.settings(whole)
    assert (part.background_runs, part.ingestions, part.containers) == (6, 0, 1)
    assert (part.max_in_flight, part.max_in_flight_per_project) == (667, 334)
    changed = {
        name for name, value in part.model_dump().items() if value != whole.model_dump()[name]
    }
    assert changed == set(DIVIDED) - {"ingestions"}


def test_every_limit_of_what_is_done_at_once_is_divided() -> None:
    """Whoever adds one has to say so; these are limits of the database, or of one request."""
    of_all = {"queue_limit", "background_attempts"}
    described = {
        name
        for name, field in Settings.model_fields.items()
        if "at once" in (field.description or "") and name != "workers"
    }
    assert described - of_all <= set(DIVIDED)


def parts(folder: Path, toml: str) -> tuple[int | None, int, int]:
    """Of one of three: calls of the backend, of the embedder, and of the maker of images."""
    file = folder / "antiphon.toml"
    file.write_text(toml, encoding="utf-8")
    config = THREE.config(load_config(file))
    assert config is not None
    assert config.embeddings is not None
    assert config.image_generation is not None
    return (
        config.backends[0].max_concurrency,
        config.embeddings.at_once,
        config.image_generation.at_once,
    )


def test_what_has_no_limit_can_be_shared(tmp_path: Path) -> None:
    """A simulator may have none."""
    file = tmp_path / "antiphon.toml"
    file.write_text('[[backends]]\nname = "s"\nkind = "simulator"\n', encoding="utf-8")
    made = Antiphon(
        Settings(config=file, database_url=f"sqlite+aiosqlite:///{tmp_path}/db"), None, THREE
    )
    assert "s" in [backend.name for backend in made.router.backends]


def test_limits_of_the_file_are_divided(tmp_path: Path) -> None:
    more = (
        '[embeddings]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\nat_once = 7\n'
        '[image_generation]\nkind = "simulator"\n'
    )
    assert parts(tmp_path, UP + more) == (None, 3, 2)
    limited = UP.replace('models = ["*"]', 'models = ["*"]\nmax_concurrency = 8')
    assert parts(tmp_path, limited + more) == (3, 3, 2)


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        (
            UP.replace('models = ["*"]', 'models = ["*"]\nmax_concurrency = 2'),
            "max_concurrency = 2",
        ),
        ('[[backends]]\nname = "own"\nkind = "local"\npath = "m.gguf"\nmodels = ["*"]\n', "'own'"),
        ('[embeddings]\npath = "m.gguf"\n', "embeddings: a model in a file"),
    ],
)
def test_what_cannot_be_divided_is_refused(tmp_path: Path, toml: str, why: str) -> None:
    """And not multiplied."""
    file = tmp_path / "antiphon.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError, match=why):
        Antiphon(Settings(config=file), share=THREE)
