"""The scatter of one experiment (Fig. 2 of the paper)."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from jifv.experiments.experiment import Experiment
from jifv.experiments.report.figures_style import (
    COLOURS,
    EDGE,
    FEW,
    LEGEND,
    LETTERS,
    SMALL,
    degrees,
    finite_of,
    median_of,
    plain,
    shares_of,
)
from jifv.experiments.results import OBJECTIVES, Results, flags


class _Series(NamedTuple):
    """One row of the margin above the scatter: its label, and the names of its angles and of its colour."""

    label: str
    angles: str
    colour: str


def scatter(results: Results) -> Figure:
    """Draw the similarity after re-optimization over the angle to the target, both with their distributions (Fig. 2).

    A ring marks a target of which too little is left to recover, a square a realization on the cosine's floor, and a
    number an outlier. The bar below shows the mean share β of the target in the singular vectors of BJ, the last one
    first.
    """
    series = _series(results)
    figure = Figure(figsize=(5.6, 5.3 + 0.3 * len(series)), layout="constrained")
    axes = figure.subplot_mosaic(
        [["angles", "legend"], ["scatter", "ssim"], ["beta", "beta"]],
        width_ratios=(3, 1.4),
        height_ratios=(0.34 * len(series), 3, 0.22),
    )
    axes["angles"].sharex(axes["scatter"])
    axes["ssim"].sharey(axes["scatter"])
    _points(axes["scatter"], results, series)
    _angles(axes["angles"], results, series, axes["scatter"].get_xlim())
    _similarities(axes["ssim"], results, axes["scatter"].get_ylim())
    _legend(axes["legend"], results)
    _beta_bar(axes["beta"], results)
    figure.suptitle(_title(results.experiment, results.features), fontsize=LETTERS)
    return figure


def _series(results: Results) -> list[_Series]:
    reduced, dimension = results.calibrated.reduced, results.calibrated.basis.shape[1]
    ambient = _Series(f"prediction\nin {_space(results)}", "prediction", "ambient" if reduced else "prediction")
    on_v = _Series(f"prediction\nin $V$, dim {dimension}", "prediction_on_v", "prediction")
    others = [_Series(name + ("\non $V$" if reduced else ""), f"{name}_on_v", name) for name in ("response", "random")]
    return [ambient, on_v, *others] if reduced else [ambient, *others]


def _space(results: Results) -> str:
    return f"$\\mathbf{{R}}^{{{results.features}}}$"


def _rings(results: Results) -> dict[str, tuple[str, np.ndarray]]:
    """Find marker and samples of each ring, by its name in the legend."""
    found = flags(results)
    return {
        "target lost": ("o", found["lost"] | found["dead"]),
        "on the cosine's floor": ("s", found["on_floor"]),
    }


def _place(results: Results) -> np.ndarray:
    """Return the place of each sample: the angle of its prediction, on V if there is one, and its similarity."""
    name = "prediction_on_v" if results.calibrated.reduced else "prediction"
    return np.stack([results.evaluation.angles[name], results.evaluation.ssim["prediction"]], -1)


def _points(axes: Axes, results: Results, series: list[_Series]) -> None:
    evaluation, reduced = results.evaluation, results.calibrated.reduced
    stable = evaluation.ssim["prediction"]
    for _, name, colour in series[: 1 + reduced]:
        hollow = reduced and name == "prediction"
        for marker, kind in (("o", ~results.canonical), ("^", results.canonical)):
            axes.scatter(
                evaluation.angles[name][kind],
                stable[kind],
                s=26 if len(stable) <= FEW else 14,
                marker=marker,
                facecolor="none" if hollow else COLOURS[colour],
                edgecolor=COLOURS[colour] if hollow else "white",
                linewidth=0.8 if hollow else 0.3,
                alpha=0.85,
                zorder=3,
            )
    place = _place(results)
    for marker, marked in _rings(results).values():
        axes.scatter(*place[marked].T, s=80, marker=marker, facecolor="none", edgecolor="black", linewidth=0.7)

    widest = max(95.0, *(finite_of(evaluation.angles[name]).max(initial=0) for _, name, _ in series))
    lowest = min(0.9, *(finite_of(values).min(initial=1) for values in evaluation.ssim.values()))
    margin = 0.04 * (1 - lowest)
    axes.set_xlim(-0.03 * widest, 1.04 * widest)
    axes.set_ylim(lowest - margin, 1 + margin)
    axes.xaxis.set_major_locator(MultipleLocator(15 if widest < 120 else 30))
    axes.set_xlabel("angle to the target, degrees", fontsize=LETTERS)
    axes.set_ylabel("SSIM, re-optimized for the prediction", fontsize=LETTERS)
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    around = np.stack([evaluation.angles["prediction"], stable], -1)
    _label_outliers(axes, (place - low) / (high - low), (np.concatenate([place, around]) - low) / (high - low))
    plain(axes, "both")


def _angles(axes: Axes, results: Results, series: list[_Series], limits: tuple[float, float]) -> None:
    """Draw the margin above: the angles of each series."""
    angles = results.evaluation.angles
    _distributions(axes, [(angles[name], COLOURS[colour]) for _, name, colour in series], limits)
    axes.set_yticks(-np.arange(len(series)), [each.label for each in series])
    axes.tick_params(labelbottom=False)
    medians = [degrees(median_of(angles[name])) for _, name, _ in series]
    for row, text in zip((0.62, *range(0, -len(series), -1)), ("median", *medians), strict=True):
        axes.text(1.015, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL)
    plain(axes, "x")


def _similarities(axes: Axes, results: Results, limits: tuple[float, float]) -> None:
    """Draw the margin on the right: the similarity after re-optimization for each objective."""
    ssim = results.evaluation.ssim
    _distributions(axes, [(ssim[name], COLOURS[name]) for name in OBJECTIVES], limits, upright=True)
    axes.set_xticks(range(len(OBJECTIVES)), list(OBJECTIVES), rotation=90)
    axes.tick_params(labelleft=False)
    medians = [f"{median_of(ssim[name]):.2f}" for name in OBJECTIVES]
    for column, text in zip((-1.05, *range(len(OBJECTIVES))), ("median", *medians), strict=True):
        axes.text(column, 1.02, text, transform=axes.get_xaxis_transform(), ha="center", fontsize=SMALL)
    axes.set_title("SSIM, re-optimized for", fontsize=LETTERS, pad=13)
    plain(axes, "y")


def _legend(axes: Axes, results: Results) -> None:
    drawn = np.isfinite(_place(results)).all(-1)
    missing = (~drawn).sum()
    grey: dict[str, Any] = {"color": "#333333", "linestyle": "none", "markersize": 4.5}
    ring: dict[str, Any] = {**grey, "fillstyle": "none", "markersize": 8}
    hollow = f"hollow: in {_space(results)}"
    entries = [
        ((~results.canonical).any(), Line2D([], [], marker="o", label="sampled", **grey)),
        (results.canonical.any(), Line2D([], [], marker="^", label="canonical", **grey)),
        (results.calibrated.reduced, Line2D([], [], marker="o", fillstyle="none", label=hollow, **grey)),
        *(
            ((marked & drawn).any(), Line2D([], [], marker=marker, label=label, **ring))
            for label, (marker, marked) in _rings(results).items()
        ),
        (missing, Line2D([], [], linestyle="none", label=f"NaN: {missing} of {len(results.objectives)}")),
    ]
    axes.axis("off")
    handles = [handle for wanted, handle in entries if wanted]
    axes.legend(handles=handles, loc="upper left", fontsize=SMALL, frameon=False, borderpad=0)


def _beta_bar(axes: Axes, results: Results) -> None:
    """Draw the mean of β as one bar. Its legend has the numbers, because some parts are too thin for them."""
    parts = shares_of(results)
    for name, share, colour, hatch, left in parts:
        axes.barh(0, share, 0.8, left, color=colour, hatch=hatch, label=f"{name}: {share:.2f}", **EDGE)
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xlabel("mean share of the target in the singular vectors of $BJ$, the last one first", fontsize=LETTERS)
    if parts:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(parts), **LEGEND)
    plain(axes, None)


def _distributions(
    axes: Axes, rows: list[tuple[np.ndarray, str]], limits: tuple[float, float], *, upright: bool = False
) -> None:
    """Draw each row as points, or as a histogram of its own scale if they are many, with the median as a line.

    Rows lie at 0, -1, …, and columns (upright) at 0, 1, ….
    """
    for row, (values, colour) in enumerate(rows):
        place, finite = row if upright else -row, finite_of(values)
        if not len(finite):
            continue
        if len(finite) <= FEW:
            beside = place + 0.25 * np.sin(2.4 * np.arange(len(finite)))  # spread evenly, the same each time
            points = (beside, finite) if upright else (finite, beside)
            axes.scatter(*points, s=9, color=colour, alpha=0.8, linewidth=0)
        else:
            counts, edges = np.histogram(finite, np.linspace(*limits, 61))
            heights = place - 0.4 + 0.8 * counts / counts.max()
            orientation = "horizontal" if upright else "vertical"
            axes.stairs(heights, edges, baseline=place - 0.4, fill=True, color=colour, orientation=orientation)
        line = ([place - 0.42, place + 0.42], [np.median(finite)] * 2)
        axes.plot(*(line if upright else line[::-1]), color="black", linewidth=1.2)
    limits_of_rows = (-0.55, len(rows) - 0.45)
    if upright:
        axes.set_xlim(limits_of_rows)
    else:
        axes.set_ylim(-limits_of_rows[1], -limits_of_rows[0])


def _label_outliers(axes: Axes, place: np.ndarray, obstacles: np.ndarray, most: int = 8) -> None:
    """Label the outliers by their index where no point is in the way. Units are fractions of the axes."""
    finite = np.flatnonzero(np.isfinite(place).all(-1))
    if not len(finite):
        return
    low, high = np.percentile(place[finite], (25, 75), axis=0)
    far = (np.max((place - high, low - place), 0) / np.maximum(high - low, 0.02)).max(-1)
    furthest = finite[np.argsort(-far[finite], kind="stable")[:most]]
    labelled: list[np.ndarray] = []
    for index in furthest[far[furthest] > 3]:
        side = 1 if place[index, 0] < 0.88 else -1
        beside = place[index] + (0.065 * side, 0)
        on_points = (np.abs(obstacles - beside) < (0.055, 0.03)).all(-1).any()
        if not on_points and all((np.abs(beside - other) > (0.11, 0.035)).any() for other in labelled):
            labelled.append(beside)
            axes.annotate(
                f"#{index}",
                tuple(place[index]),
                (4 * side, -2),
                "axes fraction",
                "offset points",
                ha="left" if side > 0 else "right",
                fontsize=SMALL - 0.5,
            )


def _title(experiment: Experiment, features: int) -> str:
    settings, power = experiment.settings, experiment.significance.power
    return (
        f"{experiment.name}: {experiment.network}, {experiment.layer} ({features} features), k = {power:g}\n"
        f"{experiment.samples} samples, {settings.adam_steps} Adam + {settings.lbfgs_steps} L-BFGS steps"
    )
