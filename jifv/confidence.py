"""How sure an inversion is: a distribution over objectives in place of one answer.

A realization is never quite stationary. If of its gradient a residue JᵀBv = ε is left whose entries are independent and
normal with the standard deviation τσ₁, an objective v of unit length has the likelihood exp(-‖JᵀBv‖² / 2τ²σ₁²). On the
sphere that is a Bingham distribution: its axes are the singular vectors uᵢ that `jifv.invert` returns, its
concentrations (σᵢ/σ₁)²/2τ². Where σᵢ/σ₁ is far above τ, v has no part in uᵢ; where several lie below, nobody can tell.

τ is a number of the setting, measured on realizations whose objectives are known (`calibrate`). Realizations of one
setting are not equally far from rest, so that τ may also be several numbers, each as likely as it was there. A picture
then decides how far to trust each: where even the smallest singular value is large, a small τ is out of the question.

Draws are exact, by rejection with an angular central Gaussian envelope (Kent, Ganeiber and Mardia, "A new method to
simulate the Bingham and related distributions in directional data analysis with applications", 2013).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from jifv._core.check import check_fraction, check_objectives, check_positive
from jifv._invert.bingham import draw_coordinates
from jifv._invert.solve import Inversion, check_basis
from jifv.evaluate import angle
from jifv.significance import Significance, check_invertible

__all__ = ["Calibration", "Confidence", "Posterior", "calibrate", "draw", "posterior", "reachable", "summarize"]

WIDE = 45.0
"""Degrees of the credible cone above which an answer is undecided: beyond 45° v is closer to some v across."""


class Calibration(NamedTuple):
    """The residue of a setting, relative to the largest singular value.

    Attributes:
        scales: τ, positive, shape (g,): one, or several that are equally likely.
    """

    scales: Float[Array | np.ndarray, " g"]


class Posterior(NamedTuple):
    """A mixture of Bingham distributions over objectives, one of each τ, on the sphere of the search space.

    Attributes:
        axes: Singular vectors of BJ, shape (*batch, n, q).
        stiffness: (σᵢ/σ₁)², shape (*batch, q); inf where the constraint of dead features takes a direction out.
        scales: τ, shape (g,).
        response: r, shape (*batch, n), which gives objectives their sign: ⟨r, v⟩ ≥ 0.
        objective: v of the largest density, shape (*batch, n), NaN where nothing is known.
        dead: Features of which the gradient says nothing, shape (*batch, n).
    """

    axes: Float[Array, "*batch n q"]
    stiffness: Float[Array, "*batch q"]
    scales: Float[Array, " g"]
    response: Float[Array, "*batch n"]
    objective: Float[Array, "*batch n"]
    dead: Bool[Array, "*batch n"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        *batch, features, dimension = np.shape(self.axes) or (0, 0)
        return f"Posterior(batch {tuple(batch)}, {features} features, V of dimension {dimension})"


class Confidence(NamedTuple):
    """What a posterior says of an answer, at the level that was asked for.

    Attributes:
        lower: Below which each entry of v is with half of what is missing to 1, shape (*batch, n). NaN for dead
            features, and for a sample of which nothing is known.
        upper: Above which it is, likewise.
        top: Probability of each feature to be among the largest entries of v, shape (*batch, n). NaN as above.
        cone: Angle around the answer that holds v with the level's probability, in degrees, shape (*batch,).
        candidates: Number of directions that share the posterior, 1/Σᵢ⟨cᵢ²⟩² for v = Σ cᵢuᵢ, in [1, q], shape
            (*batch,).
        undecided: Whether the picture cannot tell, that is, whether the cone is wider than `WIDE`, shape (*batch,).
            True where nothing is known.
    """

    lower: Float[Array, "*batch n"]
    upper: Float[Array, "*batch n"]
    top: Float[Array, "*batch n"]
    cone: Float[Array, "*batch"]
    candidates: Float[Array, "*batch"]
    undecided: Bool[Array, "*batch"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        *batch, features = np.shape(self.lower) or (0,)
        return f"Confidence(batch {tuple(batch)}, {features} features)"


def calibrate(
    inversion: Inversion, objectives: Float[ArrayLike, "samples n"], *, scales: int = 16, single: bool = False
) -> Calibration:
    """Measure the residue of realizations whose objectives are known.

    Of each sample τ² = Σᵢ (σᵢcᵢ/σ₁)² / q, the mean square of its residue in the directions of the search space, with
    c the unit vector of the target's coordinates there.

    Args:
        inversion: Of at least two realizations, with the options that are to be used later.
        objectives: Their targets; with a critical space, what `reachable` makes of them.
        scales: Number of τ to keep, at evenly spread quantiles.
        single: Whether to keep one instead, the root of the mean of τ².

    Returns:
        The τ of the setting.

    Raises:
        TypeError: The objectives are not real, or `scales` is not an integer.
        ValueError: Shapes do not fit, `scales` is not positive, or fewer than two samples are known.
    """
    check_positive("scales", scales)
    objectives = np.asarray(objectives)
    _check_shapes(inversion, objectives)
    residues = np.asarray(_residues(inversion, jnp.asarray(objectives)), np.float64)
    known = residues[np.isfinite(residues) & (residues > 0)]
    if len(known) < 2:
        raise ValueError(f"inversion must be known for at least 2 samples, got {len(known)}")
    if single:
        kept = np.sqrt(np.mean(known**2, keepdims=True))
    else:
        kept = np.exp(np.quantile(np.log(known), (np.arange(scales) + 0.5) / scales))
    return Calibration(jnp.asarray(kept, inversion.objective.dtype))


def reachable(
    objectives: Float[ArrayLike, "*batch n"],
    response: Float[ArrayLike, "*batch n"],
    basis: Float[ArrayLike, "n q"],
    *,
    significance: Significance,
) -> Float[Array, "*batch n"]:
    """Return the part of objectives that can be found with a critical space V: normalize(B⁻¹QQᵀBv).

    Args:
        objectives: v.
        response: r of their realizations.
        basis: Q, orthonormal basis of V.
        significance: What was maximized; its power decides B.

    Raises:
        TypeError: An array is not real, or `significance` is no `Significance`.
        ValueError: Shapes do not fit, or the columns of `basis` are not orthonormal.
    """
    check_invertible(significance)
    objectives, response = jnp.asarray(objectives), jnp.asarray(response)
    check_objectives(objectives, response.shape[-1])
    check_basis(basis, response.shape[-1])
    onto = _onto(jnp.asarray(basis, response.dtype), significance.gradient_product(response, objectives))
    return _unit(significance.gradient_solve(response, onto))


def posterior(
    inversion: Inversion, response: Float[ArrayLike, "*batch n"], calibration: Calibration | float
) -> Posterior:
    """Turn an inversion into a distribution over objectives.

    Args:
        inversion: What `jifv.invert` or `jifv.invert_batch` returned.
        response: r of the same realizations.
        calibration: τ of the setting: what `calibrate` returned, or one number.

    Returns:
        The `Posterior`, in the precision of the inversion.

    Raises:
        TypeError: The response is not real.
        ValueError: Its shape is not that of the objectives, or a τ is not positive and finite.
    """
    dtype = jnp.asarray(inversion.objective).dtype
    given = calibration.scales if isinstance(calibration, Calibration) else [calibration]
    scales = jnp.asarray(given, dtype)
    if scales.ndim != 1 or scales.shape[0] == 0:
        raise ValueError(f"calibration must hold a vector of at least one τ, got shape {scales.shape}")
    if not isinstance(scales, jax.core.Tracer) and not (jnp.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"calibration must have positive and finite τ, got {np.asarray(scales)}")
    response = jnp.asarray(response, dtype)
    if response.shape != jnp.shape(inversion.objective):
        raise ValueError(f"response must have shape {jnp.shape(inversion.objective)}, got {response.shape}")
    return Posterior(
        axes=jnp.asarray(inversion.singular_vectors),
        stiffness=_stiffness(inversion),
        scales=scales,
        response=response,
        objective=jnp.asarray(inversion.objective),
        dead=jnp.asarray(inversion.dead),
    )


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
    *batch, features, dimension = posterior.axes.shape
    flat = posterior.stiffness.reshape(-1, dimension)
    axes, response = posterior.axes.reshape(-1, features, dimension), posterior.response.reshape(-1, features)
    known = jnp.isfinite(posterior.objective).all(axis=-1).reshape(-1)
    dead = posterior.dead.reshape(-1, features)
    keys = jax.random.split(key, flat.shape[0])

    def one(sample: tuple[Array, ...]) -> Float[Array, "count n"]:
        key, stiffness, axes, response, known, dead = sample
        # Whatever is not known must not keep the loop from ending.
        coordinates = draw_coordinates(key, jnp.where(known, stiffness, 0), posterior.scales, count)
        drawn = jnp.einsum("nq,cq->cn", axes, coordinates, precision="highest")
        drawn = jnp.where(dead, 0, drawn)
        drawn = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
        opposed = jnp.sum(drawn * response, axis=-1, keepdims=True) < 0
        return jnp.where(known, jnp.where(opposed, -drawn, drawn), jnp.nan)

    return jax.lax.map(one, (keys, flat, axes, response, known, dead)).reshape(*batch, count, features)


def summarize(
    key: PRNGKeyArray,
    posterior: Posterior,
    *,
    level: float = 0.9,
    top: int = 10,
    draws: int = 1000,
    basis: Float[ArrayLike, "n q"] | None = None,
) -> Confidence:
    """Summarize a posterior by draws: intervals, the likely top features, the credible cone.

    Args:
        key: Random key.
        posterior: See `posterior`.
        level: Probability that an interval or the cone holds its part of v, in [0, 1).
        top: How many entries count as the largest; all of them if there are fewer.
        draws: Number of draws. Probabilities have errors of about 0.5/√draws.
        basis: Of the critical space, if the inversion had one: objectives are then known, and compared, on V.

    Returns:
        The `Confidence`.

    Raises:
        TypeError: `top` or `draws` is not an integer.
        ValueError: They are not positive, `level` is outside [0, 1), or `basis` is not orthonormal.
    """
    check_positive("top", top)
    check_positive("draws", draws)
    check_fraction("level", level, below_one=True)
    if basis is not None:
        basis = jnp.asarray(basis, posterior.axes.dtype)
        check_basis(basis, posterior.axes.shape[-2])
    options = {"level": float(level), "top": min(top, posterior.axes.shape[-2]), "draws": draws}
    return _summarize(key, posterior, basis, **options)


@partial(jax.jit, static_argnames=("level", "top", "draws"))
def _summarize(
    key: Array, posterior: Posterior, basis: Array | None, *, level: float, top: int, draws: int
) -> Confidence:
    *batch, features, _ = posterior.axes.shape
    keys = jax.random.split(key, int(np.prod(batch)))
    samples = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(batch) :]), posterior._replace(scales=None))

    def one(each: tuple[Array, Posterior]) -> Confidence:
        key, sample = each
        drawn = draw(key, sample._replace(scales=posterior.scales), count=draws)
        shares = jnp.mean(jnp.einsum("nq,cn->cq", sample.axes, drawn, precision="highest") ** 2, axis=0)
        answer = sample.objective
        if basis is not None:
            drawn, answer = _unit(_onto(basis, drawn)), _unit(_onto(basis, answer))
        ends = jnp.asarray([(1 - level) / 2, (1 + level) / 2], drawn.dtype)
        lower, upper = jnp.quantile(drawn, ends, axis=0)
        _, largest = jax.lax.top_k(drawn, top)
        often = jnp.zeros(features, drawn.dtype).at[largest.reshape(-1)].add(1 / draws)
        cone = jnp.quantile(angle(drawn, answer, basis=basis), level)
        unknown = sample.dead | ~jnp.isfinite(answer)
        return Confidence(
            lower=jnp.where(unknown, jnp.nan, lower),
            upper=jnp.where(unknown, jnp.nan, upper),
            top=jnp.where(unknown, jnp.nan, often),
            cone=cone,
            candidates=1 / jnp.sum(shares**2),
            undecided=~(cone <= WIDE),
        )

    found = jax.lax.map(one, (keys, samples))
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), found)


def _stiffness(inversion: Inversion) -> Float[Array, "*batch q"]:
    values = jnp.asarray(inversion.singular_values)
    largest = jnp.max(jnp.where(jnp.isfinite(values), values, 0), axis=-1, keepdims=True)
    return (values / jnp.where(largest > 0, largest, 1)) ** 2


@jax.jit
def _residues(inversion: Inversion, objectives: Array) -> Float[Array, " samples"]:
    stiffness = _stiffness(inversion)
    active = jnp.isfinite(stiffness)
    shares = jnp.einsum("...nq,...n->...q", inversion.singular_vectors, objectives, precision="highest") ** 2
    shares = jnp.where(active, shares, 0)
    total = jnp.sum(shares, axis=-1) * jnp.sum(active, axis=-1)
    return jnp.sqrt(jnp.sum(jnp.where(active, stiffness, 0) * shares, axis=-1) / total)


def _check_shapes(inversion: Inversion, objectives: Array | np.ndarray) -> None:
    check_objectives(objectives, jnp.shape(inversion.objective)[-1])
    if objectives.ndim != 2 or objectives.shape != jnp.shape(inversion.objective):
        raise ValueError(
            f"objectives must have shape (samples, n), that of the inversion's, {jnp.shape(inversion.objective)}, "
            f"got {objectives.shape}"
        )


def _onto(basis: Array, vectors: Array) -> Array:
    return jnp.einsum("nq,mq,...m->...n", basis, basis, vectors, precision="highest")


def _unit(vectors: Array) -> Array:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
