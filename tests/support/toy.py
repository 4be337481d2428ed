"""A small experiment with the response of `toy_response`."""

from dataclasses import replace

from support.toy_response import FEATURES, response, scores

from jifv.experiments.experiment import Experiment
from jifv.models import Network
from jifv.visualization import Settings

__all__ = ["FEATURES", "TOY", "UNEVEN", "network", "response", "scores"]

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
