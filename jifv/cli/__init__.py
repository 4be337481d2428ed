"""The command `jifv`: one file a subcommand, joined here."""

import typer

from jifv.cli import models, reproduce

app = typer.Typer(
    help="Inverse feature visualization: from an input back to the objective it was optimized for.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(reproduce.reproduce)
app.add_typer(models.app, name="models")
