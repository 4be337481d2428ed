"""A side of a comparison in a process of its own: how it is started, limited, timed and ended."""

import math
import multiprocessing
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness.results import cores

_TURN = 0.2
"""Seconds that a turn takes at least. Its time is the median of its steps: the first finds cold caches."""


class Unavailable(Exception):  # noqa: N818
    """What a builder or a step raises for a side that cannot run here; its message says why."""


class Side(NamedTuple):
    """One side of a comparison; everything in it can be pickled.

    Attributes:
        name: What the table calls it.
        build: Returns the step, a function without arguments that returns when its result, an array or a sequence of
            arrays, has been computed. It may raise `Unavailable`, ImportError or FileNotFoundError.
        arguments: What `build` is called with.
        values: From the step's result to what is compared with the other sides; None compares the result itself.
        scale: Factor on the time, for a step that does only a part of the work.
        note: What the table says beside the name.
        environment: Names and values of further variables of its process.
    """

    name: str
    build: Callable[..., Callable[[], Any]]
    arguments: tuple = ()
    values: Callable[[Any], Any] | None = None
    scale: float = 1.0
    note: str = ""
    environment: tuple[tuple[str, str], ...] = ()


class Measurement(NamedTuple):
    """What was measured of a side.

    Attributes:
        name: Name of the side.
        note: Note of the side.
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


# The parent's end of a worker.


class Worker:
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
        with _limited(threads, dict(side.environment)):
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
def _limited(threads: int, further: dict[str, str]) -> Iterator[None]:
    """What a process started inside inherits before it imports anything: cores, thread pools and further variables."""
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    # XLA takes the size of its pool from NPROC, or from the cores where it is not set. Two processes share the
    # memory of a GPU, which JAX would otherwise take for itself.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    limits = dict.fromkeys(names, str(threads)) | {"XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    wanted = limits | further
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
    """Take the first step and return what was measured, and its values."""
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
