"""``antiphon models list | pull | serve``: models that clients may name, and GGUF files that run
here (docs/backends.md)."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from antiphon.app.local import SUFFIX, model_file, models_folder
from antiphon.cli.common import Group, build, database_option, read_settings, refused
from antiphon.cli.serve import run
from antiphon.config import ConfigError, load_config
from antiphon.settings import Settings

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """Models that clients may name, and files of models that run here. Without a command: the
    names."""
    if context.invoked_subcommand is None:
        _say_names(read_settings())


@models.command("list")
def list_models() -> None:
    """List models and files of models. First the models that clients may name, with their backends;
    then the files in the folder of models, with their sizes and the backends that have them."""
    settings = read_settings()
    _say_names(settings)
    users = _users(settings)
    for path in sorted(models_folder(settings).glob(f"*{SUFFIX}")):
        user = ", ".join(users.get(path.absolute(), ())) or "-"
        print(f"{path.name}\t{_size(path.stat().st_size)}\t{user}")


@models.command("pull")
@click.argument(
    "model",
    metavar="REPO[:FILE]|URL|PATH",
    help="OWNER/NAME of the hub, with a file or a part of its name (Q4_K_M) behind a colon where it"
    " has several; the address of a file; or a file, which is linked or copied.",
)
def pull(model: str) -> None:
    """Get a GGUF file into the folder of models. That is ANTIPHON_DATA_DIR/models. Interrupted, it
    goes on where it was. The hub is that of HF_ENDPOINT, or Hugging Face; HF_TOKEN is for what it
    shows only to some."""
    from antiphon.cli.pulling import CannotPull, Puller  # noqa: PLC0415

    settings = read_settings()
    with ExitStack() as bars:
        puller = Puller(models_folder(settings), _bars(bars))
        try:
            if not settings.data_dir.exists():
                settings.data_dir.mkdir(mode=0o700, parents=True)
            paths = puller.pull(model)
        except (CannotPull, OSError) as error:
            bars.close()
            raise refused(error) from error
    for path in paths:
        print(f"{path}: {_size(path.stat().st_size)}")


@models.command("serve")
@click.argument("path", help="A GGUF file, or the name of one in the folder.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option(
    "--context-window",
    type=click.IntRange(min=1),
    help="Tokens of each turn; at most 8,192 by default.",
)
@click.option("--parallel", type=click.IntRange(min=1), default=4, help="Turns at once.")
@database_option
def serve_model(
    path: str,
    host: str | None,
    port: int | None,
    context_window: int | None,
    parallel: int,
    database_url: str | None,
) -> None:
    """Serve the API with one model and nothing else. The configuration is not read. Clients may
    call the model by the name of its file, or by any other."""
    settings = read_settings(host=host, port=port, database_url=database_url)
    file = model_file(path, models_folder(settings))
    window = f"context_window = {context_window}\n" if context_window else ""
    toml = (
        f'[[backends]]\nname = "local"\nkind = "local"\npath = {_quoted(str(file))}\n'
        f'models = [{_quoted(file.stem)}, "*"]\npreload = true\nparallel = {parallel}\n{window}'
    )
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        config = Path(folder) / "antiphon.toml"
        config.write_text(toml, encoding="utf-8")
        antiphon = build(settings.model_copy(update={"config": config}))
    run(antiphon, file.stem)


def _say_names(settings: Settings) -> None:
    antiphon = build(settings)

    async def say() -> None:
        for model in await antiphon.router.models():
            print(f"{model.id}\t{model.owned_by}")
        await antiphon.router.aclose()

    asyncio.run(say())


def _users(settings: Settings) -> dict[Path, list[str]]:
    """File → the backends of the configuration that have it."""
    try:
        config = load_config(settings.config)
    except ConfigError as error:
        raise refused(error) from error
    if config is None:
        return {}
    named = [(entry.name, name) for entry in config.backends for name in (entry.path, entry.mmproj)]
    if config.embeddings is not None:
        named.append(("[embeddings]", config.embeddings.path))
    users: dict[Path, list[str]] = {}
    for user, name in named:
        if name is not None:
            users.setdefault(model_file(name, models_folder(settings)), []).append(user)
    return users


def _bars(stack: ExitStack) -> Callable[[str, int, int | None], None]:
    """A bar on stderr for each file."""
    shown: dict[str, Callable[[int], None]] = {}

    def progress(name: str, have: int, size: int | None) -> None:
        if name not in shown:
            shown[name] = _bar(stack, name, have, size)
        else:
            shown[name](have)

    return progress


def _bar(stack: ExitStack, name: str, have: int, size: int | None) -> Callable[[int], None]:
    bar = stack.enter_context(click.progressbar(length=size or 0, label=name, file=sys.stderr))
    bar.update(have)
    return lambda now: bar.update(now - bar.pos)


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.1f} {unit}"


def _quoted(text: str) -> str:
    """As TOML has it, which knows no halves of pairs as JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
