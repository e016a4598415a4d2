"""The command line, ``antiphon``: ``serve | worker | migrate | backup | doctor | models | keys |
prompts | files | sandbox``."""

import click

from antiphon import __version__
from antiphon.api.logbook import close_log
from antiphon.cli.common import Group
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


@click.group(
    cls=Group,
    commands=(serve, worker, migrate, backup, doctor, models, keys, prompts, files, sandbox),
    context_settings={"show_default": True},
)
@click.version_option(__version__, message="antiphon %(version)s", help="Which this is.")
@click.pass_context
def cli(context: click.Context) -> None:
    """A Responses API server."""
    context.call_on_close(close_log)


def main() -> None:
    """The console script."""
    cli()
