"""How the command prints: tables that fit the terminal, and mathematical symbols that every encoding can take."""

import codecs
import sys
from io import TextIOWrapper
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Shown
from typer.core import TyperGroup

from jifv.experiments.report.tables import Table

_SPELLED = {
    "ⁿ": "^n",
    "ᵀ": "^T",
    "₁": "1",
    "β": "beta",
    "ε": "epsilon",
    "σ": "sigma",
    "φ": "phi",
    "‖": "||",
    "≥": ">=",
    "≤": "<=",
    "→": "->",
    "×": "x",
    "°": " deg",
    "–": "-",
    "−": "-",
    "…": "...",
    "’": "'",
}
"""Symbols that an encoding may lack, in letters."""


class Group(TyperGroup):
    """The commands, whose output survives any encoding: cp1252 on Windows, or ASCII where no locale is set."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command."""
        codecs.register_error("jifv.spelled", _spelled)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="jifv.spelled")
        return super().main(*args, **kwargs)


def show(table: Table) -> None:
    """Print a table. Where the terminal is too narrow, cells wrap and nothing is cut."""
    shown = Shown(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    Console().print(shown, markup=False)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in text), error.end
