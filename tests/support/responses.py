"""Response functions whose optima are known, samples for them, and a short run."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import ortho_group

from jifv.visualization import Settings, visualize

N = 4
ROTATION = ortho_group.rvs(N, random_state=0)
SHORT = Settings(adam_steps=15, lbfgs_steps=25, learning_rate=0.1, tolerance=0)


def bounded(p):
    """Response whose d has one maximum for every k > 0: 1/√2 at p = √2 · rotationᵀ v if ‖v‖ = 1."""
    return jnp.asarray(ROTATION, p.dtype) @ p / (1 + p @ p / 2)


def kinked(p):
    """A small ReLU network, (3, 2) -> (4,)."""
    rng = np.random.default_rng(5)
    x = p.reshape(-1)
    for shape in ((16, 6), (16, 16), (N, 16)):
        x = jax.nn.relu(jnp.asarray(rng.normal(size=shape) * np.sqrt(2 / shape[1]), p.dtype) @ jnp.tanh(x) + 0.1)
    return x


def samples(count, *shape, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    objectives = rng.uniform(size=(count, N))
    objectives /= np.linalg.norm(objectives, axis=1, keepdims=True)
    return jnp.asarray(rng.normal(size=(count, *shape)) * 0.3, dtype), jnp.asarray(objectives, dtype)


def run(f, parameters, objectives, settings=SHORT, **options):
    return visualize(f, parameters, objectives, settings=settings, **options)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
