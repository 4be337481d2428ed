"""Verify what somebody says of a picture: "it visualizes direction v", or "it visualizes something".

To verify is much easier than to invert. A realization is optimal for its objective, so that ‖JᵀBv‖/σ₁
(`jifv.stationarity`) is small for the true v, and as large as it may be for others, also where weak features make the
answer of an inversion ambiguous. So a claim is put beside other claims on the same picture.

Whether a picture is optimal for anything at all is read from the best objective that can be found: how far from rest it
leaves the picture, whether the picture excites it (every visualization keeps cos(r, v) above the floor of the
significance), and whether it has entries that nobody would visualize. These are put beside those of known realizations.

None of this exposes a network that was manipulated: its pictures are true maxima.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from jifv._core.check import check_fraction, check_objectives, check_positive
from jifv._invert.check import check_linearization
from jifv._invert.solve import Inversion
from jifv.evaluate import angle
from jifv.jacobian import compress
from jifv.objectives import sparse_objectives
from jifv.significance import Significance, check_invertible, cosine

__all__ = ["Audit", "Known", "Optimality", "audit_claim", "describe", "judge_picture", "known_realizations"]

OTHER = 30.0
"""Degrees from the claim from which on an objective counts as another claim."""

_LEAST = (0.2, 5.0, 0.05)
"""Least deviations that count: a fifth of the stationarity, 5 degrees, a twentieth of the squared length."""


class Audit(NamedTuple):
    """A claim beside others on the same picture.

    Attributes:
        stationarity: ‖JᵀBv‖/σ₁ of the claim, shape (*batch,).
        others: Of other claims, shape (*batch, m): random ones, every feature, and last the response. NaN for those
            closer than `OTHER` to the claim and for dead features.
        p_value: How likely another claim does as well, (1 + number of others that do)/(1 + number of others), shape
            (*batch,).
        on_dead: Share of the claim's squared length on features with rᵢ = 0 and a zero row in J, of which the picture
            says nothing, shape (*batch,).
    """

    stationarity: Float[Array, "*batch"]
    others: Float[Array, "*batch m"]
    p_value: Float[Array, "*batch"]
    on_dead: Float[Array, "*batch"]

    def __repr__(self) -> str:
        """Say what is there; the arrays are too long to print."""
        *batch, others = np.shape(self.others) or (0,)
        return f"Audit(batch {tuple(batch)}, {others} other claims)"


def audit_claim(
    key: PRNGKeyArray,
    response: Float[ArrayLike, "*batch n"],
    jacobian: Float[ArrayLike, "*batch n m"],
    claims: Float[ArrayLike, "*batch n"],
    *,
    significance: Significance,
    random: int = 256,
) -> Audit:
    """Measure how well a picture fits the claim that it visualizes an objective, and how well it fits other claims.

    Args:
        key: Random key, for the random claims (`jifv.sparse_objectives`).
        response: r of each picture.
        jacobian: J, or what `jifv.compress` makes of it.
        claims: Directions v that the pictures are said to visualize, of any length but zero.
        significance: What is said to have been maximized; its power decides B.
        random: Number of random claims.

    Returns:
        The `Audit`; NaN where r or J is not finite.

    Raises:
        TypeError: As `jifv.stationarity`, or `random` is not an integer.
        ValueError: As `jifv.stationarity`, or `random` is not positive.
    """
    check_positive("random", random)
    response, jacobian, claims = jnp.asarray(response), jnp.asarray(jacobian), jnp.asarray(claims)
    check_linearization(response, jacobian)
    check_invertible(significance)
    check_objectives(claims, response.shape[-1])
    if claims.shape != response.shape:
        raise ValueError(f"claims must have the shape of response, {response.shape}, got {claims.shape}")
    dtype = jnp.promote_types(jnp.result_type(response, jacobian), jnp.float32)
    return _audit(key, *(each.astype(dtype) for each in (response, jacobian, claims)), significance, random)


@partial(jax.jit, static_argnums=(4, 5))
def _audit(
    key: Array, response: Array, jacobian: Array, claims: Array, significance: Significance, random: int
) -> Audit:
    features, dtype = response.shape[-1], response.dtype
    factor = compress(jacobian)
    dead = (response == 0) & jnp.all(factor == 0, axis=-1)
    finite = jnp.isfinite(response).all(-1) & jnp.isfinite(factor).all((-2, -1))
    factor = jnp.where(finite[..., None, None], factor, 0)
    response = jnp.where(finite[..., None], response, 0)
    fixed = jnp.concatenate([sparse_objectives(key, random, features, dtype=dtype), jnp.eye(features, dtype=dtype)])
    others = jnp.broadcast_to(fixed, (*response.shape[:-1], *fixed.shape))
    others = jnp.concatenate([others, response[..., None, :]], axis=-2)
    # What lies on dead features would only make a claim shorter.
    others = _unit(jnp.where(dead[..., None, :], 0, others))
    claims = _unit(claims)
    with jax.default_matmul_precision("highest"):
        product = significance.gradient_product(response, factor)
        largest = jnp.linalg.svd(product, compute_uv=False)[..., :1]
        largest = jnp.where(largest > 0, largest, 1)
        rest = jnp.linalg.norm(jnp.einsum("...n,...nk->...k", claims, product), axis=-1) / largest[..., 0]
        rests = jnp.linalg.norm(jnp.einsum("...mn,...nk->...mk", others, product), axis=-1) / largest
    near = ~(angle(others, claims[..., None, :]) >= OTHER)  # also where there is none
    rests = jnp.where(near | ~finite[..., None], jnp.nan, rests)
    as_good = jnp.sum(rests <= rest[..., None], axis=-1)
    count = jnp.sum(jnp.isfinite(rests), axis=-1)
    return Audit(
        stationarity=jnp.where(finite, rest, jnp.nan),
        others=rests,
        p_value=jnp.where(finite, (1 + as_good) / (1 + count), jnp.nan).astype(dtype),
        on_dead=jnp.sum(jnp.where(dead, claims, 0) ** 2, axis=-1),
    )


class Known(NamedTuple):
    """Known realizations of a setting, to put a picture beside.

    Attributes:
        hints: What `judge_picture` looks at, one row per realization: log stationarity, angle between response and
            answer in degrees, and share of the answer's squared length with negative sign.
        scores: Of each realization beside all others, ascending.
    """

    hints: Float[Array, "samples 3"]
    scores: Float[Array, " samples"]


class Optimality(NamedTuple):
    """Whether pictures are optimal for anything.

    Attributes:
        stationarity: `Inversion.stationarity`, shape (*batch,).
        cosine: cos(r, v) of the answer, shape (*batch,).
        negative: Share of the answer's squared length with negative sign, shape (*batch,).
        score: By how many deviations the worst of the three is worse than the median of known realizations, shape
            (*batch,).
        p_value: How likely a realization has such a score: (1 + number of known ones that have)/(1 + number of known
            ones), shape (*batch,).
        optimal: Whether the p-value is above the level; False where nothing is known, shape (*batch,).
    """

    stationarity: Float[Array, "*batch"]
    cosine: Float[Array, "*batch"]
    negative: Float[Array, "*batch"]
    score: Float[Array, "*batch"]
    p_value: Float[Array, "*batch"]
    optimal: Bool[Array, "*batch"]


def known_realizations(inversion: Inversion, response: Float[ArrayLike, "samples n"]) -> Known:
    """Keep what is to be known of realizations, to put pictures beside.

    Args:
        inversion: Of realizations that are made as the pictures are said to be, at least two; also failed inversions.
        response: Their r.

    Raises:
        ValueError: Fewer than two samples are known, or shapes do not fit.
    """
    hints = np.asarray(_hints(inversion, _checked(inversion, response)))
    hints = hints.reshape(-1, 3)[np.isfinite(hints).all(axis=-1).reshape(-1)]
    if len(hints) < 2:
        raise ValueError(f"inversion must be known for at least 2 realizations, got {len(hints)}")
    hints = jnp.asarray(hints)
    return Known(hints, jnp.sort(_score(hints, hints)))


def judge_picture(
    inversion: Inversion, response: Float[ArrayLike, "*batch n"], known: Known, *, level: float = 0.05
) -> Optimality:
    """Ask whether pictures are optimal for anything.

    Args:
        inversion: Of the pictures, with the options that the known realizations were inverted with.
        response: Their r.
        known: From `known_realizations`.
        level: Share of true realizations that may be called optimal for nothing.

    Raises:
        ValueError: Shapes do not fit.
    """
    check_fraction("level", level)
    hints = _hints(inversion, _checked(inversion, response))
    score = _score(hints, known.hints)
    count = known.scores.shape[0]
    worse = count - jnp.searchsorted(known.scores, score, side="left")
    p_value = jnp.where(jnp.isnan(score), jnp.nan, (1 + worse) / (1 + count))
    return Optimality(
        stationarity=jnp.exp(hints[..., 0]),
        cosine=jnp.cos(jnp.radians(hints[..., 1])),
        negative=hints[..., 2],
        score=score,
        p_value=p_value,
        optimal=p_value > level,
    )


def describe(inversion: Inversion, verdict: Optimality, known: Known, names: Sequence[str], *, most: int = 3) -> str:
    """Say in a sentence what one picture is optimal for, or that it is optimal for nothing.

    Args:
        inversion: Of the picture, without batch axes.
        verdict: What `judge_picture` said of it.
        known: What it was put beside.
        names: Name of each feature.
        most: How many features to name.

    Raises:
        ValueError: There is a batch, or not a name for each feature.
    """
    objective = np.asarray(inversion.objective)
    if objective.ndim != 1 or len(names) != len(objective):
        raise ValueError(
            f"names must be one for each feature of one picture, got {len(names)} for an objective of shape "
            f"{objective.shape}"
        )
    if not np.isfinite(objective).all():
        return "nothing is known of this picture: its response or Jacobian is not finite"
    largest = np.argsort(-np.abs(objective))[:most]
    parts = " ".join(f"{objective[index]:+.2f} {names[index]}" for index in largest).removeprefix("+")
    usual = np.quantile(np.exp(np.asarray(known.hints[:, 0])), [0.05, 0.95])
    evidence = (
        f"stationarity {float(verdict.stationarity):.2g} (realizations {usual[0]:.2g} to {usual[1]:.2g}), "
        f"cosine {float(verdict.cosine):.2g}, {100 * float(verdict.negative):.0f} % negative"
    )
    if bool(verdict.optimal):
        return f"optimal for {parts}, with {evidence}"
    return f"optimal for nothing here; the nearest is {parts}, with {evidence}"


@jax.jit
def _hints(inversion: Inversion, response: Array) -> Float[Array, "*batch 3"]:
    objective = inversion.objective
    tiny = jnp.finfo(objective.dtype).tiny
    rest = jnp.log(jnp.maximum(inversion.stationarity, tiny))
    negative = jnp.sum(jnp.minimum(objective, 0) ** 2, axis=-1)
    return jnp.stack([rest, jnp.degrees(jnp.arccos(jnp.clip(cosine(response, objective), -1, 1))), negative], axis=-1)


def _score(hints: Float[Array, "*batch 3"], known: Float[Array, "samples 3"]) -> Float[Array, "*batch"]:
    middle = jnp.median(known, axis=0)
    # Of a normal distribution 1.48 times this is the standard deviation; the least is what is not worth a word.
    spread = jnp.maximum(1.4826 * jnp.median(jnp.abs(known - middle), axis=0), jnp.asarray(_LEAST, known.dtype))
    return jnp.max((hints - middle) / spread, axis=-1)


def _checked(inversion: Inversion, response: ArrayLike) -> Float[Array, "*batch n"]:
    response = jnp.asarray(response, inversion.objective.dtype)
    if response.shape != inversion.objective.shape:
        raise ValueError(f"response must have shape {inversion.objective.shape}, got {response.shape}")
    return response


def _unit(vectors: Array) -> Array:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
