"""What fewer digits in the products of feature visualization do to the predictions, emulated on a CPU.

    python benchmarks/precision.py --out benchmarks/results

The steps that a row names round the factors of every product as the tensor cores of an accelerator do
(`Settings(precision="default")`, see harness/tensor_cores.py). All other steps, the Jacobian and the inversion are
float32. All rows of a case have the same objectives and start from the same parameters. Angles are in degrees, for DNcl
on the complement of (1, …, 1).
"""

from dataclasses import replace

import jax
import numpy as np
from harness import pairs
from harness.networks import complement_of_ones
from harness.tables import Table
from harness.tensor_cores import emulated

import jifv
from jifv.experiments.problem import network_of, problem_of
from jifv.experiments.studies import STUDIES
from jifv.visualization import advance, finish, start

CASES = {
    cell.name: cell
    for study, name in (("dncl", "dncl"), ("srnet", "srnet-geometry-k2"), ("parametrizations", "gn4c-smooth-pixels"))
    for cell in STUDIES[study].cells("quick")
    if cell.name == name
}


def stages(settings):
    """How many of the first steps are rounded, by the name of the stage they belong to."""
    named = {"Adam before it anneals": settings.steps_at_full_rate, "Adam": settings.adam_steps}
    return named | ({"Adam and L-BFGS": None} if settings.lbfgs_steps else {})


def visualize(problem, cell, steps):
    """Realizations whose first steps have rounded factors; None for all steps."""
    rounded = replace(cell.settings, precision="default")
    state = start(problem.f, problem.start, problem.objectives, significance=cell.significance, settings=rounded)
    state = replace(advance(problem.f, state, steps), settings=cell.settings)
    return finish(problem.f, advance(problem.f, state))


def row(cell, problem, basis, steps):
    """Angles of predictions and responses, and how far the realizations are from rest."""
    end, d = visualize(problem, cell, steps), cell.significance
    jacobians = np.concatenate([problem.to_compressed(p[None]) for p in end.parameters])
    inversion = jifv.invert(end.response, jacobians, significance=d, basis=basis, dead_tolerance=cell.dead_tolerance)
    predicted, response = (
        np.asarray(jifv.angle(each, problem.objectives, basis=basis)) for each in (inversion.objective, end.response)
    )
    rest = np.median(jifv.stationarity(end.response, jacobians, problem.objectives, significance=d))
    angles = float(np.median(predicted)), float(np.percentile(predicted, 90)), float(np.median(response))
    return *angles, float(rest)


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("products are emulated on CPUs only: set JAX_PLATFORMS=cpu")
    columns = ("case", "format", "rounded steps", "prediction", "90 %", "response", "‖JᵀBv*‖/σ₁")
    table = Table("precision", columns, threads=options.threads, out=options.out)
    for name in options.cases:
        canonical = CASES[name].canonical * options.samples // CASES[name].samples
        cell = replace(CASES[name], samples=options.samples, canonical=canonical)
        problem = problem_of(cell, network_of(cell))
        basis = complement_of_ones(problem.objectives.shape[1]) if cell.critical_samples else None
        table.row(name, "float32", "none", *row(cell, problem, basis, 0))
        for kind in ("tf32", "bfloat16"):
            for stage, steps in stages(cell.settings).items():
                with emulated(kind):
                    table.row(name, kind, stage, *row(cell, problem, basis, steps))


if __name__ == "__main__":
    main()
