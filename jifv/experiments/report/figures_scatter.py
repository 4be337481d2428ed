"""The scatter of one experiment (Fig. 2)."""

from typing import Any

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
from jifv.experiments.results import LOST, OBJECTIVES, Results


def scatter(results: Results) -> Figure:
    """Similarity after re-optimization over angle to the target, with both distributions in the margins (Fig. 2).

    A ring marks a target of which too little is left to recover, a square a realization on the cosine's floor, and a
    number an outlier. The bar below shows the mean share β of the target in the singular vectors of BJ, the last one
    first.
    """
    features, dimension = results.basis.shape
    reduced = dimension < features
    space = f"$\\mathbf{{R}}^{{{features}}}$"
    ambient = (f"prediction\nin {space}", "prediction", "ambient" if reduced else "prediction")
    on_v = (f"prediction\nin $V$, dim {dimension}", "prediction_on_v", "prediction")
    series = [
        *([ambient, on_v] if reduced else [ambient]),
        *((name + ("\non $V$" if reduced else ""), f"{name}_on_v", name) for name in ("response", "random")),
    ]
    figure = Figure(figsize=(5.6, 5.3 + 0.3 * len(series)), layout="constrained")
    axes = figure.subplot_mosaic(
        [["angles", "legend"], ["scatter", "ssim"], ["beta", "beta"]],
        width_ratios=(3, 1.4),
        height_ratios=(0.34 * len(series), 3, 0.22),
    )
    main, top, right = axes["scatter"], axes["angles"], axes["ssim"]
    top.sharex(main)
    right.sharey(main)
    stable = results.ssim["prediction"]
    for _, name, colour in series[: 1 + reduced]:
        hollow = reduced and name == "prediction"
        for marker, kind in (("o", ~results.canonical), ("^", results.canonical)):
            main.scatter(
                results.angles[name][kind],
                stable[kind],
                s=26 if len(stable) <= FEW else 14,
                marker=marker,
                facecolor="none" if hollow else COLOURS[colour],
                edgecolor=COLOURS[colour] if hollow else "white",
                linewidth=0.8 if hollow else 0.3,
                alpha=0.85,
                zorder=3,
            )
    place = np.stack([results.angles[series[reduced][1]], stable], -1)
    lost = (results.off_v > LOST) | (results.on_silent > LOST)
    rings = {"target lost": ("o", lost), "on the cosine's floor": ("s", results.on_floor)}
    for marker, marked in rings.values():
        main.scatter(*place[marked].T, s=80, marker=marker, facecolor="none", edgecolor="black", linewidth=0.7)

    widest = max(95.0, *(finite_of(results.angles[name]).max(initial=0) for _, name, _ in series))
    lowest = min(0.9, *(finite_of(values).min(initial=1) for values in results.ssim.values()))
    margin = 0.04 * (1 - lowest)
    main.set_xlim(-0.03 * widest, 1.04 * widest)
    main.set_ylim(lowest - margin, 1 + margin)
    main.xaxis.set_major_locator(MultipleLocator(15 if widest < 120 else 30))
    main.set_xlabel("angle to the target, degrees", fontsize=LETTERS)
    main.set_ylabel("SSIM, re-optimized for the prediction", fontsize=LETTERS)
    low, high = np.array([main.get_xlim(), main.get_ylim()]).T
    around = np.stack([results.angles["prediction"], stable], -1)
    _label_outliers(main, (place - low) / (high - low), (np.concatenate([place, around]) - low) / (high - low))
    plain(main, "both")

    _distributions(top, [(results.angles[name], COLOURS[colour]) for _, name, colour in series], main.get_xlim())
    top.set_yticks(-np.arange(len(series)), [label for label, _, _ in series])
    top.tick_params(labelbottom=False)
    medians = [degrees(median_of(results.angles[name])) for _, name, _ in series]
    for row, text in zip((0.62, *range(0, -len(series), -1)), ("median", *medians), strict=True):
        top.text(1.015, row, text, transform=top.get_yaxis_transform(), va="center", fontsize=SMALL)
    plain(top, "x")

    _distributions(right, [(results.ssim[name], COLOURS[name]) for name in OBJECTIVES], main.get_ylim(), upright=True)
    right.set_xticks(range(len(OBJECTIVES)), list(OBJECTIVES), rotation=90)
    right.tick_params(labelleft=False)
    medians = [f"{median_of(results.ssim[name]):.2f}" for name in OBJECTIVES]
    for column, text in zip((-1.05, *range(len(OBJECTIVES))), ("median", *medians), strict=True):
        right.text(column, 1.02, text, transform=right.get_xaxis_transform(), ha="center", fontsize=SMALL)
    right.set_title("SSIM, re-optimized for", fontsize=LETTERS, pad=13)
    plain(right, "y")

    drawn = np.isfinite(place).all(-1)
    missing = (~drawn).sum()
    grey: dict[str, Any] = {"color": "#333333", "linestyle": "none", "markersize": 4.5}
    ring: dict[str, Any] = {**grey, "fillstyle": "none", "markersize": 8}
    entries = [
        ((~results.canonical).any(), Line2D([], [], marker="o", label="sampled", **grey)),
        (results.canonical.any(), Line2D([], [], marker="^", label="canonical", **grey)),
        (reduced, Line2D([], [], marker="o", fillstyle="none", label=f"hollow: in {space}", **grey)),
        *(
            ((marked & drawn).any(), Line2D([], [], marker=marker, label=label, **ring))
            for label, (marker, marked) in rings.items()
        ),
        (missing, Line2D([], [], linestyle="none", label=f"NaN: {missing} of {len(place)}")),
    ]
    handles = [handle for wanted, handle in entries if wanted]
    axes["legend"].axis("off")
    axes["legend"].legend(handles=handles, loc="upper left", fontsize=SMALL, frameon=False, borderpad=0)
    _beta_bar(axes["beta"], results)
    figure.suptitle(_title(results.experiment, features), fontsize=LETTERS)
    return figure


def _beta_bar(axes: Axes, results: Results) -> None:
    """The mean of β as one bar, whose legend has the numbers: no part is too thin for that."""
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
    """For each row points, or a histogram of its own scale if they are many, and the median as a line.

    Rows lie at 0, -1, …, or if upright at 0, 1, ….
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
    """The numbers of the samples furthest from the others, where no point is in the way; all in shares of the axes."""
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
    settings = experiment.settings
    return (
        f"{experiment.name}: {experiment.network}, {experiment.layer} ({features} features), k = {settings.power:g}\n"
        f"{experiment.samples} samples, {settings.adam_steps} Adam + {settings.lbfgs_steps} L-BFGS steps"
    )
