"""Progress on standard error: a bar on a terminal, one line at the end of each stage elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def bar(description: str, total: int, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """Show how much of `total` is done while the `with` block runs.

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
    done = 0

    def advance(n: int = 1) -> None:
        nonlocal done
        done += n

    start = time.monotonic()
    try:
        yield advance
    finally:
        print(f"{description}: {done}/{total} in {time.monotonic() - start:.1f} s", file=sys.stderr)
