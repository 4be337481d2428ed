"""How sure an inversion is: coverage of 90 % sets, and what is left if the least sure answers are dropped.

    python benchmarks/confidence.py --keep runs/realizations --out benchmarks/results
    python benchmarks/confidence.py --keep runs/realizations --make dense3-32    # makes one setting and ends

Realizations of known objectives in the settings of harness/realizations.py, failures among them: as they are with
their kinks, stopped after few steps, with dead features. Each setting is kept in the folder `--keep` and made only
where it is missing. τ and the levels are calibrated on every second sample of the settings marked `seen`, and their
rows are about the others. The rest of the settings calibration has never seen. `own` is what coverage would be after a
calibration on every second sample of the same setting.

`confidence`: a row per setting: angles between prediction and target (on V), the share of targets in the credible cone,
the share of entries in their intervals, the share of samples that are undecided, and how well the cone sorts:
Spearman's correlation with the angle. `confidence-risk`: what is left after dropping the least sure, by the width of
the cone, by the gap, by stationarity, and by the angle itself (nothing can be better): the share of answers that are
more than 30° off among those kept, their 95th percentile, and the share of such errors that is gone.
"""

import jax
import numpy as np
from harness import pairs, realizations
from harness.tables import Table
from scipy.stats import spearmanr

import jifv
from jifv import confidence

KEY = jax.random.key(0)
ERROR = 30.0
KEPT = (1.0, 0.9, 0.8, 0.6, 0.4)


def select(tree, rows):
    """Some samples of a batch."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)


class Cell:
    """A setting, inverted."""

    def __init__(self, made):
        self.made, experiment = made, made.setting.experiment
        basis = made.setting.basis
        options = {"significance": experiment.significance, "dead_tolerance": experiment.dead_tolerance}
        inversion = jifv.invert(made.response, made.jacobian, basis=basis, **options)
        self.solved = confidence.Solved(inversion, made.response, made.objectives, experiment.significance, basis)
        self.angle = np.asarray(jifv.angle(inversion.objective, made.objectives, basis=basis))

    def some(self, rows):
        """Some samples, to calibrate on."""
        kept = (select(each, rows) for each in self.solved[:3])
        return confidence.Solved(*kept, *self.solved[3:])

    def judged(self, calibration):
        """What the posterior says of every sample, and whether its sets hold the target."""
        inversion, response, goal, _, basis = self.solved
        given = confidence.posterior(inversion, response, calibration)
        found = jax.device_get(confidence.summarize(KEY, given, basis=basis))
        if basis is not None:
            goal = goal @ basis
            goal = goal / np.linalg.norm(goal, axis=1, keepdims=True) @ basis.T
        inside = np.where(np.isnan(found.lower), np.nan, (found.lower <= goal) & (goal <= found.upper))
        return found, self.angle <= found.cone, np.nanmean(inside, axis=1)


def risk(orders, angles, table):
    """What is left if the least sure are dropped."""
    wrong = angles > ERROR
    for name, order in orders.items():
        for kept in KEPT:
            rows = np.argsort(order, kind="stable")[: round(kept * len(angles))]
            # Of no errors no share can be gone, and a median hardly sees which samples are dropped.
            gone = float(1 - np.sum(wrong[rows]) / np.sum(wrong)) if wrong.any() else None
            worst = float(np.quantile(angles[rows], 0.95))
            table.row(name, kept, len(rows), float(np.mean(wrong[rows])), worst, gone)


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
    half = slice(0, None, 2)
    seen = [cell.some(half) for cell in cells if cell.made.setting.seen]
    calibration = confidence.calibrate(KEY, seen, scales=32)
    print(calibration)
    columns = ("setting", "seen", "samples", "angle", "above 30°", "in the cone", "in intervals", "undecided", "sorted")
    how = {"threads": options.threads, "out": options.out}
    table = Table("confidence", (*columns, "own"), **how)
    orders, angles, held, new = {name: [] for name in ("cone", "gap", "stationarity", "angle")}, [], [], []
    for cell in cells:
        setting = cell.made.setting
        rows = slice(1, None, 2) if setting.seen else slice(None)
        said, inside, entries = cell.judged(calibration)
        _, own, _ = cell.judged(confidence.calibrate(KEY, cell.some(half)))
        angle = cell.angle[rows]
        numbers = (np.median(angle), np.mean(angle > ERROR), np.mean(inside[rows]), np.nanmean(entries[rows]))
        numbers += (np.mean(said.undecided[rows]), spearmanr(said.cone[rows], angle).statistic, np.mean(own[1::2]))
        table.row(setting.experiment.name, setting.seen, len(angle), *map(float, numbers))
        sure = (said.cone, -cell.solved.inversion.gap, cell.solved.inversion.stationarity, cell.angle)
        for name, order in zip(orders, sure, strict=True):
            orders[name].append(np.asarray(order)[rows])
        angles.append(angle)
        held.append(inside[rows])
        new.append(np.full(len(angle), not setting.seen))
    new, held, angles = (np.concatenate(each) for each in (new, held, angles))
    orders = {name: np.concatenate(each) for name, each in orders.items()}
    for name, which, rows in (("all seen", True, ~new), ("all unseen", False, new), ("all", None, new | True)):
        numbers = (np.median(angles[rows]), np.mean(angles[rows] > ERROR), np.mean(held[rows]))
        order = spearmanr(orders["cone"][rows], angles[rows]).statistic
        table.row(name, which, int(np.sum(rows)), *map(float, numbers), None, None, float(order), None)
    columns = ("sorted by", "kept", "samples", "above 30°", "95th percentile", "errors gone")
    risk(orders, angles, Table("confidence-risk", columns, **how))


if __name__ == "__main__":
    main()
