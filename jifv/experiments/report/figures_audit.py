"""A claim about a picture beside other claims about it, as a figure."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from jifv.audit import Audit
from jifv.experiments.report.figures_style import COLOURS, LEGEND, LETTERS, SMALL, finite_of, plain

_LEAST = 1e-6
"""Stationarity at the left end: below, it is rounding."""
_BINS = 30


def claim(audit: Audit, features: int, title: str = "") -> Figure:
    """Show the stationarity of a claim beside those of other claims on the same picture.

    Args:
        audit: What `jifv.audit.audit_claim` says of one picture.
        features: n; of the other claims the last are every feature and the response.
        title: What is claimed.

    Raises:
        ValueError: There is a batch, nothing is known of the picture, or there are fewer others than features.
    """
    others = np.asarray(audit.others, np.float64)
    if others.ndim != 1 or len(others) < features + 1 or not np.isfinite(audit.stationarity):
        raise ValueError(
            f"audit must be that of one picture with {features} features and finite, got {audit} with stationarity "
            f"{audit.stationarity}"
        )
    random, single = finite_of(others[: -features - 1]), finite_of(others[-features - 1 : -1])
    own, response = max(float(audit.stationarity), _LEAST), others[-1]
    drawn = np.maximum(np.concatenate([random, single, finite_of(others[-1:]), [own]]), _LEAST)
    edges = np.geomspace(drawn.min() * 0.8, drawn.max() * 1.25, _BINS)
    figure = Figure(figsize=(3.5, 2.1), layout="constrained")
    axes = figure.subplots()
    axes.hist(np.maximum(random, _LEAST), edges, color=COLOURS["random"], label="random claims")
    axes.hist(
        np.maximum(single, _LEAST),
        edges,
        histtype="step",
        hatch="////",
        color=COLOURS["prediction"],
        linewidth=0.8,
        label="single features",
    )
    if np.isfinite(response):
        axes.axvline(response, color=COLOURS["response"], linestyle=":", linewidth=1.2, label="response")
    axes.axvline(own, color=COLOURS["target"], linewidth=1.6, label=f"the claim (p = {float(audit.p_value):.2g})")
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("stationarity ‖JᵀBv‖/σ₁", fontsize=LETTERS)
    axes.set_ylabel("claims", fontsize=LETTERS)
    axes.set_title(title, fontsize=LETTERS)
    plain(axes, None)
    axes.set_ymargin(0.1)
    figure.legend(loc="outside lower center", ncols=2, **{**LEGEND, "fontsize": SMALL})
    return figure
