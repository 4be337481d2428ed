"""The paper's experiments: visualize known objectives, invert the realizations, and see how close the predictions are.

An `Experiment` is data. `run` takes it through the whole path, the same for every experiment, and returns `Results`;
`jifv.report` turns those into files, figures and tables.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jifv import aggregate, evaluate, parametrize, sample
from jifv._check import check_positive
from jifv._progress import bar
from jifv.critical import CriticalSpace, critical_spaces
from jifv.evaluate import Choice
from jifv.invert import Inversion, invert, triangle
from jifv.jacobian import linearize
from jifv.models import Network
from jifv.response import compose
from jifv.visualize import Settings, Visualization, visualize

OBJECTIVES = ("prediction", "target", "response", "random")
"""What realizations are compared with and re-optimized for."""


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper.

    Attributes:
        name: Its name on the command line.
        network: The network, by the name that `jifv.models.load` knows.
        layer: The tapped layer.
        samples: Number of objectives.
        canonical: How many of them are canonical vectors, though never more than there are features; the others are
            sampled with uniform Hoyer sparseness.
        settings: Options of the visualization.
        reoptimize_steps: Steps of Adam for each of `OBJECTIVES` in re-optimization.
        jacobians: Algorithm 1 uses the Jacobians of the first so many samples.
        seed: Decides everything that is random.
        aggregation: Name of the aggregation, one of `AGGREGATIONS`.
        parametrization: Name of the parametrization, one of `PARAMETRIZATIONS`.
    """

    name: str
    network: str
    layer: str
    samples: int
    canonical: int
    settings: Settings = field(default_factory=Settings)
    reoptimize_steps: int = 500
    jacobians: int = 32
    seed: int = 0
    aggregation: str = "max_mean"
    parametrization: str = "pixels"

    def __post_init__(self) -> None:
        """Check what the parts do not check themselves."""
        check_positive("samples", self.samples)
        check_positive("reoptimize_steps", self.reoptimize_steps)
        check_positive("jacobians", self.jacobians)
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, to choose a critical space, got {self.samples}")
        if not 0 <= self.canonical <= self.samples:
            raise ValueError(f"canonical must be between 0 and samples, {self.samples}, got {self.canonical}")


AGGREGATIONS: dict[str, aggregate.Aggregation] = {
    "max_mean": aggregate.max_mean(),
    "mean": aggregate.mean,
    "pick": aggregate.pick,
    "identity": aggregate.identity,
}
PARAMETRIZATIONS: dict[str, Callable[[tuple[int, int, int]], parametrize.Parametrization]] = {
    "pixels": parametrize.pixels,
    "fourier": parametrize.fourier,
    "fourier_decorrelated": partial(parametrize.fourier, decay=1.0),
}

LOST = 0.9
"""With more than this share of its squared length off V a target counts as lost: less than 18° from V's complement."""

EXPERIMENTS = {
    "dncl": Experiment(
        name="dncl",
        network="densenet",
        layer="classifier",
        aggregation="identity",
        samples=16,
        canonical=4,
        settings=Settings(adam_steps=300, lbfgs_steps=100),
        reoptimize_steps=40,
    )
}
"""The experiments with their default size, which a laptop does in minutes. The paper's size is in its section 3."""


