"""How sure an inversion is: how often cones and intervals hold the objective, and what is left without the least sure.

    python benchmarks/confidence.py --keep runs/realizations --out benchmarks/results
    python benchmarks/confidence.py --keep runs/realizations --make dense3-32    # makes one setting and ends

Realizations of known objectives in the settings of harness/realizations.py: with rounded kinks and as they are, stopped
after few steps, with dead features, of few features and of all. Each setting is kept in the folder `--keep` and made
only where it is missing, so that a run that was stopped goes on. In each setting three quarters calibrate the last
quarter, in turns.

`confidence`: a row per setting: angles between prediction and objective (on V), the median of angle over squared ratio
of singular values, the share of objectives in cones and of entries in intervals at level 0.9, the median cone, and the
share of answers that are undecided. `others` is the share in cones that all other settings calibrate, `alike` those
that have kinks too, or have none either. The last row is of all samples.

`confidence-risk`: what is left after dropping the least sure, by the cone, the gap, the stationarity, the structural
similarity of the picture before and after re-optimization for the answer, and by the angle itself (nothing can be
better): the share of answers more than 10° and 30° off, and the share of such answers that is gone.
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

    def __init__(self, made, ssim):
        experiment, self.ssim = made.setting.experiment, ssim
        self.name, self.kinks, basis = experiment.name, experiment.smoothing == 0, made.setting.basis
        self.inversion = realizations.inverted(made)
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
        """Which objectives are in cones that other settings calibrate; NaN where there are none."""
        if not others:
            return np.full(len(self.angle), np.nan)
        quotients = np.sort(np.concatenate([cell.whole.quotients for cell in others]))
        return self.angle <= np.asarray(confidence.cone(self.inversion, confidence.Calibration(quotients)))


def coverage(cells, table):
    """The rows of settings, and that of all samples."""
    held = []
    for cell in cells:
        others = [each for each in cells if each is not cell]
        alike = [each for each in others if each.kinks == cell.kinks]
        held.append((cell.held(others), cell.held(alike)))
        quotient = float(np.median(cell.whole.quotients))
        table.row(cell.name, cell.kinks, *numbers(cell.angle, cell.cone, cell.entries, quotient, *held[-1]))
    every = (np.concatenate([getattr(cell, name) for cell in cells]) for name in ("angle", "cone", "entries"))
    table.row("all", None, *numbers(*every, None, *map(np.concatenate, zip(*held, strict=True))))


def numbers(angle, cone, entries, quotient, others, alike):
    """What a row says of samples."""
    shares = (angle > FAILURE, angle <= cone, entries, cone >= confidence.WIDE, others, alike)
    failed, inside, entries, undecided, others, alike = (float(np.mean(each)) for each in shares)
    typical, wide, order = map(float, (np.median(angle), np.median(cone), spearmanr(cone, angle).statistic))
    return len(angle), typical, failed, quotient, inside, entries, wide, undecided, others, alike, order


def risk(cells, table):
    """What is left if the least sure are dropped."""
    angles = np.concatenate([cell.angle for cell in cells])
    orders = {
        "cone": [cell.cone for cell in cells],
        "gap": [-cell.inversion.gap for cell in cells],
        "stationarity": [cell.inversion.stationarity for cell in cells],
        "SSIM": [-cell.ssim for cell in cells] if all(cell.ssim is not None for cell in cells) else [],
        "angle": [angles],
    }
    for name, order in orders.items():
        if not order:
            continue
        ranks = np.argsort(np.concatenate(order), kind="stable")
        for kept in KEPT:
            left = angles[ranks[: round(kept * len(angles))]]
            shares = []
            for least in (ERROR, FAILURE):
                before, after = np.sum(angles > least), np.sum(left > least)
                shares += [float(after / len(left)), float(1 - after / before) if before else None]
            table.row(name, kept, len(left), *shares)


def main():
    parser = pairs.parser(__doc__)
    parser.add_argument("--keep", required=True, metavar="FOLDER", help="of the realizations")
    parser.add_argument("--make", nargs="+", choices=realizations.SETTINGS, help="make these and end")
    parser.add_argument("--there", action="store_true", help="use the settings that are there, make none")
    parser.add_argument("--steps", type=int, default=100, help="of re-optimization, for SSIM; 0 leaves it out")
    options = parser.parse_args()
    cells = []
    for name in options.make or realizations.SETTINGS:
        made = realizations.realizations(name, options.keep, compute=not options.there)
        if made is None:
            continue
        how = {"steps": options.steps, "compute": not options.there}
        ssim = realizations.ssim(made, options.keep, **how) if options.steps else None
        if not options.make:
            cells.append(Cell(made, ssim))
    if options.make:
        return
    how = {"threads": options.threads, "out": options.out}
    columns = ("setting", "kinks", "samples", "angle", "above 30°", "quotient", "in the cone", "in intervals", "cone")
    columns += ("undecided", "others", "alike", "sorted")
    coverage(cells, Table("confidence", columns, **how))
    columns = ("sorted by", "kept", "samples", "above 10°", "errors gone", "above 30°", "failures gone")
    risk(cells, Table("confidence-risk", columns, **how))


if __name__ == "__main__":
    main()
