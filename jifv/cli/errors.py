"""Errors as the command tells them: one line, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console


@contextmanager
def told() -> Iterator[None]:
    """What the user can do something about is told without a traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        complain(f"jifv: {error}")
        raise typer.Exit(1) from error


def complain(text: str) -> None:
    """Tell an error: as it is, whatever brackets it has and however long it is."""
    Console(stderr=True, soft_wrap=True).print(text, style="red", highlight=False, markup=False)