class Results(NamedTuple):
    """All that an experiment computed. The first axis is the sample, s of them.

    Attributes:
        experiment: What was run.
        objectives: Target objectives v*, the sampled ones first, then the canonical ones.
        canonical: Which objectives are canonical vectors.
        visualization: The realizations.
        images: x = φ(p), in [0, 1].
        inversion: Inversion in Rⁿ.
        spaces: The critical spaces that Algorithm 1 found, from the largest dimension to the smallest.
        choice: Which space predicts best; index 0 is Rⁿ, i + 1 is `spaces[i]`.
        basis: Orthonormal basis of the chosen space V.
        inversion_on_v: Inversion with it.
        random: Random objectives, to compare with.
        angles: Degrees to the target, of `OBJECTIVES` but the target itself, in Rⁿ and (name + "_on_v") on V.
        beta: Share of each left-singular vector of BJ in the target, the last one first.
        off_v: Share of the target's squared length that lies off V, in [0, 1], and cannot be recovered.
        reoptimized: Images after re-optimization for each of `OBJECTIVES`.
        ssim: Their structural similarity to `images`.
        seconds: Wall-clock time a stage, compilation included.
    """

    experiment: Experiment
    objectives: Float[np.ndarray, "s n"]
    canonical: np.ndarray
    visualization: Visualization
    images: Float[np.ndarray, "s h w c"]
    inversion: Inversion
    spaces: list[CriticalSpace]
    choice: Choice
    basis: Float[np.ndarray, "n q"]
    inversion_on_v: Inversion
    random: Float[np.ndarray, "s n"]
    angles: dict[str, Float[np.ndarray, " s"]]
    beta: Float[np.ndarray, "s n"]
    off_v: Float[np.ndarray, " s"]
    reoptimized: dict[str, Float[np.ndarray, "s h w c"]]
    ssim: dict[str, Float[np.ndarray, " s"]]
    seconds: dict[str, float]

    @property
    def mean_beta(self) -> Float[np.ndarray, " n"]:
        """The mean of `beta` over the samples that have one."""
        return self.beta[np.isfinite(self.beta).all(-1)].mean(0)


def run(experiment: Experiment, network: Network, *, batch_size: int | None = None, progress: bool = True) -> Results:
    """Run an experiment.

    Args:
        experiment: What to do.
        network: The network up to the layer, see `jifv.models.load`.
        batch_size: Samples optimized at a time, None for all; bounds the memory.
        progress: Whether to show a progress bar for every stage.

    Raises:
        ValueError: `batch_size` < 1, or the network does not fit the experiment.
        FloatingPointError: fewer than two realizations are finite.
    """
    settings = experiment.settings
    phi = PARAMETRIZATIONS[experiment.parametrization](network.input_shape)
    f = compose(phi.apply, network.apply, AGGREGATIONS[experiment.aggregation])
    to_images = jax.jit(jax.vmap(phi.apply))
    objectives_key, start_key, random_key = jax.random.split(jax.random.key(experiment.seed), 3)
    objectives, canonical = _objectives(objectives_key, experiment, network.features)
    start = jax.vmap(phi.init)(jax.random.split(start_key, experiment.samples))
    seconds: dict[str, float] = {}

    with _timed(seconds, "visualize"):
        realizations = visualize(f, start, objectives, settings=settings, batch_size=batch_size, progress=progress)
    finite = np.asarray(realizations.finite)
    if finite.sum() < 2:
        raise FloatingPointError(f"only {finite.sum()} realizations are finite: are the network's weights?")
    with _timed(seconds, "jacobian"):
        jacobians = _reduced_jacobians(f, realizations.parameters, progress)
    with _timed(seconds, "invert"):
        inversion = _host(invert(realizations.response, jacobians, power=settings.power))

    usable = finite & np.isfinite(inversion.objective).all(-1)
    with _timed(seconds, "critical"):
        spaces = critical_spaces(jacobians[np.flatnonzero(usable)[: experiment.jacobians]])
        identity = np.eye(network.features, dtype=objectives.dtype)
        bases = [identity, *(space.basis.astype(objectives.dtype) for space in spaces)]
        inversions = [
            inversion,
            *(_host(invert(realizations.response, jacobians, power=settings.power, basis=q)) for q in bases[1:]),
        ]
        choice = evaluate.choose_space(bases, [each.objective[usable] for each in inversions], objectives[usable])
    basis, on_v = bases[choice.index], inversions[choice.index]

    random = sample.sparse_objectives(random_key, experiment.samples, network.features, dtype=objectives.dtype)
    candidates = {
        "prediction": on_v.objective,
        "target": objectives,
        "response": np.asarray(realizations.response),
        "random": np.asarray(random),
    }
    with _timed(seconds, "reoptimize"):
        images = np.asarray(to_images(realizations.parameters))
        reoptimized = {}
        for name, wanted in candidates.items():
            parameters = evaluate.reoptimize(
                f,
                realizations.parameters,
                _usable_objectives(wanted, objectives),
                steps=experiment.reoptimize_steps,
                settings=settings,
                batch_size=batch_size,
                progress=progress,
                description=f"re-optimize for the {name}",
            )
            reoptimized[name] = np.asarray(to_images(parameters))
        ssim = {name: np.asarray(evaluate.ssim(images, after)) for name, after in reoptimized.items()}
        for name, wanted in candidates.items():
            ssim[name] = np.where(finite & np.isfinite(wanted).all(-1), ssim[name], np.nan)

    compared = {name: candidates[name] for name in ("response", "random")}
    angles = {
        name: evaluate.angle(v, objectives) for name, v in {"prediction": inversion.objective, **compared}.items()
    } | {
        f"{name}_on_v": evaluate.angle_on(basis, v, objectives)
        for name, v in {"prediction": on_v.objective, **compared}.items()
    }
    beta = evaluate.beta(inversion.singular_vectors, objectives)
    return Results(
        experiment=experiment,
        objectives=objectives,
        canonical=canonical,
        visualization=_host(realizations),
        images=images,
        inversion=inversion,
        spaces=spaces,
        choice=choice,
        basis=basis,
        inversion_on_v=on_v,
        random=candidates["random"],
        # A realization that met NaN is no optimum of anything: it is reported, and has no angle.
        angles={name: np.where(finite, degrees, np.nan) for name, degrees in angles.items()},
        beta=np.where(finite[:, None], beta, np.nan),
        off_v=np.maximum(0, 1 - np.sum(np.square(objectives @ basis), -1)),
        reoptimized=reoptimized,
        ssim=ssim,
        seconds=seconds,
    )


