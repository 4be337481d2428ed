"""Comparisons: sides that compute the same thing, each in a process of its own, measured in turns on one machine.

A benchmark is a script that makes a `Report` and calls `compare` for each case. A side is built in its process by a
function that returns the step, so that thread pools and allocators of JAX and PyTorch never meet:

    def ours(size):
        import jax
        ...
        return lambda: jax.block_until_ready(step(p))

    if __name__ == "__main__":
        report = pairs.Report("name", pairs.parser(__doc__).parse_args())
        report.compare("size 3", [pairs.Side("ours", ours, (3,)), pairs.Side("PyTorch", theirs, (3,))])

Processes are spawned and import the script, which must therefore import JAX and PyTorch inside of such functions. The
others are compared with the first side that can run, in time and in what they return.
"""

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import numbers, results, tables
from harness.results import cores
from harness.worker import Measurement, Side, Unavailable, Worker

__all__ = ["Measurement", "Report", "Side", "Unavailable", "compare", "cores", "differences", "parser"]

_PAUSE = 0.02
"""Seconds between two turns, until the threads of an OpenMP pool have stopped spinning."""


class Report:
    """The comparisons of one benchmark, printed as they come and written as NAME.json on request."""

    def __init__(self, name: str, options: argparse.Namespace):
        self._options = options
        self._result = results.measured_here(getattr(options, "name", None) or name, threads=options.threads)
        print("\n".join([tables.heading(self._result), "", *_HEAD]), flush=True)

    def compare(self, case: str, sides: Sequence[Side], **options: Any) -> list[Measurement]:
        """Measure the sides, see `compare`, and add a row for each."""
        options = {"rounds": self._options.rounds, "threads": self._options.threads} | options
        measurements = compare(sides, **options)
        print("\n".join(_line(case, measurement) for measurement in measurements), flush=True)
        self._result.rows.extend(_row(case, measurement) for measurement in measurements)
        if self._options.out is not None:
            results.write(self._result, self._options.out)
        return measurements


def parser(description: str | None, *, rounds: int = 7, named: bool = False) -> argparse.ArgumentParser:
    """The options that all benchmarks have; with `named` also one to name the result of a part of the cases."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default: %(default)s)")
    result.add_argument("--threads", type=int, default=len(cores()), help="threads and cores of each side")
    result.add_argument("--out", metavar="FOLDER", help="where to write NAME.json")
    if named:
        result.add_argument("--name", help="name of the result, if not the benchmark's")
    return result


def compare(
    sides: Sequence[Side],
    *,
    rounds: int = 7,
    warmup: int = 1,
    threads: int | None = None,
    tolerance: float | Sequence[float] = 1e-3,
) -> list[Measurement]:
    """Measure sides in turns.

    Args:
        sides: What to compare.
        rounds: Turns of each side.
        warmup: Turns before those, besides the first step, that are not counted.
        threads: Threads and cores of each side; None is all cores that this process may use.
        tolerance: Largest relative difference between the values of two sides, of all arrays or of each.

    Returns:
        A measurement for each side.

    Raises:
        ValueError: Two sides return different values.
        RuntimeError: A side failed for another reason than those of `Side.build`; the message has its traceback.
    """
    workers: list[Worker] = []
    try:
        for side in sides:  # one after the other, so that no compilation gets in another's way
            workers.append(Worker(side, threads or len(cores())))
            workers[-1].first()
        present = [worker for worker in workers if not worker.reason]
        for worker in present:
            worker.differences = differences(worker.values, present[0].values)
            # NaN is no agreement.
            if not np.all(np.array(worker.differences) <= tolerance):
                names = f"{worker.side.name} and {present[0].side.name}"
                raise ValueError(f"{names} return different values: relative differences {worker.differences}")
        for turn in range(warmup + rounds):
            for worker in present:
                time.sleep(_PAUSE)
                worker.turn(counts=turn >= warmup)
        measurements = [worker.finish() for worker in workers]
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
    reference = next((measurement.median for measurement in measurements if not measurement.unavailable), math.nan)
    return [measurement._replace(ratio=measurement.median / reference) for measurement in measurements]


def differences(values: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> tuple[float, ...]:
    """‖a − b‖ / ‖b‖ of each array, infinite where shapes differ."""
    if [value.shape for value in values] != [value.shape for value in reference]:
        return (math.inf,)
    result = []
    for value, expected in zip(values, reference, strict=True):
        distance, norm = np.linalg.norm((value.astype(float) - expected).ravel()), np.linalg.norm(expected.ravel())
        result.append(float(distance / norm if norm else distance))
    return tuple(result)


_HEAD = (
    "Times are medians over the rounds, with their quartiles; × is the time of a side over that of the first. Memory",
    "is the most that was resident above the built step with its libraries and weights; the first call compiles. The",
    "difference is the largest of any array to that of the first side, relative.",
    "",
    tables.line(("case", "side", "ms", "quartiles", "×", "first call, s", "memory, MiB", "difference")),
    tables.line(["---"] * 8),
)


def _line(case: str, measurement: Measurement) -> str:
    name = f"{measurement.name} ({measurement.note})" if measurement.note else measurement.name
    if measurement.unavailable:
        return tables.line((case, name, f"not available: {measurement.unavailable}", *[""] * 5))
    quartiles = "–".join(map(numbers.milliseconds, _quartiles(measurement.seconds)))
    peak = measurement.peak if measurement.device_peak is None else measurement.device_peak
    rest = f"{measurement.ratio:.2f}", f"{measurement.first:.1f}", numbers.mebibytes(peak)
    difference = f"{max(measurement.differences):.1g}"
    return tables.line((case, name, numbers.milliseconds(measurement.median), quartiles, *rest, difference))


def _row(case: str, measurement: Measurement) -> dict[str, Any]:
    """What is kept: all fields that have a value."""
    fields = results.plain(measurement._asdict() | {"median": measurement.median})
    kept = {name: value for name, value in fields.items() if name != "name" and value not in (None, "", [])}
    return {"case": case, "side": measurement.name} | kept


def _quartiles(seconds: Sequence[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, high
