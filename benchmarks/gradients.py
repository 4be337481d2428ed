"""What an answer costs: gradients per sample of Adam until predictions are as good as they get, with rounded kinks.

    python benchmarks/gradients.py --out benchmarks/results

Every row is a visualization of its own, from the same start and with the same objectives, by Adam alone with a learning
rate that falls to zero over the last part of its steps (`anneal`); a sample stops before where ‖∂d/∂p‖ ≤ tolerance·|d|.
`gradients` is the mean over the samples of the steps they took, `left` the median of ‖∂d/∂p‖/|d| at the end. Angles are
in degrees, for DNcl on the complement of (1, …, 1). The angle of the prediction is what counts, and the time of the
Jacobian is not: without --steps, rows are added until the median is 1°, at most 2,000 steps.
"""

from dataclasses import replace
from itertools import product

import jax
import numpy as np
from harness import pairs
from harness.networks import complement_of_ones
from harness.tables import Table

import jifv
from jifv.experiments.problem import network_of, problem_of
from jifv.experiments.studies import STUDIES

CASES = {
    "DNcl": ("dncl", "dncl-rounded"),
    "SRNet": ("srnet", "srnet-geometry-k2-rounded"),
    "DNde, 342": ("dnde", "dnde-n342-k2-rounded"),
    "GN4c, 512": ("gn4c-smooth", "gn4c-smooth"),
}
"""Study and cell by the name of a row."""
STEPS = (25, 50, 75, 100, 150, 200, 300, 400, 600, 1000, 1500, 2000)
ENOUGH = 1.0
"""Degrees."""


def cell_of(case, samples):
    """The experiment of a case, with so many samples."""
    study, name = CASES[case]
    (cell,) = (cell for cell in STUDIES[study].cells("quick") if cell.name == name)
    return replace(cell, samples=samples, canonical=cell.canonical * samples // cell.samples)


def realized(problem, cell, basis, settings):
    """Realizations, and degrees between predictions and objectives."""
    d = cell.significance
    end = jifv.visualize(
        problem.f, problem.start, problem.objectives, significance=d, settings=settings, mesh=problem.mesh
    )
    jacobians = np.concatenate([problem.to_compressed(p[None]) for p in end.parameters])
    inversion = jifv.invert(end.response, jacobians, significance=d, basis=basis, dead_tolerance=cell.dead_tolerance)
    return end, np.asarray(jifv.angle(inversion.objective, problem.objectives, basis=basis))


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.1, 0.2], help="learning rates")
    parser.add_argument("--anneals", nargs="+", type=float, default=[0.7, 1.0])
    parser.add_argument("--tolerances", nargs="+", type=float, default=[0.0])
    parser.add_argument("--steps", nargs="+", type=int, help="try these, whatever comes out")
    options = parser.parse_args()
    columns = ("case", "learning rate", "anneal", "tolerance", "steps", "gradients", "left", "prediction", "90 %")
    table = Table("gradients", columns, threads=options.threads, out=options.out)
    for case in options.cases:
        cell = cell_of(case, options.samples)
        problem = problem_of(cell, network_of(cell))
        basis = complement_of_ones(problem.objectives.shape[1]) if cell.critical_samples else None
        for rate, anneal, tolerance in product(options.rates, options.anneals, options.tolerances):
            changes = {"lbfgs_steps": 0, "learning_rate": rate, "anneal": anneal, "tolerance": tolerance}
            for steps in options.steps or STEPS:
                end, angles = realized(problem, cell, basis, replace(cell.settings, adam_steps=steps, **changes))
                median, most_of = np.percentile(angles, [50, 90])
                taken, left = np.mean(end.adam_steps), np.median(end.gradient_norm / np.abs(end.value))
                numbers = map(float, (taken, left, median, most_of))
                table.row(case, rate, anneal, tolerance, steps, *numbers)
                if median <= ENOUGH and not options.steps:
                    break
        jax.clear_caches()


if __name__ == "__main__":
    main()
