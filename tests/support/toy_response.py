"""A response with the trivial direction that a trained classifier has."""

import jax.numpy as jnp
import numpy as np

import jifv

FEATURES = 5


def scores(x):
    """Smooth scores that sum to zero, as those of a classifier that was trained from zero: (1, …, 1) is trivial."""
    weights = np.random.default_rng(0).normal(size=(3, 40, x.size)) / np.sqrt(x.size)
    hidden = jnp.tanh(weights[0] @ x.ravel() * 4) + jnp.sin(weights[1] @ x.ravel() * 4)
    mix = np.random.default_rng(1).normal(size=(FEATURES, 40))
    return (mix - mix.mean(0)) @ hidden


response = jifv.compose(jifv.pixels((12, 12, 3)).apply, scores, jifv.identity)
"""Of images of 12×12 pixels."""
