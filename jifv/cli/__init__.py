"""The command `jifv`: one file per subcommand, joined here."""

from typing import Annotated

import typer

from jifv._core.provenance import commit, provenance
from jifv.cli import audit, compare, invert, models, reproduce, visualize, workbench
from jifv.cli.output import Group

app = typer.Typer(
    cls=Group,
    help="Inverse feature visualization: from an input back to the objective it was optimized for.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("visualize")(visualize.visualize)
app.command("invert")(invert.invert)
app.command("audit")(audit.audit)
app.command("compare")(compare.compare)
app.command("reproduce")(reproduce.reproduce)
app.command("app")(workbench.serve)
app.add_typer(models.app, name="models")


def _tell_version(wanted: bool) -> bool:
    if wanted:
        code = commit()
        typer.echo(f"jifv {provenance().version}" + (f", commit {code}" if code else ""))
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
