"""What all figures share: colours, sizes, the parts of a stacked bar, and how axes and numbers look."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from jifv.experiments.results import Results

COLOURS = {
    "ambient": "#56B4E9",
    "prediction": "#0072B2",
    "target": "#009E73",
    "response": "#D55E00",
    "random": "#8C8C8C",
}
"""Colours by what they stand for."""

SHARES = (
    (0, 1, "$\\beta_0$", "#0072B2", ""),
    (1, 2, "$\\beta_1$", "#E69F00", "////"),
    (2, 3, "$\\beta_2$", "#009E73", r"\\\\"),
    (3, 4, "$\\beta_3$", "#CC79A7", "xxxx"),
    (4, 16, "$\\beta_4$ to $\\beta_{15}$", "#56B4E9", ""),
    (16, None, "rest", "#DDDDDD", ""),
)
"""Parts of a stacked bar: the first β, the one after the last, the label, colour and hatching."""

FEW = 40
"""Up to this number, samples are drawn one by one."""

WIDE = 7.2
"""Width of a printed page in inches."""

SMALL, LETTERS = 6.5, 7.5
"""Sizes of letters in points: of numbers and legends, and of labels."""

EDGE = {"edgecolor": "white", "linewidth": 0.5}
"""Edges of bars, whose colour hatching takes on."""

LEGEND = {"fontsize": SMALL, "frameon": False, "borderpad": 0.2, "columnspacing": 1.2, "handletextpad": 0.5}
"""Options of legends in one row."""


def shares_of(cell: Results) -> list[tuple[str, float, str, str, float]]:
    """List label, share, colour, hatching and bottom of each part of a stacked bar; none if no sample is finite."""
    if not np.isfinite(cell.realized.beta).all(-1).any():
        return []
    mean, parts = cell.realized.mean_beta, []
    for first, end, name, colour, hatch in SHARES:
        if first < len(mean):
            name = name.replace("{15}", f"{{{min(15, len(mean) - 1)}}}")
            parts.append((name, float(mean[first:end].sum()), colour, hatch, float(mean[:first].sum())))
    return parts


def plain(axes: Axes, grid: Literal["x", "y", "both"] | None) -> None:
    """Give axes thin lines, small letters and, if wanted, a grid."""
    axes.tick_params(labelsize=SMALL, length=2, width=0.6)
    axes.spines[:].set_linewidth(0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid is not None:
        axes.grid(axis=grid, alpha=0.3, linewidth=0.5)


def degrees(angle: float) -> str:
    """Write an angle, with a decimal where it is small."""
    return "NaN" if np.isnan(angle) else f"{angle:.1f}°" if angle < 9.95 else f"{angle:.0f}°"


def finite_of(values: np.ndarray) -> np.ndarray:
    """Select the finite values."""
    return values[np.isfinite(values)]


def quartiles_of(values: np.ndarray) -> np.ndarray:
    """Compute the quartiles of the finite values, NaN if there are none."""
    finite = finite_of(values)
    return np.percentile(finite, (25, 50, 75)) if len(finite) else np.full(3, np.nan)


def median_of(values: np.ndarray) -> float:
    """Compute the median of the finite values, NaN if there are none."""
    return float(quartiles_of(values)[1])
