"""Run an experiment: visualize, invert, choose the critical space, re-optimize, and compare."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jifv import aggregate, evaluate
from jifv import objectives as sample
from jifv._core.devices import compiler_options, in_turn, leads, over_samples, together
from jifv._core.progress import bar
from jifv.critical import critical_spaces
from jifv.experiments.experiment import Experiment
from jifv.experiments.registry import AGGREGATIONS, PARAMETRIZATIONS
from jifv.experiments.results import OBJECTIVES, Results
from jifv.experiments.store import Store
from jifv.inversion import Inversion, invert, triangle
from jifv.jacobian import linearize
from jifv.models import Network, load
from jifv.response import Response, compose
from jifv.visualization import visualize


class _Problem(NamedTuple):
    """What all stages of an experiment share; everything random is drawn here."""

    f: Response
    mesh: Mesh | None
    to_images: Callable[[Array], Array]
    to_triangle: Callable[[Array], Array]
    invert: Callable[[Array, Array], Inversion]
    objectives: np.ndarray
    canonical: np.ndarray
    random: np.ndarray
    start: Array


def network_of(experiment: Experiment, *, weights: str | Path | None = None) -> Network:
    """The network of an experiment, see `jifv.models.load`, which says what can go wrong."""
    return load(
        experiment.network,
        layer=experiment.layer,
        weights=weights,
        input_size=experiment.input_size,
        smoothing=experiment.smoothing,
    )


def run(
    experiment: Experiment,
    network: Network,
    *,
    store: Store | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> Results:
    """Run an experiment, or what is left of it.

    Args:
        experiment: What to do.
        network: The network up to the layer, see `network_of`.
        store: Where each batch goes once it is finished, and from where finished ones are taken; in memory if None.
            See `Store.open` and `identity`.
        mesh: Devices that share each batch, see `jifv.sample_mesh`; None for one.
        progress: Whether to show a progress bar for every stage.

    Raises:
        ValueError: The network does not fit the experiment.
        FloatingPointError: Fewer than two realizations are finite.
    """
    problem = _problem(experiment, network, mesh)
    devices = 1 if mesh is None else mesh.size
    progress &= leads()
    if store is None:
        store = Store.in_memory(experiment.samples, experiment.batch_size)

    for batch in store.missing("realize"):
        done = _realize(experiment, problem, store.rows(batch), progress)
        store.write("realize", batch, *done, devices=devices)
    realized = store.read("realize")
    finite = realized["finite"]
    if finite.sum() < 2:
        raise FloatingPointError(f"only {finite.sum()} realizations are finite: are the network's weights?")
    calibrated, calibration_seconds = _calibrate(experiment, problem, realized)

    candidates = {
        "prediction": calibrated["prediction_on_v"],
        "target": problem.objectives,
        "response": realized["response"],
        "random": problem.random,
    }
    for batch in store.missing("reoptimize"):
        rows = store.rows(batch)
        those = {name: vectors[rows] for name, vectors in candidates.items()}
        done = _reoptimize(experiment, problem, realized["parameters"], rows, those, progress)
        store.write("reoptimize", batch, *done, devices=devices)
    reoptimized = store.read("reoptimize")

    ambient = candidates | {"prediction": realized["prediction"]}
    angles = {}
    for name in ("prediction", "response", "random"):
        # A realization that met NaN is no optimum of anything: it is reported, and has no angle.
        in_ambient = evaluate.angle(ambient[name], problem.objectives)
        on_v = evaluate.angle_on(calibrated["basis"], candidates[name], problem.objectives)
        angles[name] = np.where(finite, in_ambient, np.nan)
        angles[f"{name}_on_v"] = np.where(finite, on_v, np.nan)
    realized.pop("triangle", None)
    return Results(
        experiment=experiment,
        feature_names=network.feature_names[: problem.objectives.shape[1]],
        objectives=problem.objectives,
        canonical=problem.canonical,
        random=problem.random,
        angles=angles,
        off_v=np.maximum(0, 1 - np.sum(np.square(problem.objectives @ calibrated["basis"]), -1)),
        reoptimized={name: reoptimized[f"images_{name}"] for name in OBJECTIVES},
        ssim={
            name: np.where(finite & np.isfinite(candidates[name]).all(-1), reoptimized[f"ssim_{name}"], np.nan)
            for name in OBJECTIVES
        },
        seconds=store.seconds() | calibration_seconds,
        devices=store.devices(),
        **realized,
        **calibrated,
    )


def identity(experiment: Experiment, network: Network) -> dict[str, Any]:
    """What decides the numbers of a run: the experiment, the weights, and what computes. See `Store.open`."""
    return {
        "experiment": asdict(experiment),
        "weights": network.digest,
        "versions": {name: metadata.version(name) for name in ("jifv", "jax", "jaxlib")},
        "device": jax.devices()[0].device_kind,
        "float64": jax.dtypes.canonicalize_dtype(np.float64) == np.float64,
    }


def _problem(experiment: Experiment, network: Network, mesh: Mesh | None) -> _Problem:
    features = experiment.features or network.features
    if features > network.features:
        raise ValueError(f"features must be at most the {network.features} of {network.layer}, got {features}")
    phi = PARAMETRIZATIONS[experiment.parametrization](network.input_shape, std=experiment.std)
    aggregation = AGGREGATIONS[experiment.aggregation](network.smoothing_width)
    if experiment.features is not None:
        aggregation = aggregate.first(features, aggregation)
    objectives_key, start_key, random_key = jax.random.split(jax.random.key(experiment.seed), 3)
    objectives, canonical = _objectives(objectives_key, experiment, features)
    f = compose(phi.apply, network.apply, aggregation)

    def to_triangle(one: Float[Array, "1 *p"]) -> Float[Array, "1 n k"]:
        # The Jacobian without its long side. With the QR decomposition Jᵀ = U T, U with orthonormal columns, Tᵀ has
        # the left-singular vectors and the singular values of J, and so have Tᵀ and J after any product from the
        # left: the methods need no more, in n × n numbers.
        return triangle(linearize(f, one[0], chunk=experiment.chunk).jacobian).T[None]

    return _Problem(
        f=f,
        mesh=mesh,
        to_images=jax.jit(jax.vmap(phi.apply)),
        to_triangle=jax.jit(over_samples(to_triangle, mesh), compiler_options=compiler_options(mesh)),
        invert=_inverter(experiment, mesh),
        objectives=objectives,
        canonical=canonical,
        random=np.asarray(sample.sparse_objectives(random_key, experiment.samples, features, dtype=objectives.dtype)),
        start=jax.vmap(phi.init)(jax.random.split(start_key, experiment.samples)),
    )


def _realize(experiment: Experiment, problem: _Problem, rows: np.ndarray, progress: bool) -> tuple[dict, dict]:
    """Visualization, Jacobians and inversion of some samples; and the seconds of each."""
    seconds: dict[str, float] = {}
    objectives = problem.objectives[rows]
    label = f"samples {rows[0]}–{rows[-1]}"
    with _timed(seconds, "visualize"):
        run = visualize(
            problem.f,
            *_padded(experiment, problem.start[rows], objectives),
            settings=experiment.settings,
            mesh=problem.mesh,
            progress=progress,
            description=f"{experiment.name}: visualize {label}",
        )
        run = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(rows)], run)
    with _timed(seconds, "jacobian"), bar(f"{experiment.name}: Jacobians of {label}", len(rows), progress) as advance:
        triangles = []
        for each in in_turn(problem.to_triangle, problem.mesh, run.parameters):
            triangles.append(each)
            advance()
        triangles = np.stack(triangles)
    with _timed(seconds, "invert"):
        inversion = together(problem.invert, problem.mesh, run.response, triangles)
    share = np.asarray(evaluate.beta(inversion.singular_vectors, objectives))
    arrays = run._asdict() | {
        "images": np.asarray(problem.to_images(jnp.asarray(run.parameters))),
        "prediction": inversion.objective,
        "singular_values": inversion.singular_values,
        "gap": inversion.gap,
        "silent": inversion.silent,
        "beta": np.where(run.finite[:, None], share, np.nan),
        "stationarity": np.where(run.finite, _stationarity(share, inversion.singular_values), np.nan),
    }
    return arrays | ({"triangle": triangles} if experiment.jacobians else {}), seconds


def _stationarity(share: np.ndarray, singular_values: np.ndarray) -> np.ndarray:
    """‖JᵀBv*‖/σ₁(BJ) of each sample, from the shares β; 0 where J is."""
    # Where a target lies on silent features its gradient is 0 there, and the stiff directions say nothing of it.
    values = np.where(np.isfinite(singular_values), singular_values, 0)
    largest = values.max(-1)
    return np.sqrt(np.sum(share[:, ::-1] * np.square(values), -1)) / np.where(largest > 0, largest, 1)


def _calibrate(experiment: Experiment, problem: _Problem, realized: dict) -> tuple[dict, dict]:
    """The critical spaces, the one that predicts the known objectives best, and the predictions with it."""
    objectives, seconds = problem.objectives, {}
    usable = realized["finite"] & np.isfinite(realized["prediction"]).all(-1)
    spaces, bases = [], [np.eye(objectives.shape[1], dtype=objectives.dtype)]
    predictions, gaps = [realized["prediction"]], [realized["gap"]]
    if experiment.jacobians:
        with _timed(seconds, "critical"):
            spaces = critical_spaces(realized["triangle"][np.flatnonzero(usable)[: experiment.jacobians]])
        for space in spaces:
            bases.append(space.basis.astype(objectives.dtype))
            solve = _inverter(experiment, problem.mesh, bases[-1])
            inversion = together(solve, problem.mesh, realized["response"], realized["triangle"])
            predictions.append(inversion.objective)
            gaps.append(inversion.gap)
    choice = evaluate.choose_space(bases, [each[usable] for each in predictions], objectives[usable])
    calibrated = {
        "spaces": spaces,
        "choice": choice,
        "basis": bases[choice.index],
        "prediction_on_v": predictions[choice.index],
        "gap_on_v": gaps[choice.index],
    }
    # Algorithm 1 runs once for all samples: a share of it each.
    return calibrated, {name: value / experiment.samples for name, value in seconds.items()}


def _reoptimize(
    experiment: Experiment,
    problem: _Problem,
    parameters: np.ndarray,
    rows: np.ndarray,
    candidates: dict[str, np.ndarray],
    progress: bool,
) -> tuple[dict, dict]:
    """Images re-optimized for each candidate, and their similarity to those before; and the seconds."""
    seconds: dict[str, float] = {}
    arrays = {}
    before = problem.to_images(jnp.asarray(parameters[rows]))
    with _timed(seconds, "reoptimize"):
        for name, wanted in candidates.items():
            after = evaluate.reoptimize(
                problem.f,
                *_padded(experiment, parameters[rows], _usable(wanted, problem.objectives[rows])),
                steps=experiment.reoptimize_steps,
                settings=experiment.settings,
                mesh=problem.mesh,
                progress=progress,
                description=f"{experiment.name}: re-optimize {rows[0]}–{rows[-1]} for the {name}",
            )
            images = problem.to_images(after[: len(rows)])
            arrays[f"images_{name}"] = np.asarray(images)
            arrays[f"ssim_{name}"] = np.asarray(evaluate.ssim(_in_unit_range(before), _in_unit_range(images)))
    # The paper's table has the seconds of one re-optimization.
    return arrays, {name: value / len(candidates) for name, value in seconds.items()}


def _objectives(key: Array, experiment: Experiment, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Sampled objectives, then canonical ones spread over the features; and which are canonical."""
    canonical = min(experiment.canonical, features)
    sampled = experiment.samples - canonical
    indices = np.arange(canonical) * features // max(canonical, 1)
    parts = [np.asarray(sample.sparse_objectives(key, sampled, features))] if sampled else []
    if canonical:
        parts.append(np.asarray(sample.canonical_objectives(indices, features)))
    return np.concatenate(parts), np.arange(experiment.samples) >= sampled


def _inverter(experiment: Experiment, mesh: Mesh | None, basis=None) -> Callable[[Array, Array], Inversion]:
    """`invert` with the experiment's options. Each call of this function costs a compilation."""
    options = {"power": experiment.settings.power, "basis": basis, "silence": experiment.silence}
    return jax.jit(over_samples(partial(invert, **options), mesh))


def _padded(experiment: Experiment, *arrays):
    """The same arrays with their last row repeated to the size of a full batch: one shape, and so one compilation."""
    rows = np.minimum(np.arange(min(experiment.batch_size, experiment.samples)), len(arrays[0]) - 1)
    return tuple(array[rows] for array in arrays)


def _usable(wanted: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Objectives of unit length; where there is none (not finite, zero), the fallback, whose result is discarded."""
    length = np.linalg.norm(wanted, axis=-1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    return np.where(good, wanted / np.where(good, length, 1), fallback)


def _in_unit_range(images: Array) -> Array:
    """Inputs as images with values in [0, 1]: a frame of SRNet has a mask and normals in [-1, 1], then its depth."""
    if images.shape[-1] != 5:
        return images
    return jnp.concatenate([(images[..., :4] + 1) / 2, images[..., 4:]], -1)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began
