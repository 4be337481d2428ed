"""Short HTML for notebooks: tables and bars, with every text escaped."""

from collections.abc import Sequence
from html import escape


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of texts; numbers are right-aligned by their notebook."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
