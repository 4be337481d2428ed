"""How sure an inversion is: how often cones and intervals hold the objective, and what is left without the least sure.

    python benchmarks/confidence.py --keep runs/realizations --out benchmarks/results
    python benchmarks/confidence.py --keep runs/realizations --make dense3-32    # makes one setting and ends

Realizations of known objectives in the settings of harness/realizations.py: with rounded kinks and as they are, stopped
after few steps, with dead features. Each setting is kept in the folder `--keep` and made only where it is missing. In
each setting three quarters calibrate the last quarter, in turns.

`confidence`: a row per setting: angles between prediction and objective (on V), the median of angle over squared ratio
of singular values, the share of objectives in cones and of entries in intervals at level 0.9, the median cone. `others`
is the share in cones that all other settings calibrate, `alike` those that have kinks too, or have none either.

`confidence-risk`: what is left after dropping the least sure, by the cone, the gap, the stationarity, and by the angle
itself (nothing can be better): the share of answers more than 10° off, and the share of such errors that is gone.
"""

import jax
import numpy as np
from harness import pairs, realizations
from harness.tables import Table
from scipy.stats import spearmanr

import jifv
from jifv import confidence

KEY = jax.random.key(0)
FOLDS = 4
ERROR, FAILURE = 10.0, 30.0
KEPT = (1.0, 0.9, 0.8, 0.6, 0.4)


def select(tree, rows):
    """Some samples of a batch."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)


class Cell:
    """A setting, inverted, and what its quarters say of one another."""

    def __init__(self, made):
        self.made, experiment = made, made.setting.experiment
        self.name, self.kinks, basis = experiment.name, experiment.smoothing == 0, made.setting.basis
        options = {"significance": experiment.significance, "dead_tolerance": experiment.dead_tolerance}
        self.inversion = jax.device_get(jifv.invert(made.response, made.jacobian, basis=basis, **options))
        self.angle = np.asarray(jifv.angle(self.inversion.objective, made.objectives, basis=basis))
        self.whole = confidence.calibrate(self.inversion, made.objectives, basis=basis)
        goals = made.objectives if basis is None else made.objectives @ basis @ basis.T
        goals = goals / np.linalg.norm(goals, axis=1, keepdims=True)
        self.cone, self.entries = np.empty(len(goals)), np.empty(len(goals))
        for fold in range(FOLDS):
            tested = np.arange(len(goals)) % FOLDS == fold
            known = confidence.calibrate(select(self.inversion, ~tested), made.objectives[~tested], basis=basis)
            said = confidence.summarize(KEY, select(self.inversion, tested), known, basis=basis)
            inside = (said.lower <= goals[tested]) & (goals[tested] <= said.upper)
            self.cone[tested] = said.cone
            self.entries[tested] = np.nanmean(np.where(np.isnan(said.lower), np.nan, inside), axis=1)

    def held(self, others):
        """The share of objectives in cones that other settings calibrate."""
        quotients = np.sort(np.concatenate([cell.whole.quotients for cell in others]))
        return float(np.mean(self.angle <= confidence.cone(self.inversion, confidence.Calibration(quotients))))


def coverage(cells, table):
    """The rows of settings."""
    for cell in cells:
        others = [each for each in cells if each is not cell]
        alike = [each for each in others if each.kinks == cell.kinks]
        numbers = (np.median(cell.angle), np.mean(cell.angle > FAILURE), np.median(cell.whole.quotients))
        numbers += (np.mean(cell.angle <= cell.cone), np.mean(cell.entries), np.median(cell.cone))
        numbers += (cell.held(others), cell.held(alike))
        order = spearmanr(cell.cone, cell.angle).statistic
        table.row(cell.name, cell.kinks, len(cell.angle), *map(float, (*numbers, order)))
    every = [np.concatenate([getattr(cell, name) for cell in cells]) for name in ("angle", "cone", "entries")]
    angle, cone, entries = every
    numbers = (np.median(angle), np.mean(angle > FAILURE), None, np.mean(angle <= cone), np.mean(entries))
    numbers += (np.median(cone), None, None, spearmanr(cone, angle).statistic)
    table.row("all", None, len(angle), *(None if each is None else float(each) for each in numbers))


def risk(cells, table):
    """What is left if the least sure are dropped."""
    angles = np.concatenate([cell.angle for cell in cells])
    orders = {
        "cone": np.concatenate([cell.cone for cell in cells]),
        "gap": np.concatenate([-cell.inversion.gap for cell in cells]),
        "stationarity": np.concatenate([cell.inversion.stationarity for cell in cells]),
        "angle": angles,
    }
    wrong = angles > ERROR
    for name, order in orders.items():
        for kept in KEPT:
            rows = np.argsort(order, kind="stable")[: round(kept * len(angles))]
            gone = float(1 - np.sum(wrong[rows]) / np.sum(wrong)) if wrong.any() else None
            table.row(name, kept, len(rows), float(np.mean(wrong[rows])), gone)


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--keep", required=True, metavar="FOLDER", help="of the realizations")
    parser.add_argument("--make", nargs="+", choices=realizations.SETTINGS, help="make these and end")
    parser.add_argument("--there", action="store_true", help="use the settings that are there, make none")
    options = parser.parse_args()
    if options.make:
        for name in options.make:
            realizations.realizations(name, options.keep)
        return
    found = (realizations.realizations(name, options.keep, compute=not options.there) for name in realizations.SETTINGS)
    cells = [Cell(made) for made in found if made is not None]
    how = {"threads": options.threads, "out": options.out}
    columns = ("setting", "kinks", "samples", "angle", "above 30°", "quotient", "in the cone", "in intervals", "cone")
    coverage(cells, Table("confidence", (*columns, "others", "alike", "sorted"), **how))
    risk(cells, Table("confidence-risk", ("sorted by", "kept", "samples", "above 10°", "errors gone"), **how))


if __name__ == "__main__":
    main()
