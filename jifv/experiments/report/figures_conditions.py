"""Figures that compare the cells of a study: shares of the target (Fig. 3), angles, and seconds (Table 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MultipleLocator, NullFormatter

from jifv.experiments.report.figures_panels import Panel, listed, panels_of
from jifv.experiments.report.figures_style import (
    COLOURS,
    EDGE,
    LEGEND,
    LETTERS,
    SHARES,
    SMALL,
    WIDE,
    degrees,
    finite_of,
    median_of,
    plain,
    quartiles_of,
    shares_of,
)
from jifv.experiments.results import STAGES, Results

_LINES: dict[str, dict[str, Any]] = {
    "prediction": {"marker": "o", "linestyle": "-"},
    "response": {"marker": "s", "linestyle": "--"},
    "random": {"marker": "D", "linestyle": ":"},
}
_LOOKS = {
    "visualize": ("#0072B2", "", "o"),
    "jacobian": ("#E69F00", "////", "s"),
    "invert": ("#009E73", r"\\\\", "^"),
    "critical": ("#CC79A7", "xxxx", "D"),
    "reoptimize": ("#999999", "", "v"),
}
"""Colour, hatching and marker of each of `STAGES`."""


def beta_bars(cells: Sequence[Results]) -> Figure:
    """Show the mean share β of the target in the last singular vectors of BJ, one stacked bar per cell (Fig. 3).

    There is one panel per network and power k. Within a panel, bars are grouped by what differs between the cells, and
    ordered by the number of features. The median angle of the prediction in Rⁿ stands above each bar.

    Args:
        cells: The cells of a study.

    Raises:
        ValueError: There are no cells.
    """
    panels = panels_of(listed(cells))
    figure, grid = _grid(panels, height=2.15)
    for axes, panel in zip(grid, panels, strict=False):
        places = _places(panel, gap=1.5)
        for place, cell in places:
            for name, share, colour, hatch, bottom in shares_of(cell):
                axes.bar(place, share, 0.82, bottom, color=colour, hatch=hatch, label=name, **EDGE)
            angle = degrees(median_of(cell.evaluation.angles["prediction"]))
            axes.annotate(angle, (place, 1), (0, 2), textcoords="offset points", ha="center", fontsize=SMALL)
        axes.set_title(axes.get_title(), fontsize=LETTERS, pad=13)
        axes.set_ylim(0, 1)
        _label_places(axes, panel, places)
        plain(axes, None)
    handles = [
        Patch(facecolor=colour, hatch=hatch, label=name, **EDGE)
        for first, _, name, colour, hatch in SHARES
        if first < max(cell.realized.beta.shape[1] for cell in cells)
    ]
    _legend(figure, panels, handles)
    figure.supylabel("mean share β of the target", fontsize=LETTERS)
    notes = ["number of features n"] * panels[0].by_features + ["above each bar: median angle of the prediction"]
    figure.supxlabel(("; " if figure.get_figwidth() > 4 else "\n").join(notes), fontsize=LETTERS)
    return figure


def angles_by_condition(cells: Sequence[Results]) -> Figure:
    """Show medians and quartiles of the angles of predictions, responses and random objectives to the targets, on V.

    Panels and groups are those of `beta_bars`. The axis of the number of features is logarithmic.

    Args:
        cells: The cells of a study.

    Raises:
        ValueError: There are no cells.
    """
    panels = panels_of(listed(cells))
    figure, grid = _grid(panels, height=1.75)
    small = {"markersize": 3.5, "linewidth": 1}
    styles = {name: {"color": COLOURS[name], **small, **style} for name, style in _LINES.items()}
    highest = 95.0
    for axes, panel in zip(grid, panels, strict=False):
        places = _places(panel, gap=1.2, logarithmic=True)
        ends = np.cumsum([len(group) for group in panel.groups.values()])[:-1]
        for shift, (name, style) in zip((-0.12, 0.0, 0.12), styles.items(), strict=True):
            across = np.array([place for place, _ in places]) + shift
            low, median, high = np.array([quartiles_of(cell.evaluation.angles[f"{name}_on_v"]) for _, cell in places]).T
            for rows in np.split(np.arange(len(places)), ends):  # one line per group
                error = (median - low)[rows], (high - median)[rows]
                axes.errorbar(across[rows], median[rows], error, capsize=1.5, label=name, **style)
            highest = max(highest, finite_of(high).max(initial=0) + 5)
        axes.axhline(90, color="black", linewidth=0.5, zorder=0)
        _label_places(axes, panel, places)
        plain(axes, "y")
    for axes in grid:
        axes.set_ylim(0, highest)
        axes.yaxis.set_major_locator(MultipleLocator(15 if highest < 120 else 30))
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    _legend(figure, panels, handles)
    figure.supylabel("angle to the target, degrees", fontsize=LETTERS)
    note = "medians and quartiles"
    figure.supxlabel(("number of features n, logarithmic; " if panels[0].by_features else "") + note, fontsize=LETTERS)
    return figure


def timings(cells: Sequence[Results]) -> Figure:
    """Show the seconds per sample of each stage and its share of their sum, one row per cell (Table 1).

    Args:
        cells: The cells of a study.

    Raises:
        ValueError: There are no cells.
    """
    cells = listed(cells)
    figure = Figure(figsize=(WIDE, 0.75 + 0.33 * len(cells)), layout="constrained")
    shares, seconds = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
    for row, cell in enumerate(cells):
        spent = {stage: cell.seconds[stage] for stage in STAGES if cell.seconds.get(stage, 0) > 0}
        total, left = sum(spent.values()), 0.0
        for stage, each in spent.items():
            colour, hatch, marker = _LOOKS[stage]
            shares.barh(row, each / total, 0.62, left, color=colour, hatch=hatch, **EDGE)
            seconds.plot(each, row, marker, color=colour, markeredgecolor="black", markeredgewidth=0.4, markersize=5.5)
            left += each / total
        shares.text(1.02, row, f"{total:.3g} s", va="center", fontsize=SMALL)
    shares.set_yticks(range(len(cells)), [f"{cell.experiment.name}, n = {cell.features}" for cell in cells])
    shares.set_ylim(len(cells) - 0.5, -0.5)
    shares.set_xlim(0, 1)
    shares.set_xlabel("share of the time, and its sum", fontsize=LETTERS)
    seconds.set_xscale("log")
    seconds.xaxis.set_major_locator(LogLocator(10, numticks=20))
    seconds.xaxis.set_minor_formatter(NullFormatter())
    seconds.set_xlabel("seconds per sample, logarithmic", fontsize=LETTERS)
    seconds.tick_params(left=False, labelleft=False)
    plain(shares, None)
    plain(seconds, "both")
    edge = {"markeredgecolor": "black", "markeredgewidth": 0.4}
    handles: list[Any] = [
        (
            Patch(facecolor=colour, hatch=hatch, **EDGE),
            Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="none", **edge),
        )
        for colour, hatch, marker in map(_LOOKS.__getitem__, STAGES)
    ]
    style = LEGEND | {"handlelength": 2.6, "handler_map": {tuple: HandlerTuple(ndivide=None)}}
    figure.legend(handles, list(STAGES.values()), loc="outside upper center", ncols=5, **style)
    return figure


def _places(panel: Panel, *, gap: float, logarithmic: bool = False) -> list[tuple[float, Results]]:
    """Place cells one unit apart, or one unit per doubling of the features, with gaps between groups."""
    places, start = [], 0.0
    for group in panel.groups.values():
        for index, cell in enumerate(group):
            step = np.log2(cell.features / group[0].features) if logarithmic else index
            places.append((start + float(step), cell))
        start = places[-1][0] + gap
    return places


def _grid(panels: list[Panel], *, height: float) -> tuple[Figure, list[Axes]]:
    bars = max(sum(map(len, panel.groups.values())) for panel in panels)
    columns = min(len(panels), 2 if bars > 4 else 4)
    rows = -(-len(panels) // columns)
    several = len({panel.network for panel in panels}) > 1
    width = np.clip(columns * max(0.5 + 0.34 * bars, 2.6 * several), 3.4, WIDE)
    figure = Figure(figsize=(width, 0.8 + height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(f"{panel.network}\n{panel.power}" if several else panel.power, fontsize=LETTERS)
    return figure, grid[: len(panels)]


def _legend(figure: Figure, panels: list[Panel], handles: list) -> None:
    """Put the legend in one row above the panels, below the name of the network if there is only one."""
    networks = {panel.network for panel in panels}
    legend = figure.legend(
        handles=handles,
        title=networks.pop() if len(networks) == 1 else None,
        loc="outside upper center",
        ncols=len(handles),
        **LEGEND,
    )
    legend.get_title().set_fontsize(LETTERS)


def _label_places(axes: Axes, panel: Panel, places: list[tuple[float, Results]]) -> None:
    """Label cells by the number of features, if it differs, and groups by their name."""
    positions = np.array([place for place, _ in places])
    axes.set_xlim(positions.min() - 0.6, positions.max() + 0.6)
    if not panel.by_features:
        axes.set_xticks(positions, list(panel.groups))
        return
    close = len(positions) > 1 and np.diff(positions).min() < 0.8
    axes.set_xticks(positions, [str(cell.features) for _, cell in places], rotation=90 if close else 0)
    if len(panel.groups) > 1:
        ends = np.cumsum([len(group) for group in panel.groups.values()])
        middles = [(some[0] + some[-1]) / 2 for some in np.split(positions, ends[:-1])]
        below = axes.secondary_xaxis(0)
        below.set_xticks(middles, [("\n\n" if close else "\n") + label for label in panel.groups])
        below.tick_params(length=0, labelsize=SMALL, pad=5)
        below.spines["bottom"].set_visible(False)
