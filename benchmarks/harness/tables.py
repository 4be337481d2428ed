"""A table: printed row by row, kept as NAME.json, and written as Markdown."""

from collections.abc import Sequence
from typing import Any

from harness import results


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table in Markdown; the first `left` columns are text, the others numbers."""
    lines = [columns, ["---"] * left + ["--:"] * (len(columns) - left), *rows]
    return "\n".join(line(cells) for cells in lines)


def line(cells: Sequence[str]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


class Table:
    """Rows with the same columns, each printed at once.

    Args:
        name: The result's.
        columns: Name of each column.
        threads: Cores in use.
        out: Folder for NAME.json, which is written anew with every row; None writes nothing.
    """

    def __init__(self, name: str, columns: Sequence[str], *, threads: int, out: str | None = None):
        self._columns, self._out = columns, out
        self._result = results.measured_here(name, threads=threads)
        print("\n".join(["", heading(self._result), "", line(columns), line(["---"] * len(columns))]), flush=True)

    def row(self, *cells: Any) -> None:
        """Add a row: a cell for each column, numbers as numbers."""
        self._result.rows.append(dict(zip(self._columns, cells, strict=True)))
        print(line([f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]), flush=True)
        if self._out is not None:
            results.write(self._result, self._out)


def heading(result: results.Result) -> str:
    """What is printed above the rows: where they come from."""
    version = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    code = f"{(result.commit or 'no commit')[:7]}{', with uncommitted changes' if result.dirty else ''}"
    return f"# {result.name}\n\n{result.machine}; {version}; {code}"
