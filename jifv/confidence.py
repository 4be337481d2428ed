"""How sure an inversion is: a distribution over objectives in place of one answer.

A realization is never quite stationary. If of its gradient a residue JᵀBv = ε is left whose entries are independent and
normal with the standard deviation τσ₁, an objective v of unit length has the likelihood exp(-‖JᵀBv‖² / 2τ²σ₁²). On the
sphere that is a Bingham distribution: its axes are the singular vectors uᵢ that `jifv.invert` returns, its
concentrations (σᵢ/σ₁)²/2τ². Where σᵢ/σ₁ is far above τ, v has no part in uᵢ; where several lie below, nobody can tell.

How large is τ? The residue lies in the space of p, with m entries, and most of it is across all rows of J: there no v
could undo it, and it is σ_q, the smallest singular value, that it shows in. Of residues that point anywhere, τ is about
σ_q/σ₁√m, and that is what realizations close to rest have. On kinks it is more. So τ is measured in units of σ_q/σ₁ on
realizations whose objectives are known (`calibrate`), and kept as several numbers, each as likely as it was there.

Draws are exact, by rejection with an angular central Gaussian envelope (Kent, Ganeiber and Mardia, "A new method to
simulate the Bingham and related distributions in directional data analysis with applications", 2013).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from jifv._core.check import check_fraction, check_positive, concrete
from jifv._invert.calibrating import LEVELS, Solved, calibrate, posterior_of, reachable, uncalibrated
from jifv._invert.posterior import Calibration, Posterior, draw, flat, onto
from jifv._invert.solve import Inversion, check_basis
from jifv.evaluate import angle

__all__ = [
    "WIDE",
    "Calibration",
    "Confidence",
    "Posterior",
    "Solved",
    "calibrate",
    "draw",
    "posterior",
    "reachable",
    "summarize",
]

WIDE = 45.0
"""Degrees of the credible cone above which an answer is undecided: beyond 45° v is closer to some v across."""


class Confidence(NamedTuple):
    """What a posterior says of an answer, at the level that was asked for.

    Attributes:
        lower: Least value of the interval of each entry of v, shape (*batch, n). NaN for dead features, and for a
            sample of which nothing is known.
        upper: Largest value, likewise.
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


def posterior(
    inversion: Inversion, response: Float[ArrayLike, "*batch n"], calibration: Calibration | float
) -> Posterior:
    """Turn an inversion into a distribution over objectives.

    Args:
        inversion: What `jifv.invert` or `jifv.invert_batch` returned.
        response: r of the same realizations.
        calibration: What `calibrate` returned; or τ itself, one number for all of them.

    Returns:
        The `Posterior`, in the precision of the inversion.

    Raises:
        TypeError: The response is not real.
        ValueError: Its shape is not that of the objectives, or a τ is not positive and finite.
    """
    dtype = jnp.asarray(inversion.objective).dtype
    plain = not isinstance(calibration, Calibration)
    known = uncalibrated(jnp.asarray([calibration], dtype)) if plain else calibration
    if np.ndim(known.scales) != 1 or np.size(known.scales) == 0:
        raise ValueError(f"calibration must hold at least one τ, got shape {np.shape(known.scales)}")
    if concrete(known.scales):
        scales = np.asarray(known.scales)
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise ValueError(f"calibration must have positive and finite τ, got {scales}")
    response = jnp.asarray(response, dtype)
    if response.shape != jnp.shape(inversion.objective):
        raise ValueError(f"response must have shape {jnp.shape(inversion.objective)}, got {response.shape}")
    found = posterior_of(inversion, response, jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), known))
    return found._replace(scales=jnp.broadcast_to(known.scales, found.scales.shape)) if plain else found


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
    samples = flat(posterior)
    keys = jax.random.split(key, samples.axes.shape[0])
    said = jnp.linspace(0, 1, LEVELS, dtype=samples.axes.dtype)
    of_cone, of_entries = (jnp.interp(level, said, levels) for levels in (posterior.cone, posterior.entries))

    def one(each: tuple[Array, Posterior]) -> Confidence:
        key, sample = each
        drawn = draw(key, sample._replace(cone=posterior.cone, entries=posterior.entries), count=draws)
        shares = jnp.mean(jnp.einsum("nq,cn->cq", sample.axes, drawn, precision="highest") ** 2, axis=0)
        answer = sample.objective
        if basis is not None:
            drawn, answer = onto(basis, drawn), onto(basis, answer)
        lower, upper = jnp.quantile(drawn, jnp.stack([(1 - of_entries) / 2, (1 + of_entries) / 2]), axis=0)
        _, largest = jax.lax.top_k(drawn, top)
        often = jnp.zeros(features, drawn.dtype).at[largest.reshape(-1)].add(1 / draws)
        cone = jnp.quantile(angle(drawn, answer), of_cone)
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
