"""Random arrays, and whether two are close, without a program for each shape."""

import jax
import numpy as np


def normal(shape, dtype=np.float32, seed=0):
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def uniform(shape, dtype=np.float32, seed=0):
    return jax.device_put(np.random.default_rng(seed).uniform(size=shape).astype(dtype))


def assert_close(ours, theirs, tolerance):
    """Of trees of arrays: the same shapes and types, and differences relative to the largest entry of an array."""
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        one, other = np.asarray(one), np.asarray(other)
        scale = np.abs(other).max() + 1e-30
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)
