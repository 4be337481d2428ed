"""Verify what somebody says of a picture: "it visualizes direction v".

To verify is much easier than to invert. A realization is optimal for its objective, so that ‖JᵀBv‖/σ₁
(`jifv.stationarity`) is small for the true v, and as large as it may be for others, also where weak features make the
answer of an inversion ambiguous. So a claim is put beside other claims on the same picture. Whether a picture is
optimal for anything at all is another question, which `jifv.experiments.pictures` answers.

This does not expose a network that was manipulated: its pictures are true maxima. An audit in a layer below the
manipulated ones does; benchmarks/fooling.py has an example.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jifv._core.check import check_positive
from jifv._invert.stationary import as_directions, gradient_left, unit
from jifv.evaluate import angle
from jifv.jacobian import compress
from jifv.objectives import sparse_objectives
from jifv.significance import Significance

__all__ = ["OTHER", "Audit", "audit_claim"]

OTHER = 30.0
"""Degrees from the claim from which on an objective counts as another claim."""


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
    response, jacobian, claims = as_directions("claims", response, jacobian, claims, significance)
    return _audit(key, response, jacobian, claims, significance, random)


@partial(jax.jit, static_argnums=(4, 5))
def _audit(
    key: Array, response: Array, jacobian: Array, claims: Array, significance: Significance, random: int
) -> Audit:
    features, dtype = response.shape[-1], response.dtype
    compressed = compress(jacobian)
    dead = (response == 0) & jnp.all(compressed == 0, axis=-1)
    fixed = jnp.concatenate([sparse_objectives(key, random, features, dtype=dtype), jnp.eye(features, dtype=dtype)])
    others = jnp.broadcast_to(fixed, (*response.shape[:-1], *fixed.shape))
    others = jnp.concatenate([others, response[..., None, :]], axis=-2)
    # What lies on dead features would only make a claim shorter.
    others = unit(jnp.where(dead[..., None, :], 0, others))
    claims = unit(claims)
    rests = gradient_left(response, compressed, jnp.concatenate([claims[..., None, :], others], axis=-2), significance)
    rest, rests = rests[..., 0], rests[..., 1:]
    near = ~(angle(others, claims[..., None, :]) >= OTHER)  # also where there is none
    rests = jnp.where(near, jnp.nan, rests)
    as_good = jnp.sum(rests <= rest[..., None], axis=-1)
    count = jnp.sum(jnp.isfinite(rests), axis=-1)
    return Audit(
        stationarity=rest,
        others=rests,
        p_value=jnp.where(jnp.isfinite(rest), (1 + as_good) / (1 + count), jnp.nan).astype(dtype),
        on_dead=jnp.sum(jnp.where(dead, claims, 0) ** 2, axis=-1),
    )
