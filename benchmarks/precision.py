"""What fewer digits in the products of feature visualization do to the predictions, emulated on a CPU.

    python benchmarks/precision.py --out benchmarks/results/precision

The steps that a row names round the factors of every product as the tensor cores of an accelerator do
(`Settings(precision="default")`, see tensor_cores.py); all others, the Jacobian and the inversion are float32. All rows
of a case have the same objectives and start from the same parameters. Angles are in degrees, for DNcl on the
complement of (1, …, 1).
"""

from dataclasses import replace

import jax
import numpy as np
from harness import pairs
from harness.tables import Table
from harness.tensor_cores import emulated

import jifv
from jifv.experiments.experiment import _problem, _stationarity, network_of
from jifv.experiments.studies import STUDIES
from jifv.visualization import _before_cooldown

CASES = {
    cell.name: cell
    for study, name in (("dncl", "dncl"), ("srnet", "srnet-geometry-k2"), ("parametrizations", "gn4c-smooth-pixels"))
    for cell in STUDIES[study].cells("quick")
    if cell.name == name
}


def stages(settings):
    """How many of the first steps are rounded, by the name of the stage they belong to."""
    named = {"Adam before its cooldown": _before_cooldown(settings), "Adam": settings.adam_steps}
    return named | ({"Adam and L-BFGS": None} if settings.lbfgs_steps else {})


def visualize(problem, settings, steps):
    """Realizations whose first steps have rounded factors."""
    state = jifv.start(problem.f, problem.start, problem.objectives, settings)
    state = jifv.advance(problem.f, state, replace(settings, precision="default"), steps)
    return jifv.finish(problem.f, jifv.advance(problem.f, state, settings), settings)


def row(cell, problem, basis, steps):
    """Angles of predictions and responses, and how far the realizations are from rest."""
    end = visualize(problem, cell.settings, steps)
    options = {"power": cell.settings.power, "silence": cell.silence}
    inversion = jifv.invert_batch(problem.f, end.parameters, basis=basis, progress=False, **options)
    everywhere = np.eye(problem.objectives.shape[1], dtype=np.float32) if basis is None else basis
    predicted, response = (
        np.asarray(jifv.angle_on(everywhere, each, problem.objectives)) for each in (inversion.objective, end.response)
    )
    share = np.asarray(jifv.beta(inversion.singular_vectors, problem.objectives))
    rest = _stationarity(share, inversion.singular_values)
    angles = float(np.median(predicted)), float(np.percentile(predicted, 90)), float(np.median(response))
    return *angles, float(np.median(rest))


def complement_of_ones(features):
    """An orthonormal basis of the shifts that a softmax sees."""
    return np.linalg.svd(np.ones((1, features)))[2][1:].T.astype(np.float32)


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
        problem = _problem(cell, network_of(cell), None)
        basis = complement_of_ones(problem.objectives.shape[1]) if cell.jacobians else None
        table.row(name, "float32", "none", *row(cell, problem, basis, 0))
        for kind in ("tf32", "bfloat16"):
            for stage, steps in stages(cell.settings).items():
                with emulated(kind):
                    table.row(name, kind, stage, *row(cell, problem, basis, steps))


if __name__ == "__main__":
    main()
