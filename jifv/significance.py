"""Significance d(r, v) = ⟨r, v⟩ · cos(r, v)^k of an objective v for a response r, and its gradient.

The features are the last axis. The gradient is ∂d/∂r = s · B v with s = cos(r, v)^k and
B = (k + 1) · I - k · r̂ r̂ᵀ, where r̂ = r / ‖r‖ and, at r = 0, r̂ = 0.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, ScalarLike

from jifv._core.check import check_nonnegative, check_objectives, check_power, concrete


def cosine(r: Float[Array, "*#batch n"], v: Float[Array, "*#batch n"]) -> Float[Array, "*batch"]:
    """Cosine of the angle between `r` and `v`, in [-1, 1] up to rounding; 0 where either is zero.

    Raises:
        ValueError: the last axes differ.
    """
    if r.ndim == 0 or v.ndim == 0 or r.shape[-1] != v.shape[-1]:
        raise ValueError(f"r and v must share their last axis, got shapes {r.shape} and {v.shape}")
    return _dot(_normalize(r), _normalize(v))


def significance(
    r: Float[Array, "*#batch n"],
    v: Float[Array, "*#batch n"],
    *,
    power: ScalarLike = 2.0,
    floor: ScalarLike | None = None,
) -> Float[Array, "*batch"]:
    """Significance ⟨r, v⟩ · max(cos(r, v), floor)^k, which feature visualization maximizes.

    Args:
        r: Responses.
        v: Objectives, of unit length for d to be comparable between them.
        power: k >= 0; 0 drops the cosine.
        floor: Least value of the cosine, in [0, 1], so that an optimizer can leave the region where the
            cosine is negative (Lucid: 0.1). Without one |cos|^k is taken there, so that d is real for every k
            and has the sign of ⟨r, v⟩.

    Returns:
        d. It is 0, with a finite gradient, at r = 0 and wherever ⟨r, v⟩ = 0.

    Raises:
        TypeError: `power` or `floor` is not a number.
        ValueError: the last axes differ, `power` is negative or not finite, `floor` is outside [0, 1], or an
            objective is zero or not finite.
    """
    if r.ndim == 0:
        raise ValueError("r must have the features as its last axis, got a scalar")
    check_objectives(v, r.shape[-1])
    check_power(power)
    cos = cosine(r, v)
    if floor is not None:
        check_nonnegative("floor", floor)
        if concrete(floor) and np.asarray(floor) > 1:
            raise ValueError(f"floor must be at most 1, got {floor}")
        cos = jnp.maximum(cos, jnp.asarray(floor, cos.dtype))
    power = jnp.asarray(power, cos.dtype)
    # The slope of |cos|^k at 0 is infinite for k < 1, although that of d is s · B v, without it: keep it out.
    nonzero = cos != 0
    scale = jnp.where(nonzero, jnp.abs(jnp.where(nonzero, cos, 1)) ** power, jnp.where(power == 0, 1, 0))
    return _dot(r, v) * scale


def gradient_matrix(r: Float[Array, "*batch n"], *, power: ScalarLike = 2.0) -> Float[Array, "*batch n n"]:
    """Matrix B = (k + 1) · I - k · r̂ r̂ᵀ, so that ∂d/∂r = cos(r, v)^k · B v for every v.

    B is symmetric positive definite: its eigenvalue is 1 on r and k + 1 across; (k + 1) · I at r = 0.

    Raises:
        TypeError: `power` is not a number.
        ValueError: `r` is a scalar, or `power` is negative or not finite.
    """
    power = _check(r, power)
    unit = _normalize(r)
    identity = jnp.eye(r.shape[-1], dtype=r.dtype)
    return (power + 1) * identity - power * unit[..., :, None] * unit[..., None, :]


def gradient_product(
    r: Float[Array, "*batch n"],
    x: Float[Array, "*batch n"] | Float[Array, "*batch n c"],
    *,
    power: ScalarLike = 2.0,
) -> Float[Array, "*batch n"] | Float[Array, "*batch n c"]:
    """Product B x in O(n c), without forming B. See `gradient_matrix`.

    Args:
        r: Responses.
        x: One vector (n,) or one matrix (n, c) a response.
        power: k >= 0.

    Returns:
        B x, of the shape of `x`.

    Raises:
        TypeError: `power` is not a number.
        ValueError: `x` has neither the shape of `r` nor one axis more, or `power` is negative or not finite.
    """
    power = _check(r, power)
    return (power + 1) * x - power * _project(r, x)


def gradient_solve(
    r: Float[Array, "*batch n"],
    x: Float[Array, "*batch n"] | Float[Array, "*batch n c"],
    *,
    power: ScalarLike = 2.0,
) -> Float[Array, "*batch n"] | Float[Array, "*batch n c"]:
    """Solution B⁻¹ x in O(n c), from B⁻¹ = (I + k · r̂ r̂ᵀ) / (k + 1). Arguments: see `gradient_product`.

    Raises:
        TypeError: `power` is not a number.
        ValueError: `x` has neither the shape of `r` nor one axis more, or `power` is negative or not finite.
    """
    power = _check(r, power)
    return (x + power * _project(r, x)) / (power + 1)


def _check(r: Array, power: ScalarLike) -> Float[Array, ""]:
    """Return `power` in the dtype of `r`: a float64 k must not promote a float32 result."""
    check_power(power)
    if r.ndim == 0:
        raise ValueError("r must have the features as its last axis, got a scalar")
    return jnp.asarray(power, r.dtype)


def _project(r: Array, x: Array) -> Array:
    """Projection r̂ r̂ᵀ x."""
    if x.shape[: r.ndim] != r.shape or x.ndim > r.ndim + 1:
        raise ValueError(f"x must have shape {r.shape} or that and one axis more, got {x.shape}")
    columns = x if x.ndim > r.ndim else x[..., None]
    unit = _normalize(r)[..., None]
    # A sum of products and not a matrix product: accelerators round that to fewer digits than the dtype has.
    projection = unit * jnp.sum(unit * columns, axis=-2, keepdims=True)
    return projection.reshape(x.shape)


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=-1)


def _normalize(x: Array) -> Array:
    """x / ‖x‖ along the last axis; 0 at x = 0, with a finite gradient."""
    # Dividing by the largest entry first keeps the squares from over- and underflowing. It is a constant to
    # the gradient because the result does not depend on it.
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    zero = largest == 0
    scaled = x / jnp.where(zero, 1, largest)
    squares = jnp.sum(scaled**2, axis=-1, keepdims=True)
    return scaled * lax.rsqrt(jnp.where(zero, 1, squares))
