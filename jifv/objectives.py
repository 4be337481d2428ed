"""Target objectives: nonnegative vectors of unit length, one per row, with Hoyer sparseness uniform on [0, 1].

The sparseness of v in Rⁿ is (√n - ‖v‖₁ / ‖v‖₂) / (√n - 1): 0 for a constant vector, 1 for a canonical one.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, ScalarLike

from jifv._core.check import check_array, check_count, check_floats, check_positive, concrete


def sparseness(v: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Measure Hoyer's sparseness along the last axis, in [0, 1] up to rounding.

    It is 1 for n = 1, where all vectors are canonical, and NaN for the zero vector.

    Raises:
        TypeError: `v` does not hold floats.
        ValueError: `v` has no last axis, or one of length 0.
    """
    features = _feature_count(v)
    root = math.sqrt(features)
    magnitude = jnp.abs(v)
    scaled = magnitude / jnp.max(magnitude, axis=-1, keepdims=True)  # so that no square over- or underflows
    ratio = jnp.sum(scaled, axis=-1) / jnp.sqrt(jnp.sum(scaled**2, axis=-1))
    # For n = 1 the ratio is 1 (or NaN, to be kept) and the formula 0 / 0.
    return (root - ratio) / (root - 1) if features > 1 else ratio


def project(v: Float[Array, "*batch n"], sparseness: ScalarLike | Float[Array, "*#batch"]) -> Float[Array, "*batch n"]:
    """Find the nonnegative unit vector of the given sparseness that is closest to `v`.

    It is the projection of Hoyer ("Non-negative matrix factorization with sparseness constraints", 2004). It
    equals max(v - θ, 0) / ‖max(v - θ, 0)‖ with the one threshold θ that gives the sparseness (Thom and Palm,
    "Sparse activity and sparse connectivity in supervised learning", 2013). Sorting gives θ exactly, without
    Hoyer's iterations.

    Args:
        v: Finite vectors of any length and sign.
        sparseness: In [0, 1], one for all or one per vector. Free if n = 1, where the result is always 1.

    Returns:
        The projections. Where only unequal entries can have the sparseness, ties in `v` go to the lower index.

    Raises:
        TypeError: `v` does not hold floats.
        ValueError: `v` has no last axis or is not finite, or `sparseness` is outside [0, 1] or of another
            shape.
    """
    _feature_count(v)
    _check_sparseness(sparseness, v.shape[:-1])
    if concrete(v) and not np.isfinite(np.asarray(v)).all():
        raise ValueError("v must be finite, got NaN or infinite entries")
    return _project(v, jnp.asarray(sparseness, v.dtype))


@jax.jit
def _project(v: Float[Array, "*batch n"], sparseness: Float[Array, "*#batch"]) -> Float[Array, "*batch n"]:
    features = v.shape[-1]
    root = math.sqrt(features)
    target = jnp.clip(root - sparseness * (root - 1), 1, root)[..., None]  # ‖·‖₁ / ‖·‖₂
    order = jnp.argsort(v, axis=-1, descending=True)
    descending = jnp.take_along_axis(v, order, axis=-1)

    # gap[d - 1] is the step from the d-th largest entry to the next, in units of the range, and never 0.
    gap = descending[..., :-1] - descending[..., 1:]
    spread = descending[..., :1] - descending[..., -1:]
    gap = gap / jnp.where(spread > 0, spread, 1)
    gap = jnp.where(gap > 0, gap, jnp.finfo(v.dtype).eps)

    # Lower θ from the largest entry to each next one. The d positive entries of v - θ then grow by the gap,
    # hence their sum and sum of squares; all terms are positive, so that nothing cancels.
    count = jnp.arange(1, features, dtype=v.dtype)
    total = jnp.cumsum(count * gap, axis=-1)
    squares = jnp.cumsum(gap * (2 * total - count * gap), axis=-1)
    # The ratio grows as θ falls: the support of the result is the first one that reaches the target.
    support = 1 + jnp.sum(total < target * jnp.sqrt(squares), axis=-1, keepdims=True)

    # On the support the result is a + b · (deviation from the mean), with a and b from the two norms.
    inside = jnp.arange(features) < support
    depth = jnp.pad(jnp.cumsum(gap, axis=-1), [(0, 0)] * (v.ndim - 1) + [(1, 0)])
    mean = jnp.sum(depth, axis=-1, keepdims=True, where=inside) / support
    deviation = jnp.where(inside, mean - depth, 0)
    variance = jnp.sum(deviation**2, axis=-1, keepdims=True)
    slope = _safe_sqrt((1 - target**2 / support) / jnp.where(variance > 0, variance, 1))
    result = jnp.where(inside, jnp.maximum(target / support + slope * deviation, 0), 0)
    result = result / jnp.sqrt(jnp.sum(result**2, axis=-1, keepdims=True))
    return jnp.take_along_axis(result, jnp.argsort(order, axis=-1), axis=-1)