def resized(experiment: Experiment, *, samples: int | None = None, **changes) -> Experiment:
    """The experiment with other options; of a changed number of samples a quarter is canonical, see `Experiment`."""
    if samples is not None:
        check_positive("samples", samples)
        changes |= {"samples": samples, "canonical": samples // 4}
    return replace(experiment, **changes)


def _objectives(key: Array, experiment: Experiment, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Sampled objectives, then canonical ones spread over the features; and which are canonical."""
    canonical = min(experiment.canonical, features)
    sampled = experiment.samples - canonical
    indices = np.arange(canonical) * features // max(canonical, 1)
    parts = [np.asarray(sample.sparse_objectives(key, sampled, features))] if sampled else []
    if canonical:
        parts.append(np.asarray(sample.canonical_objectives(indices, features)))
    return np.concatenate(parts), np.arange(experiment.samples) >= sampled


def _reduced_jacobians(f: Callable, parameters: Float[Array, "s *p"], progress: bool) -> Float[np.ndarray, "s n k"]:
    """The Jacobian of each realization without its long side.

    With the QR decomposition Jᵀ = U T, U with orthonormal columns, Tᵀ has the left-singular vectors and the singular
    values of J, and so have Tᵀ and J after any product from the left: the methods need no more, in n × n numbers.
    """
    reduce = jax.jit(lambda p: triangle(linearize(f, p).jacobian).T)
    rows = []
    with bar("Jacobians", len(parameters), progress) as advance:
        for single in parameters:
            rows.append(np.asarray(reduce(single)))
            advance()
    return np.stack(rows)


def _usable_objectives(wanted: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Objectives of unit length; where there is none (not finite, zero), the fallback, whose result is discarded."""
    length = np.linalg.norm(wanted, axis=-1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    return np.where(good, wanted / np.where(good, length, 1), fallback)


def _host(tree):
    """The same tuple of NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began
