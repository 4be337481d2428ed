"""Calibration of a posterior on realizations whose objectives are known."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jifv._core.check import check_objectives, check_positive
from jifv._invert.bingham import best_envelope
from jifv._invert.posterior import Calibration, Posterior, draw, onto, stiffness, unit, usual_scale
from jifv._invert.solve import Inversion, check_basis
from jifv.evaluate import angle
from jifv.significance import Significance, check_invertible

LEVELS = 101
_SMALLEST, _LARGEST = 1e-7, 10.0
"""Range of τ; above, a distribution is uniform, below, it is finer than single precision."""
_BISECTIONS = 40


class Solved(NamedTuple):
    """Realizations of one setting whose objectives are known, and their inversion.

    Attributes:
        inversion: What `jifv.invert` returned, with the options that are to be used later.
        response: r, shape (samples, n).
        objectives: Targets, shape (samples, n).
        significance: What was maximized.
        basis: Of the critical space, if the inversion had one.
    """

    inversion: Inversion
    response: Float[ArrayLike, "samples n"]
    objectives: Float[ArrayLike, "samples n"]
    significance: Significance
    basis: Float[ArrayLike, "n q"] | None = None


def calibrate(
    key: PRNGKeyArray, known: Solved | Sequence[Solved], *, scales: int = 16, draws: int = 500
) -> Calibration:
    """Measure how large residues are on realizations whose objectives are known, and how good sets are.

    Of each sample τ is the one for which its target is most likely. That of a Bingham distribution solves
    Σ λᵢ⟨cᵢ²⟩ = Σ λᵢcᵢ², with c the coordinates of the target, and ⟨cᵢ²⟩ = 1/(b + 2λᵢ), Σ 1/(b + 2λᵢ) = 1, by the
    saddlepoint approximation (Kume and Wood, "Saddlepoint approximations for the Bingham and Fisher-Bingham normalising
    constants", 2005).

    A posterior of these τ need not be right: targets are sparser than a sphere is round, and residues are not quite
    isotropic. So its sets are read off at levels at which they hold as many of the known objectives as they say
    (conformal prediction), for cones and for intervals.

    Args:
        key: Random key.
        known: Realizations of a setting, or of several, which count alike; failures belong to them.
        scales: Number of τ to keep, at evenly spread quantiles.
        draws: Number of draws per sample.

    Returns:
        The `Calibration`.

    Raises:
        TypeError: Objectives are not real, a `Solved` has no `Significance`, or a number is not an integer.
        ValueError: Shapes do not fit, a number is not positive, or fewer than two samples are known.
    """
    check_positive("scales", scales)
    check_positive("draws", draws)
    settings = [known] if isinstance(known, Solved) else list(known)
    for each in settings:
        _check(each)
    found = np.concatenate([[1.0], *(np.asarray(relative_scales(each), np.float64) for each in settings)])[1:]
    found = found[np.isfinite(found)]
    if len(found) < 2:
        raise ValueError(f"known must hold at least 2 samples whose inversion is known, got {len(found)}")
    kept = np.exp(np.quantile(np.log(found), (np.arange(scales) + 0.5) / scales))
    plain = uncalibrated(jnp.asarray(kept, settings[0].inversion.objective.dtype))
    keys = jax.random.split(key, len(settings))
    ranks = [_ranks(each, own, plain, draws) for each, own in zip(keys, settings, strict=True)]
    cones, entries = (np.concatenate([np.ravel(each) for each in both]) for both in zip(*ranks, strict=True))
    return plain._replace(cone=_levels(cones, plain.scales), entries=_levels(entries, plain.scales))


def uncalibrated(scales: Float[Array, " g"]) -> Calibration:
    """Take sets at the levels that they say."""
    levels = jnp.linspace(0, 1, LEVELS, dtype=scales.dtype)
    return Calibration(scales, levels, levels)


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
    bent = onto(jnp.asarray(basis, response.dtype), significance.gradient_product(response, objectives))
    return unit(significance.gradient_solve(response, bent))


def posterior_of(inversion: Inversion, response: Float[Array, "*batch n"], calibration: Calibration) -> Posterior:
    """Put an inversion and a calibration together."""
    squares = stiffness(inversion)
    return Posterior(
        axes=jnp.asarray(inversion.singular_vectors),
        stiffness=squares,
        response=response,
        objective=jnp.asarray(inversion.objective),
        dead=jnp.asarray(inversion.dead),
        scales=usual_scale(squares)[..., None] * calibration.scales,
        cone=calibration.cone,
        entries=calibration.entries,
    )


def relative_scales(known: Solved) -> Float[Array, " samples"]:
    """Find the likeliest τ of each sample in units of what is usual for it."""
    return likeliest_scales(known) / usual_scale(stiffness(known.inversion))


def likeliest_scales(known: Solved) -> Float[Array, " samples"]:
    """Find the τ of each sample for which its target is most likely; NaN where nothing is known."""
    targets = jnp.asarray(known.objectives)
    if known.basis is not None:
        targets = reachable(targets, known.response, known.basis, significance=known.significance)
    return _likeliest(known.inversion, targets)


@jax.jit
def _likeliest(inversion: Inversion, targets: Array) -> Float[Array, " samples"]:
    def one(squares: Float[Array, " q"], axes: Float[Array, "n q"], target: Float[Array, " n"]) -> Float[Array, ""]:
        active = jnp.isfinite(squares)
        excess = jnp.where(active, squares - jnp.min(squares, where=active, initial=jnp.inf), 0)
        shares = jnp.where(active, jnp.einsum("nq,n->q", axes, target, precision="highest") ** 2, 0)
        found = jnp.sum(excess * shares) / jnp.sum(shares)
        q = jnp.sum(active).astype(squares.dtype)

        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            rates = jnp.where(active, excess / (2 * jnp.exp(2 * middle)), jnp.inf)
            expected = jnp.sum(jnp.where(active, excess / (best_envelope(rates, q) + 2 * rates), 0))
            return jnp.where(expected < found, middle, ends[0]), jnp.where(expected < found, ends[1], middle)

        ends = (jnp.log(jnp.full_like(q, _SMALLEST)), jnp.log(jnp.full_like(q, _LARGEST)))
        low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, ends)
        return jnp.where(jnp.isfinite(found), jnp.exp((low + high) / 2), jnp.nan)

    return jax.vmap(one)(stiffness(inversion), inversion.singular_vectors, targets)


def _ranks(key: Array, known: Solved, calibration: Calibration, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the levels at which each target would just be in the cone, and each entry in its interval."""
    response = jnp.asarray(known.response, known.inversion.objective.dtype)
    drawn = draw(key, posterior_of(known.inversion, response, calibration), count=draws)
    targets, answers = unit(jnp.asarray(known.objectives)), known.inversion.objective
    if known.basis is not None:
        drawn, targets, answers = (onto(jnp.asarray(known.basis), each) for each in (drawn, targets, answers))
    usable = np.asarray(jnp.isfinite(answers).all(axis=-1))
    closer = angle(drawn, answers[:, None]) < angle(answers, targets)[:, None]
    cones = np.asarray(jnp.mean(closer, axis=1))[usable]
    below = np.asarray(jnp.mean(drawn < targets[:, None], axis=1))
    alive = usable[:, None] & ~np.asarray(known.inversion.dead)
    return cones, np.abs(2 * below - 1)[alive]


def _levels(ranks: np.ndarray, like: Array) -> Float[Array, " levels"]:
    # Of s known ones the share ⌈(s + 1)·level⌉/s has to be inside, so that a new one is with the level's probability.
    shares = np.minimum(np.linspace(0, 1, LEVELS) * (len(ranks) + 1) / len(ranks), 1)
    return jnp.asarray(np.quantile(ranks, shares), like.dtype)


def _check(known: Solved) -> None:
    check_invertible(known.significance)
    shape = np.shape(known.inversion.objective)
    check_objectives(known.objectives, shape[-1])
    for name in ("objectives", "response"):
        if len(shape) != 2 or np.shape(getattr(known, name)) != shape:
            raise ValueError(
                f"{name} must have shape (samples, n), that of the inversion's, {shape}, "
                f"got {np.shape(getattr(known, name))}"
            )
