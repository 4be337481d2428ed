"""Run an experiment: visualize, invert, choose the critical space, re-optimize, and compare."""

from dataclasses import asdict, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jifv import evaluate
from jifv._core.devices import in_turn, leads, together
from jifv._core.progress import bar
from jifv.critical import critical_spaces
from jifv.experiments.batches import circumstances, in_unit_range, padded, surroundings, timed, usable
from jifv.experiments.experiment import Experiment
from jifv.experiments.problem import Problem, inverter_on, problem_of
from jifv.experiments.results import OBJECTIVES, Calibrated, Realized, Reoptimized, Results, candidates, evaluated
from jifv.experiments.store import Store
from jifv.inversion import stationarity
from jifv.models import Network
from jifv.visualization import PAPER, visualize

TIMES = {"reoptimize": len(OBJECTIVES)}
"""How often a run does the parts of which its store keeps the seconds of one, see `Store.total_seconds`."""


def run(
    experiment: Experiment,
    network: Network,
    *,
    store: Store | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
) -> Results:
    """Run an experiment, or what is left of it.

    Args:
        experiment: What to do.
        network: The network up to the layer, see `network_of`.
        store: Where each batch goes once it is finished, and where finished ones come from; in memory if None.
            See `Store.open` and `identity`.
        mesh: Devices that share each batch, see `jifv.sample_mesh`; None for one.
        progress: Whether to show a progress bar for every stage.

    Raises:
        ValueError: The network does not fit the experiment.
        FloatingPointError: Fewer than two realizations are finite.
    """
    problem = problem_of(experiment, network, mesh)
    how = circumstances(mesh)
    progress &= leads()
    if store is None:
        store = Store.in_memory(experiment.samples, experiment.batch_size)

    for batch in store.missing("realize"):
        rows = store.rows(batch)
        done, seconds = _realize(experiment, problem, rows, progress)
        # The targets, which the seed makes anyway, for whoever reads the store alone.
        store.write("realize", batch, done.arrays() | {"objectives": problem.objectives[rows]}, seconds, **how)
    realized = Realized(**{name: array for name, array in store.read("realize").items() if name != "objectives"})
    if realized.finite.sum() < 2:
        raise FloatingPointError(f"only {realized.finite.sum()} realizations are finite: are the network's weights?")
    calibrated, calibration_seconds = _calibrate(experiment, problem, realized)
    realized = replace(realized, compressed=None)  # which nothing needs from here on, and large

    wanted = candidates(problem.objectives, problem.random, realized, calibrated)
    for batch in store.missing("reoptimize"):
        rows = store.rows(batch)
        those = {name: vectors[rows] for name, vectors in wanted.items()}
        done, seconds = _reoptimize(experiment, problem, realized.parameters, rows, those, progress)
        store.write("reoptimize", batch, done.arrays(), seconds, **how)
    reoptimized = Reoptimized.of(store.read("reoptimize"))
    return Results(
        experiment=experiment,
        feature_names=network.feature_names[: problem.objectives.shape[1]],
        objectives=problem.objectives,
        canonical=problem.canonical,
        random=problem.random,
        realized=realized,
        calibrated=calibrated,
        reoptimized=reoptimized,
        evaluation=evaluated(problem.objectives, problem.random, realized, calibrated, reoptimized),
        seconds=store.seconds() | calibration_seconds,
        devices=store.devices(),
        commits=store.commits(),
    )


def identity(experiment: Experiment, network: Network) -> dict[str, Any]:
    """List what decides the numbers of a run: the experiment, the weights, and what computes. See `Store.open`."""
    return {"experiment": asdict(experiment), **surroundings(network)}


