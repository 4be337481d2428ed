"""Experiments to draw, and how to read figures back."""

from dataclasses import replace

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.text import Annotation
from support.fake_results import fake

from jifv.experiments.experiment import Experiment
from jifv.experiments.studies import grid

DNCL = Experiment("dncl", "densenet", "classifier", samples=16, canonical=4, critical_samples=8, aggregation="identity")

DNDE = Experiment("dnde", "densenet", "dense3", samples=6, features=8)

MANY = replace(DNDE, name="many", samples=300, features=512, canonical=150)

CELLS = grid(DNDE, features=(8, 16, 32), power=(0, 2)) + grid(
    replace(DNDE, features=16), aggregation=("mean", "pick"), power=(0, 2)
)


def fakes(experiments, **options):
    return [fake(each, **{"seed": number, "side": 12, **options}) for number, each in enumerate(experiments)]


def axes_of(figure, text):
    """The axes whose label, title or ticks have this text."""
    for axes in figure.axes:
        ticks = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        if any(text in each for each in (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(), *ticks)):
            return axes
    raise AssertionError(f"no axes with {text}")


def legend_of(figure):
    """The names in the legend of a scatter."""
    return entries(next(axes for axes in figure.axes if not axes.axison).get_legend())


def offsets(axes):
    """The points of each collection of an axes, without those that are masked."""
    points = [np.ma.filled(each.get_offsets(), np.nan) for each in axes.collections if isinstance(each, PathCollection)]
    return [each[np.isfinite(each).all(-1)] for each in points]


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


def finite(*columns):
    rows = np.stack(columns, -1)
    return rows[np.isfinite(rows).all(-1)]


def annotations(axes):
    return [each.get_text() for each in axes.texts if isinstance(each, Annotation)]


def shares(beta):
    mean = beta[np.isfinite(beta).all(-1)].mean(0)
    return [part.sum() for part in np.split(mean, (1, 2, 3, 4, 16)) if len(part)]
