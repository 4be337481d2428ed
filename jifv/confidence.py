"""How sure an inversion is: how far off the answers to such pictures were where the objectives are known.

The two smallest singular values say most. Of the realizations of one setting the angle between answer and objective
grows about with ρ², ρ = σ_q/σ_{q−1} = 1 − `Inversion.gap`. How many degrees that is differs between settings, by a
factor of five. So make some realizations of your own setting, with objectives that you know: `calibrate` keeps their
quotients angle/ρ², and a cone around another answer is a quantile of these times its ρ² (split conformal prediction:
Papadopoulos et al., "Inductive confidence machines for regression", 2002). It holds the objective as often as it says
if the picture was made like the known ones. For pictures made in another way nothing is promised.

Within the cone the objective may lie in any direction uᵢ, as far as σ_q/σᵢ lets it. Intervals of single entries, and
the chance of a feature to be among the largest, are read off draws that go as far as the known answers were off.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from jifv._core.check import as_array, check_fraction, check_objectives, check_positive
from jifv._invert.solve import Inversion, check_basis
from jifv.evaluate import angle

__all__ = ["WIDE", "Calibration", "Confidence", "calibrate", "cone", "summarize"]

WIDE = 45.0
"""Degrees of the cone above which an answer is undecided: beyond 45° v may be closer to some direction across."""

_LEAST = 0.01
"""Least ρ. Below, rounding decides, in an angle as well."""

_ANYWHERE = 180.0


class Calibration(NamedTuple):
    """How far off answers to known realizations were.

    Attributes:
        quotients: angle/ρ² of each, in degrees, ascending.
    """

    quotients: Float[Array, " samples"]

    def __repr__(self) -> str:
        """Say what is there."""
        return f"Calibration({len(self.quotients)} samples, median {float(np.median(self.quotients)):.3g}° for ρ = 1)"


class Confidence(NamedTuple):
    """What may be said of an answer at the level that was asked for.

    Attributes:
        cone: Angle around the answer that holds the objective, in degrees, shape (*batch,); 180 where too few
            realizations are known to say less. NaN where there is no answer.
        undecided: Whether the cone is not below `WIDE`, shape (*batch,).
        lower: Least value of the interval of each entry of v, shape (*batch, n). NaN for dead features.
        upper: Largest value, likewise.
        top: Chance of each feature to be among the largest entries of v, shape (*batch, n). NaN as above.
    """

    cone: Float[Array, "*batch"]
    undecided: Bool[Array, "*batch"]
    lower: Float[Array, "*batch n"]
    upper: Float[Array, "*batch n"]
    top: Float[Array, "*batch n"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        *batch, features = np.shape(self.lower) or (0,)
        return f"Confidence(batch {tuple(batch)}, {features} features)"


def calibrate(
    inversion: Inversion, objectives: Float[ArrayLike, "samples n"], *, basis: Float[ArrayLike, "n q"] | None = None
) -> Calibration:
    """Measure how far off answers are on realizations whose objectives are known.

    Args:
        inversion: Of realizations that were made as the pictures in question were: network, layer, kinks, steps. Failed
            ones belong to them. A level of 0.9 takes 9 at least, and some dozens to be of use.
        objectives: Their targets.
        basis: Of the critical space, if the inversion had one: angles are those on V.

    Raises:
        TypeError: Objectives are not real.
        ValueError: Shapes do not fit, an objective is zero or not finite, or no inversion is known.
    """
    objectives, answers = as_array("objectives", objectives), jnp.asarray(inversion.objective)
    check_objectives(objectives, answers.shape[-1])
    if answers.ndim != 2 or objectives.shape != answers.shape:
        raise ValueError(f"objectives must have shape (samples, n), {answers.shape}, got {objectives.shape}")
    off = angle(answers, objectives.astype(answers.dtype), basis=_checked(basis, answers))
    quotients = np.asarray(off / _ratio(inversion) ** 2)
    quotients = np.sort(quotients[np.isfinite(quotients)])
    if not len(quotients):
        raise ValueError(f"inversion must be known of at least one sample, got none of {len(off)}")
    return Calibration(jnp.asarray(quotients))


def cone(inversion: Inversion, calibration: Calibration, *, level: float = 0.9) -> Float[Array, "*batch"]:
    """Return the angle around each answer that holds the objective, in degrees.

    Args:
        inversion: Of the pictures in question, with the options that `calibrate` has seen.
        calibration: What `calibrate` returned.
        level: How often the cone holds the objective, in [0, 1).

    Returns:
        Angles in [0, 180]; 180 where too few realizations are known for the level, NaN where there is no answer.

    Raises:
        ValueError: `level` is outside [0, 1).
    """
    check_fraction("level", level, below_one=True)
    known = calibration.quotients.shape[0]
    # Of s known ones and a new one each is equally likely to be the worst: ⌈(s + 1)·level⌉ of s have to be inside.
    inside = max(math.ceil((known + 1) * level - 1e-9), 1)
    quotient = calibration.quotients[inside - 1] if inside <= known else jnp.inf
    angles = jnp.minimum(quotient * _ratio(inversion) ** 2, _ANYWHERE)
    return jnp.where(jnp.isfinite(inversion.objective).all(axis=-1), angles, jnp.nan)


def summarize(
    key: PRNGKeyArray,
    inversion: Inversion,
    calibration: Calibration,
    *,
    level: float = 0.9,
    top: int = 10,
    draws: int = 1000,
    basis: Float[ArrayLike, "n q"] | None = None,
) -> Confidence:
    """Say how sure answers are: the cone, an interval for each entry, and the likely top features.

    Args:
        key: Random key.
        inversion: See `cone`.
        calibration: See `cone`.
        level: How often the cone, or an interval, holds its part of v, in [0, 1).
        top: How many entries count as the largest; all of them if there are fewer.
        draws: Number of draws for intervals and `top`, whose chances have errors of about 0.5/√draws.
        basis: Of the critical space, if the inversion had one: everything is then said of v on V.

    Raises:
        TypeError: `top` or `draws` is not an integer.
        ValueError: They are not positive, `level` is outside [0, 1), or `basis` is not orthonormal.
    """
    check_positive("top", top)
    check_positive("draws", draws)
    wide = cone(inversion, calibration, level=level)
    answers = jnp.asarray(inversion.objective)
    basis = _checked(basis, answers)
    options = {"top": min(top, answers.shape[-1]), "draws": draws}
    lower, upper, often = _drawn(key, inversion, calibration.quotients, basis, level, **options)
    return Confidence(wide, ~(wide < WIDE), lower, upper, often)


@partial(jax.jit, static_argnames=("top", "draws"))
def _drawn(
    key: Array,
    inversion: Inversion,
    quotients: Array,
    basis: Array | None,
    level: Float[ArrayLike, ""],
    *,
    top: int,
    draws: int,
) -> tuple[Float[Array, "*batch n"], ...]:
    """Draw cos(θ) v̂ + sin(θ) w: θ as far as known answers were off, w across v̂, along uᵢ in proportion to 1/σᵢ."""
    values, vectors = jnp.asarray(inversion.singular_values), jnp.asarray(inversion.singular_vectors)
    answers, dead = jnp.asarray(inversion.objective), jnp.asarray(inversion.dead)
    if basis is not None:
        onto = jnp.matmul(basis, basis.T, precision="highest")
        answers = _unit(jnp.matmul(answers, onto, precision="highest"))
        vectors = jnp.matmul(onto, vectors, precision="highest")
    *batch, features, rank = vectors.shape
    # What is taken out has σ = inf; the last is v̂ itself, but for its length.
    widths = (1 / jnp.maximum(values, jnp.finfo(values.dtype).tiny)).at[..., -1].set(0)
    widths = widths / _positive(jnp.max(widths, axis=-1, keepdims=True))
    which, normals = jax.random.split(key)
    samples = (vectors, widths, answers, _ratio(inversion), dead)
    flat = [leaf.reshape(-1, *leaf.shape[len(batch) :]) for leaf in samples]
    keys = [jax.random.split(each, flat[0].shape[0]) for each in (which, normals)]

    def one(each: tuple[Array, ...]) -> tuple[Array, ...]:
        which, normals, vectors, widths, answer, ratio, dead = each
        off = jnp.minimum(jax.random.choice(which, quotients, (draws,)) * ratio**2, _ANYWHERE)
        off = jnp.radians(off.astype(answer.dtype))[:, None]
        across = (jax.random.normal(normals, (draws, rank), answer.dtype) * widths) @ vectors.T
        across = jnp.where(dead, 0, across)
        across = _unit(across - (across @ answer)[:, None] * answer)
        drawn = jnp.cos(off) * answer + jnp.sin(off) * across
        lower, upper = jnp.quantile(drawn, (1 + jnp.array([-1, 1]) * level) / 2, axis=0)
        _, largest = jax.lax.top_k(drawn, top)
        often = jnp.zeros(features, drawn.dtype).at[largest.reshape(-1)].add(1 / draws)
        unknown = dead | ~jnp.isfinite(answer)
        return tuple(jnp.where(unknown, jnp.nan, found) for found in (lower, upper, often))

    with jax.default_matmul_precision("highest"):
        found = jax.lax.map(one, (*keys, *flat))
    return tuple(each.reshape(*batch, features) for each in found)


def _ratio(inversion: Inversion) -> Float[Array, "*batch"]:
    return jnp.maximum(1 - jnp.asarray(inversion.gap), _LEAST)


def _checked(basis: ArrayLike | None, answers: Array) -> Array | None:
    if basis is None:
        return None
    basis = jnp.asarray(basis, answers.dtype)
    check_basis(basis, answers.shape[-1])
    return basis


def _unit(vectors: Array) -> Array:
    return vectors / _positive(jnp.linalg.norm(vectors, axis=-1, keepdims=True))


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
