"""A small experiment with the response of `toy_response`, and networks that need no weights."""

from dataclasses import replace

import numpy as np
from support.toy_response import FEATURES, response, scores

from jifv.experiments.experiment import Experiment
from jifv.models import Network
from jifv.visualization import Settings

__all__ = ["COPY", "FEATURES", "ORDER", "TOY", "TOYS", "UNEVEN", "load", "network", "response", "scores"]

TOY = Experiment(
    name="toy",
    network="toy",
    layer="scores",
    aggregation="identity",
    samples=8,
    canonical=2,
    settings=Settings(adam_steps=150, lbfgs_steps=100),
    reoptimize_steps=3,
    critical_samples=8,
)
UNEVEN = replace(TOY, samples=11, batch_size=5, settings=replace(TOY.settings, adam_steps=20, lbfgs_steps=8))
"""Batches of 5, 5 and 1."""


def network(apply):
    names = tuple(f"feature {index}" for index in range(FEATURES))
    return Network(apply, (12, 12, 3), (FEATURES,), "toy", "scores", ("scores",), names, "", "0" * 64)


ORDER = np.array([3, 0, 4, 1, 2])
COPY = [f"feature {index}" for index in np.argsort(ORDER)]
"""What each feature of the toy is called in its copy."""

TOYS = {"toy": network(scores), "copy": network(lambda x: scores(x)[ORDER])}
"""A network and a copy with its features in another order: the same objects for all tests, for which programs are
compiled once."""


def load(setting, *, weights=None):
    """In place of `jifv.experiments.problem.network_of`."""
    return TOYS[setting.network]
