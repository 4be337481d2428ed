"""How the command prints: tables that fit the terminal, and mathematical symbols that every encoding can take."""

import codecs
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

from rich import box
from rich.cells import cell_len
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

_NAME = 8
"""Width to which the first column, of names, may shrink before headings are broken within words."""

_LINES = box.Box("    \n    \n -- \n" + 5 * "    \n", ascii=True)
"""A line below the headings and no others. Rich would draw all of them where there is no Unicode, which takes width."""


class Group(TyperGroup):
    """The commands, whose output survives any encoding: cp1252 on Windows, or ASCII where no locale is set."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors=_SPELLING)
        return super().main(*args, **kwargs)


def show(table: Table) -> None:
    """Print a table. Where the terminal is too narrow, names and headings wrap; nothing is cut."""
    console = Console()

    def spelled(text: str) -> str:  # before the layout, because what is spelled out is wider
        return text.encode(console.encoding, _SPELLING).decode(console.encoding)

    headings, *rows = [tuple(map(spelled, row)) for row in (table.columns, *table.rows)]
    lines = box.SIMPLE_HEAD if console.encoding.startswith("utf") else _LINES
    style: Any = {"title_justify": "left", "box": lines, "show_edge": False, "padding": (0, 0, 0, 1), "pad_edge": False}
    shown = Shown(title=spelled(table.title), **style)
    # Two spaces between columns: that of the box and that of the padding.
    widths = _widths(headings, rows, console.width - 2 * (len(headings) - 1))
    for index, (heading, width) in enumerate(zip(headings, widths, strict=True)):
        shown.add_column(heading, width=width, overflow="fold", justify="right" if index else "left")
    for row in rows:
        shown.add_row(*row)
    console.print(shown, "", markup=False)


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Choose widths that fit: shrink the widest column first, to whole words, then to whole cells, then to anything."""
    cells = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    cells[0] = min(cells[0], _NAME)
    words = [max(map(cell_len, heading.split()), default=0) for heading in headings]
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    for least in (list(map(max, cells, words)), cells, [1] * len(cells)):
        while sum(widths) > room and (wide := [index for index, width in enumerate(widths) if width > least[index]]):
            widths[max(wide, key=lambda index: (widths[index], index))] -= 1
    return widths


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in text), error.end


_SPELLING = "jifv.spelled"
codecs.register_error(_SPELLING, _spell)
