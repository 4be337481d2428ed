"""A response without kinks whose visualizations come to rest within a few steps, and some of them."""

from functools import cache

import jax
import jax.numpy as jnp
from support.inverse_problem import generator

import jifv

FEATURES, ENTRIES, SAMPLES = 6, 10, 12
MIX = generator(1).normal(size=(FEATURES, 16))
HIDDEN = generator(0).normal(size=(16, ENTRIES))


def network(p):
    """Positive and bounded."""
    return 2 + jnp.asarray(MIX, p.dtype) @ jnp.sin(jnp.asarray(HIDDEN, p.dtype) @ p) / 4


def start(key=1, samples=SAMPLES):
    return jax.random.normal(jax.random.key(key), (samples, ENTRIES)) / 2


@cache
def realizations():
    """Of sparse objectives, k = 2."""
    targets = jifv.sparse_objectives(jax.random.key(0), SAMPLES, FEATURES)
    settings = jifv.Settings(adam_steps=1000, lbfgs_steps=0, learning_rate=0.05)
    return jifv.visualize(network, start(), targets, settings=settings)


@cache
def linearized(parameters_key=None):
    """Response and Jacobian of the realizations; with a key, of random points."""
    points = realizations().parameters if parameters_key is None else start(parameters_key)
    return jax.jit(jax.vmap(lambda p: jifv.linearize(network, p)))(points)
