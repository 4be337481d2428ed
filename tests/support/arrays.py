"""Random arrays, and whether two are close."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def uniform(shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), dtype)


def assert_close(ours, theirs, tolerance):
    """Of trees of arrays: the same shapes and types, and differences relative to the largest entry of an array."""
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        scale = np.abs(other).max() + 1e-30
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)
