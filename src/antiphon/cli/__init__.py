"""The command line, ``antiphon``: ``serve | worker | migrate | backup | doctor | models | keys |
prompts | files | sandbox``."""

from typing import Annotated

import typer

from antiphon import __version__
from antiphon.api.logbook import close_log
from antiphon.cli.doctor import doctor
from antiphon.cli.files import files
from antiphon.cli.keys import keys
from antiphon.cli.models import models
from antiphon.cli.prompts import prompts
from antiphon.cli.sandbox import sandbox
from antiphon.cli.serve import serve
from antiphon.cli.upkeep import backup, migrate
from antiphon.cli.worker import worker

__all__ = ["cli", "main"]

cli = typer.Typer(
    name="antiphon", no_args_is_help=True, add_completion=False, help="A Responses API server."
)
for _command in (serve, worker, migrate, backup, doctor):
    cli.command()(_command)
cli.add_typer(models, name="models")
cli.add_typer(keys, name="keys")
cli.add_typer(prompts, name="prompts")
cli.add_typer(files, name="files")
cli.add_typer(sandbox, name="sandbox")


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"antiphon {__version__}")
        raise typer.Exit


@cli.callback()
def _common(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Which this is.")
    ] = False,
) -> None:
    """A Responses API server."""
    context.call_on_close(close_log)


def main() -> None:
    """The console script."""
    cli()
