"""Progress on standard error: a bar on a terminal, a line in place in a notebook, now and then a line elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 30.0
"""Seconds between two lines where there is neither a terminal nor a notebook."""

_IN_NOTEBOOK = 1.0  # seconds


@contextmanager
def bar(description: str, total: int, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """Show how much of `total` is done while the `with` block runs.

    It is live, also while nothing advances: what runs may be a single compiled program that takes minutes.

    Args:
        description: Name of the stage.
        total: Number of units, what `advance` adds up to.
        enabled: False shows nothing.

    Yields:
        Function `advance(n=1)` that reports n more units as done.
    """
    if not enabled:
        yield lambda n=1: None
        return
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task(description, total=total)
            yield lambda n=1: progress.advance(task, n)
        return
    line = _Line(description, total)
    if (shown := _in_notebook(line.text())) is not None:
        tell, every = shown, _IN_NOTEBOOK
    else:
        tell, every = _print, EVERY
    try:
        with _now_and_then(lambda: tell(line.text()), every):
            yield line.advance
    finally:
        line.ended = True
        tell(line.text())


class _Line:
    """How much is done, in words."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total, self._done = description, total, 0
        self._start = time.monotonic()
        self.ended = False

    def advance(self, n: int = 1) -> None:
        self._done += n

    def text(self) -> str:
        """Say it, with the time that is left if something can be said of it."""
        elapsed = time.monotonic() - self._start
        said = f"{self._description}: {self._done}/{self._total} in {elapsed:.1f} s"
        if self.ended or not 0 < self._done < self._total:
            return said
        return f"{said}, {elapsed * (self._total - self._done) / self._done:.0f} s left"


@contextmanager
def _now_and_then(action: Callable[[], None], every: float) -> Iterator[None]:
    """Act every so many seconds while the `with` block runs."""
    end = threading.Event()

    def act() -> None:
        while not end.wait(every):
            action()

    thread = threading.Thread(target=act, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _in_notebook(line: str) -> Callable[[str], None] | None:
    """Display a line in a notebook, and return what replaces it; None elsewhere."""
    interactive: Any = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display  # pyright: ignore[reportMissingImports]

    handle: Any = display({"text/plain": line}, raw=True, display_id=True)
    return lambda line: handle.update({"text/plain": line}, raw=True)