def sparse_objectives(
    key: PRNGKeyArray, count: int, features: int, *, dtype: DTypeLike = float
) -> Float[Array, "count features"]:
    """Sample objectives with uniform sparseness.

    Each is the projection of a vector of independent half-normal entries, whose directions are uniform, to a
    sparseness drawn from U[0, 1].

    Args:
        key: Random key.
        count: Number of objectives.
        features: n; for n = 1 every objective is [1].
        dtype: Floating-point type of the result; the default follows `jax_enable_x64`.

    Returns:
        Nonnegative rows of unit length.

    Raises:
        TypeError: `count` or `features` is not an integer.
        ValueError: `count` or `features` is not positive.
    """
    check_positive("count", count)
    check_positive("features", features)
    sparseness_key, vector_key = jax.random.split(key)
    target = jax.random.uniform(sparseness_key, (count,), dtype)
    return project(jnp.abs(jax.random.normal(vector_key, (count, features), dtype)), target)


def canonical_objectives(
    indices: Int[ArrayLike, " count"] | Sequence[int], features: int, *, dtype: DTypeLike = float
) -> Float[Array, "count features"]:
    """Make canonical objectives: row i is 1 at `indices[i]` and 0 elsewhere.

    Raises:
        TypeError: `features` or an index is not an integer.
        ValueError: `features` is not positive, `indices` is no vector, or an index is outside [0, features).
    """
    check_positive("features", features)
    if isinstance(indices, (list, tuple)):
        for index in indices:
            check_count("indices", index)
        indices = np.array(indices, int)
    check_array("indices", indices)
    if np.ndim(indices) != 1:
        raise ValueError(f"indices must be a vector, got shape {np.shape(indices)}")
    if not jnp.issubdtype(jnp.result_type(indices), jnp.integer):
        raise TypeError(f"indices must be integers, got {jnp.result_type(indices)}")
    if concrete(indices):
        values = np.asarray(indices)
        if ((values < 0) | (values >= features)).any():
            raise ValueError(f"indices must be in [0, {features}), got {values.min()} to {values.max()}")
    return jax.nn.one_hot(jnp.asarray(indices), features, dtype=dtype)


def _feature_count(v: Array) -> int:
    check_array("v", v)
    if v.ndim == 0 or v.shape[-1] == 0:
        raise ValueError(f"v must have a last axis of at least one feature, got shape {v.shape}")
    check_floats("v", v)
    return v.shape[-1]


def _check_sparseness(sparseness: ScalarLike | Array, batch: tuple[int, ...]) -> None:
    shape = np.shape(sparseness)
    fits = all(own in (1, other) for own, other in zip(shape[::-1], batch[::-1], strict=False))
    if len(shape) > len(batch) or not fits:
        raise ValueError(f"sparseness must be a scalar or have shape {batch}, got {shape}")
    if concrete(sparseness):
        values = np.asarray(sparseness)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"sparseness must be in [0, 1], got {sparseness}")


def _safe_sqrt(x: Array) -> Array:
    """Take the square root, 0 for x ≤ 0, with a finite gradient there."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
