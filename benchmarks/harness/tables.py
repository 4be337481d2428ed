"""A table, printed row by row; with a folder also kept there as NAME.md and NAME.json."""

import json
from pathlib import Path

from harness import pairs


class Table:
    """Columns are named once; a row has a cell for each, numbers where they are numbers."""

    def __init__(self, name, columns, *, threads, out=None):
        self._name, self._columns, self._out = name, columns, out
        self._environment, self._rows = pairs.environment(threads), []
        self._lines = [f"# {name}", "", *(f"- {key}: {value}" for key, value in self._environment.items()), ""]
        self._lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
        print("\n".join(["", *self._lines]), flush=True)

    def row(self, *cells):
        """Add a row."""
        self._rows.append(dict(zip(self._columns, cells, strict=True)))
        self._lines.append("| " + " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in cells) + " |")
        print(self._lines[-1], flush=True)
        if self._out is not None:
            folder = Path(self._out)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self._name}.md").write_text("\n".join(self._lines) + "\n", encoding="utf-8")
            content = {"name": self._name, "environment": self._environment, "rows": self._rows}
            (folder / f"{self._name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
