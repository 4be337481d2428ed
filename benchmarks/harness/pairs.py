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
first side at hand is the one that the others are compared with, in time and in what they return.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_TURN = 0.2
"""Seconds that a turn takes at least. Its time is the median of its steps: the first finds cold caches."""
_PAUSE = 0.02
"""Seconds between two turns, until the threads of an OpenMP pool have stopped spinning."""


class Unavailable(Exception):  # noqa: N818
    """What a builder or a step raises for a side that cannot run here; its message says why."""


class Side(NamedTuple):
    """One side of a comparison; everything in it can be pickled.

    Attributes:
        name: As the table has it.
        build: Returns the step, a function without arguments that returns when its result, an array or a sequence of
            arrays, has been computed. It may raise `Unavailable`, ImportError or FileNotFoundError.
        arguments: What `build` is called with.
        values: From the step's result to what is compared with the other sides; None compares the result itself.
        scale: By what the time is multiplied if a step does only a part of the work.
        note: Said beside the name in the table.
    """

    name: str
    build: Callable[..., Callable[[], Any]]
    arguments: tuple = ()
    values: Callable[[Any], Any] | None = None
    scale: float = 1.0
    note: str = ""


class Measurement(NamedTuple):
    """What was measured of a side.

    Attributes:
        name: The side's.
        note: The side's.
        unavailable: Why there is no measurement; empty if there is one.
        device: What the side ran on, as JAX or PyTorch calls it.
        threads: Of PyTorch's pool, if the side has PyTorch.
        seconds: Of a step, in each round.
        first: Seconds of the first step, compilation included, scaled as `seconds` are.
        resident: Bytes resident once the step was built: interpreter, libraries and weights.
        peak: Most bytes resident later, the first step and compilation included, above those.
        device_peak: Most bytes allocated on an accelerator, weights included.
        differences: ‖a − b‖ / ‖b‖ of each array that is compared, against the first side's.
        ratio: Median time over the first side's.
    """

    name: str
    note: str = ""
    unavailable: str = ""
    device: str = ""
    threads: int | None = None
    seconds: tuple[float, ...] = ()
    first: float = math.nan
    resident: int | None = None
    peak: int | None = None
    device_peak: int | None = None
    differences: tuple[float, ...] = ()
    ratio: float = math.nan

    @property
    def median(self) -> float:
        """Median of the seconds, NaN without any."""
        return statistics.median(self.seconds) if self.seconds else math.nan


class Report:
    """The comparisons of one benchmark, printed as they come and written to a folder on request."""

    def __init__(self, name: str, options: argparse.Namespace):
        self.name = name
        self.cases: list[dict] = []
        self._options = options
        self._environment = environment(options.threads)
        self._lines = ["# " + name, "", *(f"- {key}: {value}" for key, value in self._environment.items()), "", *_HEAD]
        print("\n".join(self._lines), flush=True)

    def compare(self, case: str, sides: Sequence[Side], **options: Any) -> list[Measurement]:
        """Measure the sides, see `compare`, and add a row for each."""
        options = {"rounds": self._options.rounds, "threads": self._options.threads} | options
        measurements = compare(sides, **options)
        rows = [_row(case, measurement) for measurement in measurements]
        print("\n".join(rows), flush=True)
        self._lines += rows
        self.cases.append({"case": case, "sides": [_plain(measurement) for measurement in measurements]})
        if self._options.out is not None:
            folder = Path(self._options.out)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.name}.md").write_text("\n".join(self._lines) + "\n", encoding="utf-8")
            content = {"name": self.name, "environment": self._environment, "cases": self.cases}
            (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return measurements


def parser(description: str | None, *, rounds: int = 7) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default: %(default)s)")
    result.add_argument("--threads", type=int, default=len(cores()), help="threads and cores of each side")
    result.add_argument("--out", metavar="FOLDER", help="where to write NAME.md and NAME.json")
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
        ValueError: two sides return different values.
        RuntimeError: a side failed for another reason than those of `Side.build`; the message has its traceback.
    """
    workers: list[_Worker] = []
    try:
        for side in sides:  # one after the other, so that nobody's compilation is in the way of another's
            workers.append(_Worker(side, threads or len(cores())))
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


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def differences(values: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> tuple[float, ...]:
    """‖a − b‖ / ‖b‖ of each array, infinite where shapes differ."""
    if [value.shape for value in values] != [value.shape for value in reference]:
        return (math.inf,)
    result = []
    for value, expected in zip(values, reference, strict=True):
        distance, norm = np.linalg.norm((value.astype(float) - expected).ravel()), np.linalg.norm(expected.ravel())
        result.append(float(distance / norm if norm else distance))
    return tuple(result)


def environment(threads: int) -> dict[str, str]:
    """Where and with what a benchmark runs."""
    used = cores()[:threads]
    versions = {}
    for name in ("jax", "jaxlib", "torch", "numpy", "scipy", "jifv"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "CPU": f"{_cpu()}, {len(used)} of {os.cpu_count()} cores, {threads} threads",
        "Python": platform.python_version(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "commit": _commit(),
        "command": " ".join(["python", *sys.argv]),
    }


# The parent's end of a worker.


class _Worker:
    """A side in its process."""

    def __init__(self, side: Side, threads: int):
        self.side = side
        self.reason = ""
        self.values: list[np.ndarray] = []
        self.differences: tuple[float, ...] = ()
        self._measured: dict[str, Any] = {}
        self._seconds: list[float] = []
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, side, threads), daemon=True)
        with _limited(threads):
            self.process.start()
        theirs.close()

    def first(self) -> None:
        """Wait for the first step."""
        answer = self._receive()
        if answer is not None:
            self._measured, self.values = answer

    def turn(self, *, counts: bool) -> None:
        """Let the side have its turn."""
        if self.reason:
            return
        self._connection.send(True)
        seconds = self._receive()
        if seconds is not None and counts:
            self._seconds.append(seconds * self.side.scale)

    def finish(self) -> Measurement:
        """End the process and say what it measured."""
        side = self.side
        if not self.reason:
            self._connection.send(False)
            self._measured |= self._receive() or {}
        if self.reason:
            return Measurement(side.name, side.note, self.reason)
        first = self._measured.pop("first") * side.scale
        return Measurement(
            side.name,
            side.note,
            seconds=tuple(self._seconds),
            first=first,
            differences=self.differences,
            **self._measured,
        )

    def _receive(self) -> Any:
        """The worker's answer; None, and the reason, if there is none to come."""
        try:
            kind, content = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            self.reason = f"its process ended with code {self.process.exitcode}"
            if self.process.exitcode == -9:
                self.reason += ", probably for want of memory"
            return None
        if kind == "failed":
            raise RuntimeError(f"{self.side.name} failed\n{content}")
        if kind == "unavailable":
            self.reason = content
            return None
        return content


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """What a process started inside inherits: cores and sizes of thread pools, before it imports anything."""
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    # XLA takes the size of its pool from NPROC, or from the cores where it is not set. Two processes share the
    # memory of a GPU, which JAX would otherwise take for itself.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    wanted = dict.fromkeys(names, str(threads)) | {"XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    saved, allowed = {name: os.environ.get(name) for name in wanted}, cores()
    os.environ.update(wanted)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, allowed[:threads])
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, allowed)


