"""Errors as the command tells them: one line, no traceback."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def warnings_told() -> Iterator[None]:
    """Warnings are told in one line each, without the line of code that they come from."""

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        complain(f"jifv: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def complain(text: str) -> None:
    """Tell an error: as it is, whatever brackets it has and however long it is."""
    Console(stderr=True, soft_wrap=True).print(text, style="red", highlight=False, markup=False)
