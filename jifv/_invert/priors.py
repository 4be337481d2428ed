"""Priors of unknown weight: what their gradients explain is taken out of J, and the weights follow from v.

A realization with priors is stationary where s·JᵀBv = Σ λⱼ ∇Rⱼ. With an orthonormal basis Q of the ∇Rⱼ that leaves
(I − QQᵀ)JᵀBv = 0, and then λ by least squares. Everything is in the coordinates U of the rows of J and the ∇Rⱼ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LEFT = 1e-3
"""Part of what lies in Q that is not taken out. Of objectives that explain p alike it prefers that with small weights:
where ∇R is a row of J, the row's objective would else be a solution, although the weight is 0."""

_LEAST_SINE = 1e-3
"""Below it a prior counts as a combination of others."""


class Weights(NamedTuple):
    """Weights of priors, found together with the objective.

    Attributes:
        value: λ, shape (*batch, j), in units of the significance of a v of unit length. NaN where nothing is known: the
            prior's gradient is 0, or cannot be told apart.
        error: By how much the gradient that is left could have moved λ, 2 ‖s·JᵀBv − Σ λ∇R‖ / (‖∇R‖ · distinct).
        distinct: How well λ can be told apart from the objective, shape (*batch, j), in [0, 1]: the sine of the angle
            between ∇R and all JᵀBu with u orthogonal to v, and the other priors' gradients. At 0 another objective
            explains the realization as well, with another weight.
        plausible: Whether λ is known and not below 0 by more than its error, shape (*batch, j). If it is below, the
            realization was not made with this prior.
    """

    value: Float[Array, "*batch j"]
    error: Float[Array, "*batch j"]
    distinct: Float[Array, "*batch j"]
    plausible: Bool[Array, "*batch j"]


def unit_rows(gradients: Float[Array, "b j m"]) -> tuple[Float[Array, "b j m"], Float[Array, "b j"]]:
    """Return rows of unit length, or 0, and the lengths that they had."""
    peak = jnp.max(jnp.abs(gradients), axis=-1, keepdims=True)
    scaled = gradients / _positive(peak)
    length = jnp.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / _positive(length), (peak * length)[..., 0]


def take_out(units: Float[Array, "b k j"], factor: Float[Array, "b k n"]) -> Float[Array, "b k n"]:
    """Compute (I − QQᵀ) T, Q a basis of these columns, but for the part that is left."""
    basis = jnp.stack(_orthonormal(list(jnp.moveaxis(units, -1, 0))), axis=-1)
    return factor - (1 - _LEFT) * basis @ (basis.mT @ factor)


def weigh(
    units: Float[Array, "b k j"],
    lengths: Float[Array, "b j"],
    gradient: Float[Array, "b k"],
    others: Float[Array, "b k i"],
    known: Bool[Array, " b"],
) -> Weights:
    """Find λ by least squares, and what can be said about it.

    Args:
        units: The ∇R in the coordinates U, of unit length or 0.
        lengths: ‖∇R‖.
        gradient: s·JᵀBv.
        others: JᵀBu of all u orthogonal to v.
        known: Samples that have an answer. Others may not be finite, which no decomposition must see.
    """
    units, gradient, others = (
        jnp.where(known.reshape(-1, *[1] * (array.ndim - 1)), array, 0) for array in (units, gradient, others)
    )
    explained = jax.vmap(lambda a, b: a @ jnp.linalg.lstsq(a, b)[0])(others, units)
    outside = list(jnp.moveaxis(units - explained, -1, 0))
    distinct = jnp.stack(
        [
            jnp.linalg.norm(_without(each, _orthonormal(outside[:i] + outside[i + 1 :])), axis=-1)
            for i, each in enumerate(outside)
        ],
        axis=-1,
    )
    value = jax.vmap(lambda a, b: jnp.linalg.lstsq(a, b)[0])(units, gradient)
    rest = jnp.linalg.norm(gradient - (units @ value[..., None])[..., 0], axis=-1, keepdims=True)
    told = (distinct > _LEAST_SINE) & known[:, None]
    value = jnp.where(told, value / _positive(lengths), jnp.nan)
    error = jnp.where(told, 2 * rest / _positive(lengths * distinct), jnp.nan)
    return Weights(value, error, jnp.where(known[:, None], distinct, jnp.nan), told & (value >= -error))


def _orthonormal(columns: list[Array]) -> list[Array]:
    """Orthogonalize columns in order; one that is a combination of those before it becomes 0."""
    basis: list[Array] = []
    for column in columns:
        rest = _without(column, basis)
        length = jnp.linalg.norm(rest, axis=-1, keepdims=True)
        basis.append(jnp.where(length > _LEAST_SINE, rest / _positive(length), 0))
    return basis


def _without(column: Array, basis: list[Array]) -> Array:
    """Project off orthonormal columns, twice because of rounding."""
    for other in 2 * basis:
        column = column - other * jnp.sum(other * column, axis=-1, keepdims=True)
    return column


def _positive(x: Array) -> Array:
    """Replace zeros by 1, to divide by."""
    return jnp.where(x > 0, x, 1)