def _realize(
    experiment: Experiment, problem: Problem, rows: Int[np.ndarray, " rows"], progress: bool
) -> tuple[Realized, dict[str, float]]:
    """Visualize, linearize and invert some samples, and time each part."""
    seconds: dict[str, float] = {}
    objectives = problem.objectives[rows]
    label = f"samples {rows[0]}–{rows[-1]}"
    with timed(seconds, "visualize"):
        found = visualize(
            problem.f,
            *padded(_full(experiment), problem.start[rows], objectives),
            significance=experiment.significance,
            settings=experiment.settings,
            mesh=problem.mesh,
            progress=progress,
            description=f"{experiment.name}: visualize {label}",
        )
        parameters, response = (np.asarray(each)[: len(rows)] for each in (found.parameters, found.response))
    with timed(seconds, "jacobian"), bar(f"{experiment.name}: Jacobians of {label}", len(rows), progress) as advance:
        jacobians = []
        for each in in_turn(problem.to_compressed, problem.mesh, parameters):
            jacobians.append(each)
            advance()
        compressed = np.stack(jacobians)
    with timed(seconds, "invert"):
        inversion = together(problem.invert, problem.mesh, response, compressed)
    share = np.asarray(evaluate.beta(inversion.singular_vectors, objectives))
    rest = stationarity(response, compressed, objectives, significance=experiment.significance)
    finite = np.asarray(found.finite)[: len(rows)]
    ends = ("value", "cosine", "gradient_norm", "adam_steps", "lbfgs_steps", "on_floor")
    realized = Realized(
        parameters=parameters,
        images=np.asarray(problem.to_images(jnp.asarray(parameters))),
        response=response,
        finite=finite,
        **{name: np.asarray(getattr(found, name))[: len(rows)] for name in ends},
        prediction=inversion.objective,
        singular_values=inversion.singular_values,
        gap=inversion.gap,
        dead=inversion.dead,
        beta=np.where(finite[:, None], share, np.nan),
        stationarity=np.where(finite, rest, np.nan),
        compressed=compressed if experiment.critical_samples else None,
    )
    return realized, seconds


def _calibrate(experiment: Experiment, problem: Problem, realized: Realized) -> tuple[Calibrated, dict[str, float]]:
    """Find critical spaces, choose the one that predicts the known objectives best, and predict with it."""
    objectives, seconds = problem.objectives, {}
    spaces, bases = [], [np.eye(objectives.shape[1], dtype=objectives.dtype)]
    predictions, gaps, rests = [realized.prediction], [realized.gap], [realized.last_singular_value]
    if realized.compressed is not None:
        used = np.flatnonzero(realized.usable)[: experiment.critical_samples]
        with timed(seconds, "critical"):
            spaces = critical_spaces(realized.compressed[used])
        for space in spaces:
            bases.append(space.basis.astype(objectives.dtype))
            solve = inverter_on(experiment, problem.mesh, bases[-1])
            inversion = together(solve, problem.mesh, realized.response, realized.compressed)
            predictions.append(inversion.objective)
            gaps.append(inversion.gap)
            rests.append(inversion.stationarity)
    usable = realized.usable
    support = [1.0, *(space.gap for space in spaces)]
    choice = evaluate.choose_space(bases, [each[usable] for each in predictions], objectives[usable], gaps=support)
    calibrated = Calibrated(
        spaces=spaces,
        choice=choice,
        basis=bases[choice.index],
        prediction=predictions[choice.index],
        gap=gaps[choice.index],
        stationarity=rests[choice.index],
    )
    # Algorithm 1 runs once for all samples: each gets an equal share.
    return calibrated, {name: value / experiment.samples for name, value in seconds.items()}


def _reoptimize(
    experiment: Experiment,
    problem: Problem,
    parameters: Float[np.ndarray, "s *p"],
    rows: Int[np.ndarray, " rows"],
    wanted: dict[str, np.ndarray],
    progress: bool,
) -> tuple[Reoptimized, dict[str, float]]:
    """Re-optimize images for each objective, compare them with those before, and time it."""
    seconds: dict[str, float] = {}
    images, similarities = {}, {}
    before = problem.to_images(jnp.asarray(parameters[rows]))
    with timed(seconds, "reoptimize"):
        for name, objectives in wanted.items():
            after = evaluate.reoptimize(
                problem.f,
                *padded(_full(experiment), parameters[rows], usable(objectives, problem.objectives[rows])),
                significance=experiment.significance,
                steps=experiment.reoptimize_steps,
                # The paper's rate, whatever brought them here: how far a picture moves depends on it.
                settings=replace(PAPER, precision=experiment.settings.precision),
                mesh=problem.mesh,
                progress=progress,
                description=f"{experiment.name}: re-optimize {rows[0]}–{rows[-1]} for the {name}",
            )
            changed = problem.to_images(after[: len(rows)])
            images[name] = np.asarray(changed)
            similarities[name] = np.asarray(evaluate.ssim(in_unit_range(before), in_unit_range(changed)))
    # The paper's table has the seconds of one re-optimization; see `TIMES`.
    return Reoptimized(images, similarities), {name: value / len(wanted) for name, value in seconds.items()}


def _full(experiment: Experiment) -> int:
    """Return the number of samples in a full batch."""
    return min(experiment.batch_size, experiment.samples)
