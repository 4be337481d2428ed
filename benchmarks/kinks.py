"""Realizations of a network as it is: what kinks leave of the gradient, and whether it can be projected away.

    python benchmarks/kinks.py --out benchmarks/results

A visualization comes to rest on kinks, and what remains of its gradient is a combination of the gradients of the units
on their kink. They show without taps: where the parameters move by a little noise, such units change sides, and rows
of J change along their gradients. So the right-singular vectors of J(p + noise) − J(p) are a basis of them, and the
inversion of J with that basis projected away no longer sees the rest. Controls have to become worse, or stay as they
are: as many random directions, visualizations stopped after a tenth of their steps, and random inputs. Angles are in
degrees, medians; `rest` is ‖JᵀBv*‖/σ₁ of the target, `explained` the share of that vector in the basis.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from harness import pairs
from harness.tables import Table

import jifv
from jifv.experiments.experiment import with_options
from jifv.experiments.problem import network_of, problem_of
from jifv.experiments.studies import STUDIES

ADAM = {"lbfgs_steps": 0, "anneal": 0.7}
CASES = {
    "DNde, 32": ("dnde", "dnde-n32-k2", {"adam_steps": 300, "std": 0.5} | ADAM),
    "DNde, 342": ("dnde", "dnde-n342-k2", {"adam_steps": 1000, "std": 0.5} | ADAM),
    "GN4c, 64": ("gn4c-features", "gn4c-n64-k2", {"adam_steps": 2000, "dead_tolerance": 0.02} | ADAM),
    "GN4c, 128": ("gn4c-features", "gn4c-n64-k2", {"adam_steps": 2000, "features": 128, "dead_tolerance": 0.02} | ADAM),
}
"""Study, cell and what is changed of it."""
NOISE, PERTURBATIONS = 1e-3, 8


def differences(f, linearize, p, key):
    """An orthonormal basis (m, q) of what rows of J change by where p moves, and J itself with its response."""
    base = linearize(f, p)
    moved = [
        linearize(f, p + NOISE * jax.random.normal(each, p.shape)).jacobian - base.jacobian
        for each in jax.random.split(key, PERTURBATIONS)
    ]
    stacked = np.concatenate(moved).astype(np.float64)
    values, vectors = np.linalg.eigh(stacked @ stacked.T)
    kept = values > 1e-6 * values[-1]
    basis = stacked.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return base, basis.astype(np.float32)


def measured(cell, problem, parameters, key):
    """Medians: angle and gap as it is, projected, and off random directions; rest, the share explained, directions."""
    linearize = jax.jit(jifv.linearize, static_argnums=0)
    rows = []
    for index, (p, v) in enumerate(zip(parameters, problem.objectives, strict=True)):
        base, basis = differences(problem.f, linearize, p, jax.random.fold_in(key, index))
        random = np.linalg.qr(np.random.default_rng(index).normal(size=basis.shape).astype(np.float32))[0]
        found = []
        for taken in (basis[:, :0], basis, random):
            left = base.jacobian - (base.jacobian @ taken) @ taken.T
            inversion = jifv.invert(
                base.response, left, significance=cell.significance, dead_tolerance=cell.dead_tolerance
            )
            found += [float(jifv.angle(inversion.objective, v)), float(inversion.gap)]
        gradient = base.jacobian.T @ cell.significance.gradient_product(base.response, jnp.asarray(v))
        explained = float(jnp.linalg.norm(basis.T @ gradient) / jnp.linalg.norm(gradient)) ** 2
        rest = float(jifv.stationarity(base.response, base.jacobian, jnp.asarray(v), significance=cell.significance))
        rows.append((*found, rest, explained, basis.shape[1]))
    return np.median(np.array(rows), axis=0)


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    columns = (
        "as it is",
        "gap",
        "projected",
        "gap, projected",
        "random",
        "gap, random",
        "rest",
        "explained",
        "directions",
    )
    table = Table("kinks", ("case", "end", *columns), threads=options.threads, out=options.out)
    for case in options.cases:
        study, name, changes = CASES[case]
        (cell,) = (cell for cell in STUDIES[study].cells("quick") if cell.name == name)
        cell = with_options(cell, changes | {"samples": options.samples, "canonical": 0})
        problem = problem_of(cell, network_of(cell))
        for end, share in (("at rest", 1.0), ("a tenth of the steps", 0.1), ("random input", 0.0)):
            steps = round(share * cell.settings.adam_steps)
            parameters = problem.start
            if steps:
                settings = replace(cell.settings, adam_steps=steps, anneal=cell.settings.anneal if share == 1 else 0.0)
                parameters = jifv.visualize(
                    problem.f,
                    problem.start,
                    problem.objectives,
                    significance=cell.significance,
                    settings=settings,
                ).parameters
            table.row(case, end, *map(float, measured(cell, problem, parameters, jax.random.key(0))))
        jax.clear_caches()


if __name__ == "__main__":
    main()
