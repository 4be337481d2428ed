"""Significance d(r, v) = ⟨r, v⟩ · cos(r, v)^k of an objective v for a response r, and its gradient.

The features are the last axis. The gradient is ∂d/∂r = s · B v with s = cos(r, v)^k and
B = (k + 1) · I - k · r̂ r̂ᵀ, where r̂ = r / ‖r‖ and, at r = 0, r̂ = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jifv._core.check import check_array, check_floats, check_fraction, check_nonnegative, check_objectives, check_real

Objective: TypeAlias = Callable[[Float[Array, " n"], Float[Array, " n"]], Float[Array, ""]]
"""What `jifv.visualize` maximizes for one sample: (r, v) -> d. A `Significance`, or a function of the user's."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Significance:
    """The objective function of feature visualization, d(r, v) = ⟨r, v⟩ · max(cos(r, v), floor)^k.

    `jifv.visualize` maximizes it, what it returns carries it, and `jifv.invert` needs it: the inverse problem depends
    on k. Inversion is exact where the floor is inactive.

    Attributes:
        power: Exponent k ≥ 0 of the cosine; 0 drops the cosine.
        floor: Least value of the cosine, in [0, 1], so that an optimizer can leave the region where the cosine is
            negative (Lucid: 0.1). None takes |cos|^k there, so that d is real for every k and has the sign of ⟨r, v⟩.

    Raises:
        TypeError: `power` or `floor` is not a number.
        ValueError: `power` is negative or not finite, or `floor` is outside [0, 1].
    """

    power: float = 2.0
    floor: float | None = 0.1

    def __post_init__(self) -> None:
        """Check both numbers."""
        check_nonnegative("power", self.power)
        object.__setattr__(self, "power", float(self.power))  # equal functions compile once, so they must hash alike
        if self.floor is not None:
            check_fraction("floor", self.floor)
            object.__setattr__(self, "floor", float(self.floor))

    def __call__(self, r: Float[Array, "*#batch n"], v: Float[Array, "*#batch n"]) -> Float[Array, "*batch"]:
        """Compute d for each pair of a response and an objective.

        Args:
            r: Responses.
            v: Objectives, of unit length for d to be comparable between them.

        Returns:
            d. It is 0, with a finite gradient, at r = 0 and wherever ⟨r, v⟩ = 0.

        Raises:
            TypeError: `r` does not hold floats, or `v` is not real.
            ValueError: The last axes differ, or an objective is zero or not finite.
        """
        _check_features(r)
        check_objectives(v, r.shape[-1])
        cos = cosine(r, v)
        if self.floor is not None:
            cos = jnp.maximum(cos, jnp.asarray(self.floor, cos.dtype))
        power = jnp.asarray(self.power, cos.dtype)
        # The slope of |cos|^k at 0 is infinite for k < 1, although that of d is s · B v, without it: keep it out.
        nonzero = cos != 0
        scale = jnp.where(nonzero, jnp.abs(jnp.where(nonzero, cos, 1)) ** power, jnp.where(power == 0, 1, 0))
        return _dot(r, v) * scale

    def on_floor(self, cos: Float[Array, "*batch"]) -> Bool[Array, "*batch"]:
        """Tell where the floor replaces the cosine, so that inversion does not hold. Never for k = 0."""
        if self.floor is None or self.power == 0:
            return jnp.zeros(cos.shape, bool)
        return cos <= self.floor

    def gradient_matrix(self, r: Float[Array, "*batch n"]) -> Float[Array, "*batch n n"]:
        """Return the matrix B = (k + 1) · I - k · r̂ r̂ᵀ, so that ∂d/∂r = cos(r, v)^k · B v for every v.

        B is symmetric positive definite: its eigenvalue is 1 on r and k + 1 across; (k + 1) · I at r = 0.

        Raises:
            TypeError: `r` does not hold floats.
            ValueError: `r` is a scalar.
        """
        _check_features(r)
        unit = _normalize(r)
        identity = jnp.eye(r.shape[-1], dtype=r.dtype)
        return (self.power + 1) * identity - self.power * unit[..., :, None] * unit[..., None, :]

    def gradient_product(
        self, r: Float[Array, "*batch n"], x: Float[Array, "*batch n"] | Float[Array, "*batch n c"]
    ) -> Float[Array, "*batch n"] | Float[Array, "*batch n c"]:
        """Multiply B x in O(n c), without forming B. See `gradient_matrix`.

        Args:
            r: Responses.
            x: One vector (n,) or one matrix (n, c) per response.

        Returns:
            B x, of the shape of `x`.

        Raises:
            TypeError: `r` does not hold floats, or `x` is not real.
            ValueError: `x` has neither the shape of `r` nor one axis more.
        """
        _check_features(r)
        return (self.power + 1) * x - self.power * _project(r, x)

    def gradient_solve(
        self, r: Float[Array, "*batch n"], x: Float[Array, "*batch n"] | Float[Array, "*batch n c"]
    ) -> Float[Array, "*batch n"] | Float[Array, "*batch n c"]:
        """Solve for B⁻¹ x in O(n c), from B⁻¹ = (I + k · r̂ r̂ᵀ) / (k + 1). Arguments: see `gradient_product`.

        Raises:
            TypeError: `r` does not hold floats, or `x` is not real.
            ValueError: `x` has neither the shape of `r` nor one axis more.
        """
        _check_features(r)
        return (x + self.power * _project(r, x)) / (self.power + 1)


