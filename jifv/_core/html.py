"""Short HTML for notebooks, with every text escaped."""

from collections.abc import Sequence
from html import escape
from typing import Any

import jax
import numpy as np

from jifv._core.check import concrete

ROWS = 16
"""Most samples in a table."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of texts."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def known(*arrays: Any) -> bool:
    """Tell whether these are arrays with values, and neither traced nor leaves of some other tree."""
    return all(isinstance(array, (jax.Array, np.ndarray)) and concrete(array) for array in arrays)


def strongest(vector: Any, most: int = 5) -> str:
    """List the indices of the largest entries by size, with the entries of the vector at unit length."""
    values = np.nan_to_num(np.asarray(vector, np.float64))
    length = np.linalg.norm(values)
    order = [index for index in np.argsort(-np.abs(values), kind="stable")[:most] if values[index]]
    return ", ".join(f"{index}: {values[index] / length:.2f}" for index in order) or "nothing known"
