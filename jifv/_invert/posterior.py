"""The posterior over objectives: what it is made of, and draws from it."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jifv._invert.bingham import draw_coordinates
from jifv._invert.solve import Inversion


class Calibration(NamedTuple):
    """What is known of a setting, or of several: how large residues are, and how good the sets that follow.

    Attributes:
        scales: τ in units of σ_q/σ₁, the stationarity of the answer, shape (g,): several that are equally likely.
        cone: Level at which a cone has to be read off so that it holds the share 0, 0.01, …, 1 of known objectives,
            shape (101,).
        entries: The same for intervals of entries, shape (101,).
    """

    scales: Float[Array, " g"]
    cone: Float[Array, " levels"]
    entries: Float[Array, " levels"]

    def __repr__(self) -> str:
        """Say what is there."""
        scales = np.asarray(self.scales)
        return f"Calibration({len(scales)} scales, {scales.min():.2g} to {scales.max():.2g} times the stationarity)"


class Posterior(NamedTuple):
    """A mixture of Bingham distributions over objectives, one of each τ, on the sphere of the search space.

    Attributes:
        axes: Singular vectors of BJ, shape (*batch, n, q).
        stiffness: (σᵢ/σ₁)², shape (*batch, q); inf where the constraint of dead features takes a direction out.
        response: r, shape (*batch, n), which gives objectives their sign: ⟨r, v⟩ ≥ 0.
        objective: v of the largest density, shape (*batch, n), NaN where nothing is known.
        dead: Features of which the gradient says nothing, shape (*batch, n).
        scales: τ, equally likely, shape (*batch, g).
        cone: See `Calibration`, of the whole batch.
        entries: Likewise.
    """

    axes: Float[Array, "*batch n q"]
    stiffness: Float[Array, "*batch q"]
    response: Float[Array, "*batch n"]
    objective: Float[Array, "*batch n"]
    dead: Bool[Array, "*batch n"]
    scales: Float[Array, "*batch g"]
    cone: Float[Array, " levels"]
    entries: Float[Array, " levels"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        *batch, features, dimension = np.shape(self.axes) or (0, 0)
        return f"Posterior(batch {tuple(batch)}, {features} features, V of dimension {dimension})"


@partial(jax.jit, static_argnames="count")
def draw(key: PRNGKeyArray, posterior: Posterior, *, count: int) -> Float[Array, "*batch count n"]:
    """Draw objectives from a posterior, independent and exact.

    Args:
        key: Random key.
        posterior: Of one realization or more, each of which is drawn from by itself.
        count: How many of each.

    Returns:
        Unit vectors with ⟨r, v⟩ ≥ 0, 0 on dead features; NaN where nothing is known.
    """
    *batch, _, _ = posterior.axes.shape
    samples = flat(posterior)
    keys = jax.random.split(key, samples.axes.shape[0])

    def one(each: tuple[Array, Posterior]) -> Float[Array, "count n"]:
        key, sample = each
        known = jnp.isfinite(sample.objective).all()
        # Whatever is not known must not keep the loop from ending.
        stiff, scales = jnp.where(known, sample.stiffness, 0), jnp.where(known, sample.scales, 1)
        # As many draws of each τ, or one less.
        turns = -(-count // scales.shape[0])
        alike = jax.random.split(key, scales.shape[0]), scales
        coordinates = jax.lax.map(lambda each: draw_coordinates(each[0], stiff, each[1], turns), alike)
        coordinates = jnp.swapaxes(coordinates, 0, 1).reshape(-1, stiff.shape[0])[:count]
        drawn = jnp.einsum("nq,cq->cn", sample.axes, coordinates, precision="highest")
        drawn = unit(jnp.where(sample.dead, 0, drawn))
        opposed = jnp.sum(drawn * sample.response, axis=-1, keepdims=True) < 0
        return jnp.where(known, jnp.where(opposed, -drawn, drawn), jnp.nan)

    found = jax.lax.map(one, (keys, samples))
    return found.reshape(*batch, *found.shape[1:])


def flat(posterior: Posterior) -> Posterior:
    """Give a posterior one batch axis, and leave out the levels, which have none."""
    batch = posterior.axes.ndim - 2
    arrays = posterior._replace(cone=None, entries=None)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[batch:]), arrays)


def usual_scale(stiffness: Float[Array, "*batch q"]) -> Float[Array, "*batch"]:
    """Return σ_q/σ₁, in units of which residues are measured, but not less than rounding leaves of it."""
    least = jnp.sqrt(jnp.min(stiffness, axis=-1))
    return jnp.maximum(least, stiffness.shape[-1] * jnp.finfo(stiffness.dtype).eps)


def stiffness(inversion: Inversion) -> Float[Array, "*batch q"]:
    """Return (σᵢ/σ₁)²."""
    values = jnp.asarray(inversion.singular_values)
    largest = jnp.max(jnp.where(jnp.isfinite(values), values, 0), axis=-1, keepdims=True)
    return (values / jnp.where(largest > 0, largest, 1)) ** 2


def unit(vectors: Array) -> Array:
    """Normalize along the last axis."""
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def onto(basis: Array, vectors: Array) -> Array:
    """Project onto V, and normalize."""
    return unit(jnp.einsum("nq,mq,...m->...n", basis, basis, vectors, precision="highest"))
