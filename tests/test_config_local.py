"""Models on this machine in antiphon.toml: what can be used, and what is refused at the start."""

import importlib.util
from pathlib import Path

import pytest

from antiphon.app import Antiphon
from antiphon.app.local import model_file
from antiphon.backends.local.engine import load_of
from antiphon.backends.local.header import NotGGUF, read_header
from antiphon.config import ConfigError
from antiphon.settings import Settings
from tests.backends.tiny_gguf import CONTEXT, write_model

LOCAL = '[[backends]]\nname = "a"\nkind = "local"\n'
CHAT = '[[backends]]\nname = "a"\nkind = "chat_completions"\nbase_url = "http://127.0.0.1:1/v1"\n'


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "models" / "tiny.gguf"
    path.parent.mkdir(parents=True)
    write_model(path)
    return path


def start(tmp_path: Path, text: str) -> None:
    """Raises `ConfigError`."""
    path = tmp_path / "antiphon.toml"
    path.write_text(text, encoding="utf-8")
    Antiphon(Settings(config=path, data_dir=tmp_path / "data", database_url="memory://"))


@pytest.mark.parametrize("path", ["tiny", "tiny.gguf", "{whole}"])
def test_a_model_is_a_file_or_a_name(tmp_path: Path, model: Path, path: str) -> None:
    start(tmp_path, f'{LOCAL}path = "{path.format(whole=model)}"\n')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LOCAL, "backend 'a' needs a path"),
        (LOCAL + 'path = "none"\n', "none"),
        (LOCAL + 'path = "antiphon.toml"\n', "it is no GGUF file"),
        (LOCAL + 'path = "tiny"\nmmproj = "antiphon.toml"\n', "it is no GGUF file"),
        (LOCAL + 'path = "tiny"\nbase_url = "http://h/v1"\n', "'base_url' is not for kind 'local'"),
        (LOCAL + 'path = "tiny"\nprofile = "vllm"\n', "'profile' is not for kind 'local'"),
        (LOCAL + 'path = "tiny"\ncontext_window = {a = 1, b = 2}\n', "one context_window"),
        (LOCAL + 'path = "tiny"\nparallel = 0\n', "parallel"),
        (CHAT + "preload = true\n", "'preload' is for kind 'local'"),
        ('[embeddings]\nmodel = "e5"\n', "needs a base_url and a model, or a path"),
        ('[embeddings]\npath = "tiny"\napi_key_env = "K"\n', "'api_key_env' does not go with a"),
        ('[embeddings]\npath = "none"\n', "embeddings: "),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    model: Path,
    text: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=reason):
        start(tmp_path, text)


def test_the_extra_is_named_when_it_is_missing(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "antiphon.app.local.find_spec", lambda name: None if name == "xllamacpp" else found(name)
    )
    with pytest.raises(ConfigError, match=r"backend 'a': .* pip install 'antiphon\[local\]'"):
        start(tmp_path, LOCAL + 'path = "tiny"\n')


@pytest.mark.parametrize(("asked", "window"), [(None, 8_192), (512, 512), (10**6, CONTEXT)])
def test_a_window_is_not_larger_than_the_model(model: Path, asked: int | None, window: int) -> None:
    assert load_of(model, asked, 4).window == window


def test_what_a_file_says(model: Path, tmp_path: Path) -> None:
    assert read_header(model) == ("llama", CONTEXT, False)
    assert model_file("other", tmp_path) == Path("other")
    whole = model.read_bytes()
    for broken in (b"", b"GGUF", whole[:60], b"GGUF" + bytes([255]) * 500, whole[:20] + whole):
        model.write_bytes(broken)
        with pytest.raises(NotGGUF):
            read_header(model)
