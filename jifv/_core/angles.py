"""Angles between vectors. Compiled whole, because operation by operation they take longer to compile than to run."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@jax.jit
def angles(
    a: Float[Array, "*#batch n"], b: Float[Array, "*#batch n"], basis: Float[Array, "n q"] | None
) -> Float[Array, "*batch"]:
    """Measure the angle between a and b in degrees, after projecting both onto the span of a basis if there is one."""
    if basis is not None:
        # Coordinates instead of projections: an orthonormal basis preserves angles.
        a, b = coordinates(basis, a), coordinates(basis, b)
    a, b = _normalize(a), _normalize(b)
    return jnp.degrees(2 * jnp.arctan2(jnp.linalg.norm(a - b, axis=-1), jnp.linalg.norm(a + b, axis=-1)))


@jax.jit
def coordinates(basis: Float[Array, "*#batch n q"], vectors: Float[Array, "*#batch n"]) -> Float[Array, "*batch q"]:
    """Compute Qᵀ x at full precision: accelerators round the factors of a matrix product unless told not to."""
    return jnp.einsum("...nq,...n->...q", basis, vectors, precision="highest")


def angles_between(
    basis: Float[np.ndarray, "n q"], predicted: Float[np.ndarray, "samples n"], targets: Float[np.ndarray, "samples n"]
) -> Float[np.ndarray, "samples samples"]:
    """Measure the angle on V of each prediction (rows) with each target (columns), degrees; NaN if there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted @ basis, targets @ basis))
        rows = [2 * np.arctan2(np.linalg.norm(row - b, axis=1), np.linalg.norm(row + b, axis=1)) for row in a]
    return np.degrees(np.array(rows))


def _normalize(x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    # Dividing by the largest entry first keeps the squares from over- and underflowing.
    x = x / jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
