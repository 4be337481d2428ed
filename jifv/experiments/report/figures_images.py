"""Figures that show realizations: the gallery of one experiment, and a comparison of parametrizations (Fig. 4)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from jifv.experiments.report.figures_panels import listed, panels_of
from jifv.experiments.report.figures_style import COLOURS, LETTERS, SMALL, WIDE, degrees, plain
from jifv.experiments.report.picture import picture
from jifv.experiments.results import Results


def gallery(results: Results, *, shown: int = 10, most: int = 24) -> Figure:
    """Show each realization beside the weights of its target, its prediction and its response, all three on V.

    Args:
        results: The experiment.
        shown: Number of bars: the features with the largest weights in target or prediction.
        most: Largest number of realizations. They are spread evenly over the samples.
    """
    chosen = _spread(len(results.realized.images), most)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(WIDE / 3 * max(columns, 2), 1.22 * rows + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.02)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=(1.1, 1) * columns)
    on = " on $V$" if results.calibrated.reduced else ""
    vectors = results.directions
    for image, bars in grid.reshape(-1, 2)[len(chosen) :]:
        image.axis("off")
        bars.axis("off")
    for (image, bars), index in zip(grid.reshape(-1, 2), chosen, strict=False):
        angle = degrees(float(results.evaluation.angles["prediction_on_v"][index]))
        _show(image, results.realized.images[index], f"#{index}: {angle}{on}")
        weights(bars, {name: each[index] for name, each in vectors.items()}, results.feature_names, shown)
    handles = [Patch(color=COLOURS[name], label=name + (", projected onto $V$" if on else "")) for name in vectors]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=LETTERS, frameon=False)
    return figure


def by_parametrization(cells: Sequence[Results], *, shown: int = 4) -> Figure:
    """Show realizations of the same targets under several parametrizations, with the angles of predictions (Fig. 4).

    There is one block per network, one column per cell and one row per target.

    Args:
        cells: The cells of a study.
        shown: Largest number of targets per network. They are spread evenly over those with a finite realization in
            every cell.

    Raises:
        ValueError: There are no cells, or those of a network have different targets.
    """
    panels = panels_of(listed(cells), split_by_power=False)
    blocks = [[cell for group in panel.groups.values() for cell in group] for panel in panels]
    chosen = []
    for panel, block in zip(panels, blocks, strict=True):
        if any(not np.array_equal(cell.objectives, block[0].objectives) for cell in block):
            raise ValueError(f"cells of one network must have the same targets, those of {panel.network} differ")
        finite = np.flatnonzero(np.logical_and.reduce([cell.realized.finite for cell in block]))
        chosen.append(finite[_spread(len(finite), shown)])
    rows, columns = max(1, *map(len, chosen)), sum(map(len, blocks))
    side = min(1.15, (WIDE - 0.4 * len(blocks)) / columns)
    figure = Figure(figsize=((side + 0.06) * columns + 0.4 * len(blocks), (side + 0.2) * rows + 0.6))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    parts = figure.subfigures(1, len(blocks), width_ratios=[0.3 + len(block) for block in blocks], squeeze=False)
    for part, panel, block, samples in zip(parts.flat, panels, blocks, chosen, strict=True):
        part.suptitle(panel.network, fontsize=LETTERS)
        grid = part.subplots(rows, len(block), squeeze=False)
        labels = [label for label, group in panel.groups.items() for _ in group]
        for column, (label, cell) in enumerate(zip(labels, block, strict=True)):
            for row, axes in enumerate(grid[:, column]):
                if row >= len(samples):
                    axes.axis("off")
                    continue
                index = samples[row]
                angle = degrees(float(cell.evaluation.angles["prediction_on_v"][index]))
                _show(axes, cell.realized.images[index], f"{label}\n{angle}" if row == 0 else angle)
                if column == 0:
                    kind = "canonical" if cell.canonical[index] else "sampled"
                    axes.set_ylabel(f"#{index}, {kind}", fontsize=SMALL)
    return figure


def weights(axes: Axes, vectors: Mapping[str, Float[np.ndarray, " n"]], names: Sequence[str], shown: int) -> None:
    """Draw bars for the features that weigh most in target or prediction, largest first if some are left out.

    Args:
        axes: Where to.
        vectors: Three at most, by their names in `COLOURS`.
        names: Name of each feature.
        shown: Most features to draw.
    """
    aims = [np.abs(np.nan_to_num(vector)) for name, vector in vectors.items() if name != "response"]
    weight = np.max(aims, axis=0)
    features = np.argsort(-weight, kind="stable")[:shown] if len(weight) > shown else np.arange(len(weight))
    places = np.arange(len(features))
    for row, (name, values) in enumerate(vectors.items()):
        offset = 0.27 * (row - (len(vectors) - 1) / 2)
        axes.barh(places + offset, values[features], 0.27, color=COLOURS[name], label=name)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_yticks(places, [names[feature] for feature in features.tolist()])
    axes.invert_yaxis()
    axes.margins(x=0.03)
    # So few that they have room beside long names of features.
    axes.xaxis.set_major_locator(MaxNLocator(2, steps=(1, 2, 4, 5, 10), min_n_ticks=2))
    plain(axes, "x")
    axes.tick_params(labelsize=5.5)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(picture(image))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=SMALL, pad=2)


def _spread(count: int, most: int) -> np.ndarray:
    """Choose at most `most` of the numbers 0 to count − 1, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.arange(0)
