"""A small experiment: a smooth network with the trivial direction that a trained classifier has."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

import jifv
from jifv.experiments.experiment import Experiment
from jifv.models import Network
from jifv.visualization import Settings

FEATURES = 5
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
UNEVEN = replace(TOY, samples=11, batch_size=5, settings=replace(TOY.settings, adam_steps=60, lbfgs_steps=20))
"""Batches of 5, 5 and 1."""


def network(apply):
    names = tuple(f"feature {index}" for index in range(FEATURES))
    return Network(apply, (12, 12, 3), (FEATURES,), "toy", "scores", ("scores",), names, "", "0" * 64)


def scores(x):
    """Smooth scores that sum to zero, as those of a classifier that was trained from zero: (1, …, 1) is trivial."""
    weights = np.random.default_rng(0).normal(size=(3, 40, x.size)) / np.sqrt(x.size)
    hidden = jnp.tanh(weights[0] @ x.ravel() * 4) + jnp.sin(weights[1] @ x.ravel() * 4)
    mix = np.random.default_rng(1).normal(size=(FEATURES, 40))
    return (mix - mix.mean(0)) @ hidden


response = jifv.compose(jifv.pixels((12, 12, 3)).apply, scores, jifv.identity)
"""Of the toy experiment."""
