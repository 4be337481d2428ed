"""How the command reports errors and warnings: in one line, without a traceback."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console


@contextmanager
def told() -> Iterator[None]:
    """Report errors that the user can act on, and exit with code 1."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        complain(f"jifv: {error}")
        raise typer.Exit(1) from error


@contextmanager
def warnings_told() -> Iterator[None]:
    """Report warnings in one line each, without the line of code that they come from."""

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        complain(f"jifv: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def complain(text: str) -> None:
    """Print a message to standard error as it is, with its brackets and in one line."""
    Console(stderr=True, soft_wrap=True).print(text, style="red", highlight=False, markup=False)