def cosine(r: Float[Array, "*#batch n"], v: Float[Array, "*#batch n"]) -> Float[Array, "*batch"]:
    """Compute the cosine of the angle between `r` and `v`, in [-1, 1] up to rounding; 0 where either is zero.

    Raises:
        TypeError: `r` does not hold floats, or `v` is not real.
        ValueError: The last axes differ.
    """
    check_array("r", r)
    check_array("v", v)
    if r.ndim == 0 or v.ndim == 0 or r.shape[-1] != v.shape[-1]:
        raise ValueError(f"r and v must share their last axis, got shapes {r.shape} and {v.shape}")
    check_floats("r", r)
    check_real("v", v)
    return _dot(_normalize(r), _normalize(v))


def check_invertible(significance: object) -> None:
    """Raise unless `significance` is a `Significance`, whose gradient is linear in v up to a positive factor.

    Raises:
        TypeError: It is another objective function, or none.
    """
    if not isinstance(significance, Significance):
        raise TypeError(
            "significance must be the jifv.Significance that the realizations maximize, because the inverse problem "
            f"depends on its power, got {significance!r}"
        )


def _check_features(r: Array) -> None:
    check_array("r", r)
    if r.ndim == 0 or r.shape[-1] == 0:
        raise ValueError(f"r must have a last axis of at least one feature, got shape {r.shape}")
    check_floats("r", r)


def _project(r: Array, x: Array) -> Array:
    """Compute the projection r̂ r̂ᵀ x."""
    check_array("x", x)
    if x.shape[: r.ndim] != r.shape or x.ndim > r.ndim + 1:
        raise ValueError(f"x must have shape {r.shape} or that and one axis more, got {x.shape}")
    check_real("x", x)
    columns = x if x.ndim > r.ndim else x[..., None]
    unit = _normalize(r)[..., None]
    # A sum of products and not a matrix product: accelerators round that to fewer digits than the dtype has.
    projection = unit * jnp.sum(unit * columns, axis=-2, keepdims=True)
    return projection.reshape(x.shape)


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=-1)


def _normalize(x: Array) -> Array:
    """Return x / ‖x‖ along the last axis; 0 at x = 0, with a finite gradient."""
    # Dividing by the largest entry first keeps the squares from over- and underflowing. It is a constant to
    # the gradient because the result does not depend on it.
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    zero = largest == 0
    scaled = x / jnp.where(zero, 1, largest)
    squares = jnp.sum(scaled**2, axis=-1, keepdims=True)
    return scaled * lax.rsqrt(jnp.where(zero, 1, squares))