# The worker.


def _serve(connection: Any, side: Side, threads: int) -> None:
    """Build the step and answer each request by the time of a turn, until there are no more."""
    try:
        step = side.build(*side.arguments)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        resident = _resident()
        connection.send(("first", _first(side, step, resident)))
        while connection.recv():
            connection.send(("seconds", _turn(step)))
        connection.send(("memory", _peaks(resident)))
    except (Unavailable, ImportError, FileNotFoundError) as error:
        connection.send(("unavailable", " ".join(str(error).split()) or type(error).__name__))
    except Exception:
        connection.send(("failed", traceback.format_exc()))


def _first(side: Side, step: Callable[[], Any], resident: int | None) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The first step: what was measured, and its values."""
    began = time.perf_counter()
    result = step()
    first = time.perf_counter() - began
    values = _arrays(result if side.values is None else side.values(result))
    return {"first": first, "resident": resident, **_device()}, values


def _turn(step: Callable[[], Any]) -> float:
    """Median seconds of a step over at least `_TURN` seconds."""
    times: list[float] = []
    end = time.perf_counter() + _TURN
    while not times or began < end:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _arrays(result: Any) -> list[np.ndarray]:
    """Results of JAX, PyTorch or NumPy as NumPy arrays."""
    values = result if isinstance(result, (tuple, list)) else (result,)
    return [np.asarray(value.cpu() if hasattr(value, "cpu") else value) for value in values]


def _device() -> dict[str, Any]:
    """What this process computes on."""
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return {"device": device, "threads": torch.get_num_threads()}
    return {"device": sys.modules["jax"].devices()[0].device_kind if "jax" in sys.modules else "cpu"}


def _resident() -> int | None:
    """Bytes resident now; from here on the peak is counted anew where Linux allows it."""
    # Elsewhere it is the peak of the whole process, which is larger if building took more than stepping.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _peaks(resident: int | None) -> dict[str, int | None]:
    """Most bytes resident above those at the start, and most bytes allocated on an accelerator."""
    peak = _memory("VmHWM")
    device = None
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    elif "jax" in sys.modules:
        device = (sys.modules["jax"].devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"peak": None if peak is None or resident is None else max(peak - resident, 0), "device_peak": device}


def _memory(field: str) -> int | None:
    """Resident bytes now (VmRSS) or at their peak (VmHWM); elsewhere than on Linux both are the peak so far."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)[1])  # pyright: ignore
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


# Tables.

_HEAD = (
    "Times are medians over the rounds, with their quartiles; × is a side's time over the first one's. Memory is the",
    "most that was resident above what the built step, with libraries and weights, had; the first call compiles. The",
    "difference is the largest of an array's to the first side's, relative.",
    "",
    "| case | side | ms | quartiles | × | first call, s | memory, MiB | difference |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def _row(case: str, measurement: Measurement) -> str:
    name = f"{measurement.name} ({measurement.note})" if measurement.note else measurement.name
    if measurement.unavailable:
        reason = measurement.unavailable.replace("|", "/")
        return f"| {case} | {name} | not available: {reason} | | | | | |"
    low, high = _quartiles(measurement.seconds)
    peak = measurement.peak if measurement.device_peak is None else measurement.device_peak
    memory = "?" if peak is None else f"{peak / 2**20:.0f}"
    return (
        f"| {case} | {name} | {_milliseconds(measurement.median)} | {_milliseconds(low)}–{_milliseconds(high)} | "
        f"{measurement.ratio:.2f} | {measurement.first:.1f} | {memory} | {max(measurement.differences):.1g} |"
    )


def _quartiles(seconds: Sequence[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, high


def _milliseconds(seconds: float) -> str:
    """Three significant digits."""
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _plain(measurement: Measurement) -> dict[str, Any]:
    """As JSON has it: no NaN."""
    fields = measurement._asdict() | {"median": measurement.median}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)[1].strip()  # pyright: ignore
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=8", "--exclude=*"]
    try:
        folder = Path(__file__).parent
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
