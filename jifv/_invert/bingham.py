"""Bingham distributions on a sphere: exact draws, for one sphere at a time.

By rejection with an angular central Gaussian envelope: Kent, Ganeiber and Mardia, "A new method to simulate the Bingham
and related distributions in directional data analysis with applications" (2013).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_BISECTIONS = 40


def draw_coordinates(
    key: Array, stiffness: Float[Array, " q"], scale: Float[Array, ""], count: int
) -> Float[Array, "count q"]:
    """Draw c of v = Σ cᵢuᵢ from exp(-‖JᵀBv‖²/2τ²σ₁²) on the sphere that lies in the active directions.

    Of q of them, λᵢ = (σᵢ/σ₁)²/2τ² and u = Σ λᵢcᵢ² the envelope of exp(-u) is
    exp(-(q - b)/2) · (q/b)^(q/2) · (1 + 2u/b)^(-q/2), with Σ 1/(b + 2λᵢ) = 1 for the best b.

    Args:
        key: Random key.
        stiffness: (σᵢ/σ₁)², inf for directions that are taken out.
        scale: τ.
        count: Number of draws.
    """
    dtype = stiffness.dtype
    active = jnp.isfinite(stiffness)
    q = jnp.sum(active).astype(dtype)
    least = jnp.min(stiffness, where=active, initial=jnp.inf)
    # On the sphere a common shift of λ changes nothing.
    rates = jnp.where(active, stiffness - jnp.where(jnp.isfinite(least), least, 0), jnp.inf) / (2 * scale**2)
    b = best_envelope(rates, q)
    widths = jnp.where(active, 1 / jnp.sqrt(1 + 2 * rates / b), 0)
    peak = -(q - b) / 2 + q / 2 * jnp.log(q / b)
    rates = jnp.where(active, rates, 0)

    def more(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        turn, filled, drawn = state
        normals, chances = jax.random.split(jax.random.fold_in(key, turn))
        points = jax.random.normal(normals, drawn.shape, dtype) * widths
        points = points / jnp.linalg.norm(points, axis=-1, keepdims=True)
        energy = jnp.sum(rates * points**2, axis=-1)
        ratio = q / 2 * jnp.log1p(2 * energy / b) - energy - peak
        accepted = (jnp.log(jax.random.uniform(chances, (count,), dtype)) < ratio).astype(jnp.int32)
        place = jnp.where(accepted > 0, filled + jnp.cumsum(accepted, dtype=jnp.int32) - 1, count)
        return turn + 1, filled + jnp.sum(accepted, dtype=jnp.int32), drawn.at[place].set(points, mode="drop")

    start = (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros((count, stiffness.shape[0]), dtype))
    return jax.lax.while_loop(lambda state: state[1] < count, more, start)[2]


def best_envelope(rates: Array, q: Array) -> Array:
    """Solve Σ 1/(b + 2λᵢ) = 1 for b in [1, q] by bisection; the least λ is 0. Any b in there gives exact draws."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = jnp.sum(1 / (middle + 2 * rates)) > 1
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.ones_like(q), jnp.maximum(q, 1)))
    return (low + high) / 2
