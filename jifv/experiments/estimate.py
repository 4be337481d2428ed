"""What an experiment will cost, told before it begins: one step is measured, and the rest follows from the sizes."""

import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jifv._core.devices import divisible, scatter
from jifv._visualize.gradient import evaluate
from jifv.experiments.experiment import Experiment
from jifv.experiments.problem import Problem
from jifv.experiments.results import OBJECTIVES

_TRIALS = 1.2
"""Gradients per iteration of L-BFGS, see `Settings.most_trials`."""
_PER_ROW = 2 / 3
"""Cost of a row of the Jacobian in gradients: the backward pass alone, twice the operations of the forward pass."""
_JACOBIANS = 3
"""Arrays of the size of a Jacobian that inversion holds: GN4c's of 0.29 GiB takes 0.95 GiB (benchmarks/growth.py)."""
_STATES = 8
"""Arrays of the size of p that a step holds beside L-BFGS's history: p, gradient, Adam's moments, and copies."""
_RESPONSE = ("network", "layer", "input_size", "features", "aggregation", "smoothing", "parametrization", "std")
"""What decides the response function of an experiment."""


class Cost(NamedTuple):
    """What some work costs.

    Attributes:
        seconds: Wall-clock time.
        bytes: Memory, on all devices together.
    """

    seconds: float
    bytes: float


class Step(NamedTuple):
    """One gradient of a batch of samples, measured.

    Attributes:
        seconds: Wall-clock time.
        compilation: Seconds that its compilation took, few where the programs of an earlier run are kept.
        bytes: Memory in use by then, on all devices together.
        devices: How many share the batch.
        rows: Samples of the batch, and repetitions that fill up the devices.
        sample_bytes: Size of the parameters of a sample.
    """

    seconds: float
    compilation: float
    bytes: float
    devices: int
    rows: int
    sample_bytes: int


def measure_step(experiment: Experiment, problem: Problem) -> Step:
    """Compile the step that visualization and re-optimization share, and run it on the first batch."""
    batch = min(experiment.batch_size, experiment.samples)
    rows = divisible(np.arange(batch), problem.mesh)
    arrays = scatter((problem.start[rows], jnp.asarray(problem.objectives[rows])), problem.mesh)
    times = []
    for _ in range(3):  # the first one compiles
        began = time.perf_counter()
        jax.block_until_ready(evaluate(problem.f, experiment.significance, experiment.settings.precision, *arrays))
        times.append(time.perf_counter() - began)
    devices = 1 if problem.mesh is None else problem.mesh.size
    seconds = min(times)
    return Step(seconds, times[0] - seconds, _in_use(), devices, len(rows), problem.start[0].nbytes)


def programs(experiment: Experiment, *, jacobians: bool = True) -> set[tuple[Any, ...]]:
    """List the large programs of an experiment, as keys: each kind of step and, if wanted, the Jacobian.

    Each takes about as long to compile. Experiments with a key in common share the program.
    """
    settings = experiment.settings
    f = [getattr(experiment, name) for name in _RESPONSE]
    batch = min(experiment.batch_size, experiment.samples)
    precisions = {settings.precision, settings.adam_precision or settings.precision}
    found: set[tuple[Any, ...]] = {("step", experiment.significance, precision, batch, *f) for precision in precisions}
    if settings.redirected_steps:
        found.add(("redirected", batch, *f))
    return found | ({("jacobian", experiment.row_batch_size, *f)} if jacobians else set())


def estimate(
    experiment: Experiment, step: Step, *, features: int, realize: int, reoptimize: int, compilations: int = 0
) -> Cost:
    """Estimate what is left of an experiment. The SVDs, figures and writing files are not counted.

    Args:
        experiment: What to do.
        step: What one step costs, see `measure_step`; of another experiment, if network, layer, input and batch are
            the same.
        features: Rows of the Jacobian.
        realize: Batches that are to be visualized and inverted.
        reoptimize: Batches that are to be re-optimized.
        compilations: Programs that are still to be compiled, see `programs`.
    """
    settings = experiment.settings
    adam = settings.adam_steps + min(settings.redirected_steps, settings.adam_steps)  # a step that wakes is two
    steps = adam + _TRIALS * settings.lbfgs_steps
    # One Jacobian per device at a time, and so as many samples at a time as in a step.
    gradients = realize * (steps + features * _PER_ROW) + reoptimize * len(OBJECTIVES) * experiment.reoptimize_steps
    states = step.rows * step.sample_bytes * (_STATES + 2 * settings.history)
    jacobians = step.devices * features * step.sample_bytes * _JACOBIANS
    seconds = gradients * step.seconds + compilations * step.compilation
    return Cost(seconds, step.bytes + max(states, jacobians))


def text(cost: Cost) -> str:
    """Write a cost for people."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if cost.seconds >= 2 * length:
            return f"about {cost.seconds / length:.0f} {unit}, {cost.bytes / 2**30:.1f} GiB"
    return f"about {max(1, cost.seconds):.0f} s, {cost.bytes / 2**30:.1f} GiB"


def _in_use() -> int:
    """Return the most memory that has been in use, of the devices or, for CPUs, of this process; 0 if unknown."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(each.get("peak_bytes_in_use", 0) for each in stats)
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
