"""Figures of an experiment: angles against stability, and a gallery.

The colours are those of Okabe and Ito, which the colour-blind can tell apart.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jifv.experiment import LOST, OBJECTIVES, Results

_COLOURS = {
    "ambient": "#56B4E9",
    "prediction": "#0072B2",
    "target": "#009E73",
    "response": "#D55E00",
    "random": "#8C8C8C",
}
_MARKERS = {"sampled": "o", "canonical": "^"}


def save(figure: Figure, path: str | Path, *, dpi: int = 150) -> None:
    """Writes a figure; the ending of the file says the format."""
    figure.savefig(path, dpi=dpi)


def overview(results: Results) -> Figure:
    """Similarity after re-optimization over angle to the target, with both distributions in the margins (Fig. 2).

    The bar below shows the mean share β of the target in the singular vectors of BJ, the last one first.
    """
    dimension, features = results.basis.shape[1], results.objectives.shape[1]
    figure = Figure(figsize=(8, 8.5), layout="constrained")
    axes = figure.subplot_mosaic(
        [["angles", "."], ["scatter", "ssim"], ["beta", "beta"]],
        width_ratios=(3, 1.35),
        height_ratios=(1.1, 3, 0.55),
    )
    main, top, right = axes["scatter"], axes["angles"], axes["ssim"]
    reduced = dimension < features
    series = [
        (f"prediction, $\\mathbf{{R}}^{{{features}}}$", "prediction", "ambient"),
        *([(f"prediction on $V$, dim {dimension}", "prediction_on_v", "prediction")] if reduced else []),
        ("response" + (" on $V$" if reduced else ""), "response_on_v", "response"),
        ("random" + (" on $V$" if reduced else ""), "random_on_v", "random"),
    ]
    stable = results.ssim["prediction"]
    for label, name, colour in series[: 1 + reduced]:
        for kind, chosen in (("sampled", ~results.canonical), ("canonical", results.canonical)):
            main.scatter(
                results.angles[name][chosen],
                stable[chosen],
                s=42,
                marker=_MARKERS[kind],
                facecolor=_COLOURS[colour],
                edgecolor="white",
                linewidth=0.6,
                label=f"{label}, {kind}" if chosen.any() else None,
                zorder=3,
            )
    lost = results.off_v > LOST
    if lost.any():
        main.scatter(
            results.angles["prediction_on_v"][lost],
            stable[lost],
            s=130,
            facecolor="none",
            edgecolor="black",
            linewidth=0.9,
            label="target lost: nearly all off $V$",
        )
    widest = max(95.0, *(np.nanmax(results.angles[name]) for _, name, _ in series))
    main.set(xlabel="angle to the target (degrees)", ylabel="SSIM, re-optimized for the prediction")
    main.set_xlim(-3, widest + 5)
    low = np.nanmin([np.nanmin(values) for values in results.ssim.values()])
    main.set_ylim(min(0.9, low) - 0.03, 1.02)
    main.legend(fontsize=8, loc="best", framealpha=0.9)
    main.grid(alpha=0.25)

    _strips(
        top,
        [(label, results.angles[name], _COLOURS[colour]) for label, name, colour in series],
        vertical=False,
    )
    top.set_xlim(main.get_xlim())
    top.tick_params(labelbottom=False)
    _strips(right, [(name, results.ssim[name], _COLOURS[name]) for name in OBJECTIVES], vertical=True)
    right.set_ylim(main.get_ylim())
    right.tick_params(labelleft=False)
    right.set_title("SSIM, re-optimized\nfor the …", fontsize=9)
    _beta_bar(axes["beta"], results.mean_beta)

    experiment, settings = results.experiment, results.experiment.settings
    figure.suptitle(
        f"{experiment.name}: {experiment.network}, {experiment.layer} ({features} features), "
        f"{experiment.samples} samples, k = {settings.power:g}, "
        f"{settings.adam_steps} Adam + {settings.lbfgs_steps} L-BFGS steps",
        fontsize=9.5,
    )
    return figure


def gallery(results: Results, feature_names: tuple[str, ...], *, shown: int = 10, most: int = 48) -> Figure:
    """Each realization beside the weights of its target, of the prediction and of the response, all three on V.

    Args:
        results: The experiment.
        feature_names: Name of each feature.
        shown: Number of features in the bars, those with the largest weight in target or prediction.
        most: Number of samples at most, in the order of the results.
    """
    count = min(most, len(results.images))
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.1 * columns, 2.3 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=(1, 1.1) * columns)
    reduced = results.basis.shape[1] < results.objectives.shape[1]
    vectors = {
        "target": results.objectives,
        "prediction": results.inversion_on_v.objective,
        "response": results.visualization.response,
    }
    vectors = {name: _unit(rows @ results.basis @ results.basis.T) for name, rows in vectors.items()}
    for index in range(rows * columns):
        picture, bars = grid[index // columns, 2 * (index % columns) : 2 * (index % columns) + 2]
        if index >= count:
            picture.axis("off")
            bars.axis("off")
            continue
        picture.imshow(results.images[index][..., :3], interpolation="nearest")
        picture.set(xticks=[], yticks=[])
        angle = results.angles["prediction_on_v"][index]
        picture.set_title(f"#{index}: {angle:.1f}°" + (" on $V$" if reduced else ""), fontsize=9)
        _weights(bars, {name: rows[index] for name, rows in vectors.items()}, feature_names, shown)
    handles, names = figure.axes[1].get_legend_handles_labels()
    labels = [f"{name}, projected onto $V$" if reduced else name for name in names]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(vectors), fontsize=9, frameon=False)
    return figure


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _strips(axes: Axes, series: list[tuple[str, np.ndarray, str]], *, vertical: bool) -> None:
    """One strip of points a series, with its median as a line."""
    for row, (_, values, colour) in enumerate(series):
        place = -row if not vertical else row
        spread = place + 0.22 * np.sin(np.arange(len(values)) * 2.4)  # spread evenly, the same each time
        median = np.nanmedian(values)
        line = [place - 0.36, place + 0.36]
        if vertical:
            axes.scatter(spread, values, s=12, color=colour, alpha=0.75, linewidth=0)
            axes.plot(line, [median, median], color=colour, linewidth=2)
        else:
            axes.scatter(values, spread, s=12, color=colour, alpha=0.75, linewidth=0)
            axes.plot([median, median], line, color=colour, linewidth=2)
    labels = [label for label, _, _ in series]
    if vertical:
        axes.set_xticks(range(len(series)), labels, fontsize=8, rotation=90)
    else:
        axes.set_yticks([-row for row in range(len(series))], labels, fontsize=8)
    axes.grid(alpha=0.25)


def _beta_bar(axes: Axes, mean: np.ndarray) -> None:
    """The mean of β as one stacked bar; shares too thin to label are drawn without one."""
    left = 0.0
    for index, share in enumerate(mean):
        shade = "#0072B2" if index == 0 else "#E69F00" if index == 1 else "#BBBBBB" if index % 2 else "#DDDDDD"
        axes.barh(0, share, left=left, color=shade, edgecolor="white", linewidth=0.8)
        if share > 0.04:
            axes.text(
                left + share / 2,
                0,
                f"$\\beta_{{{index}}}$ {share:.2f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if index == 0 else "black",
            )
        left += share
    axes.set(
        xlim=(0, 1),
        yticks=[],
        xlabel="share of the target in each singular vector of $BJ$, the last one first",
    )


def _weights(axes: Axes, vectors: dict[str, np.ndarray], names: tuple[str, ...], shown: int) -> None:
    """Grouped horizontal bars of the features that weigh most in target or prediction."""
    weight = np.maximum(np.abs(vectors["target"]), np.abs(np.nan_to_num(vectors["prediction"])))
    features = np.sort(np.argsort(-weight, kind="stable")[:shown])
    places = np.arange(len(features))
    for offset, (name, values) in zip((-0.27, 0.0, 0.27), vectors.items(), strict=True):
        axes.barh(places + offset, values[features], height=0.27, color=_COLOURS[name], label=name)
    axes.set_yticks(places, [names[feature] for feature in features], fontsize=6.5)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xlim(-1.02, 1.02)
    axes.tick_params(axis="x", labelsize=6.5)
    axes.grid(axis="x", alpha=0.25)
