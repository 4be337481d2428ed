"""Sides of comparisons that need nothing but NumPy, apart from the tests because each side's process imports them."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))

from harness import pairs


def square(size, factor=1.0):
    matrix = np.arange(size * size, dtype=float).reshape(size, size)
    return lambda: factor * matrix @ matrix


def upper_rows(size):
    matrix = np.arange(size * size, dtype=float).reshape(size, size)

    def step():
        time.sleep(0.001)
        return (matrix[: size // 2] @ matrix,)

    return step


def upper_half(product):
    return product[: len(product) // 2]


def missing():
    raise pairs.Unavailable("not on\nMondays")


def absent():
    import a_package_that_nobody_has  # noqa: F401


def broken():
    return lambda: 1 / 0


def killed():
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def limits():
    counts = [len(pairs.cores()), int(os.environ["OMP_NUM_THREADS"])]
    return lambda: np.array(counts)


def large(megabytes):
    """A step that holds an array for a moment; building it took twice as much."""
    np.ones(2 * megabytes * 2**17)
    return lambda: np.ones(megabytes * 2**17)[:1]


def not_a_number():
    return lambda: np.full(1, np.nan)


def checked(counts):
    expected = 1 if hasattr(os, "sched_setaffinity") else len(pairs.cores())
    assert counts.tolist() == [expected, 1]
    return counts
