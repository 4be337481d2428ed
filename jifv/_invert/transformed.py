"""Inversion of E d(f(τx), v): the mean over transformations of s·BJ, whose weights s depend on the objective itself."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jifv.ensemble import Ensemble, respond
from jifv.response import Response
from jifv.significance import Significance, cosine


def weighted(
    f: Response,
    ensemble: Ensemble,
    bits: Array,
    significance: Significance,
    objective: Float[Array, " n"],
) -> Response:
    """Return the function whose Jacobian is the mean over τ of s B J, with s = max(cos(r, v), floor)^k.

    Its value is the mean of s r. It is computed one transformation after the other, and again for every gradient, so
    that linearizing it takes the memory of one Jacobian. An objective of 0 has s = 1 everywhere.
    """
    known = jnp.any(objective != 0)

    def mean(parameters: Float[Array, "..."]) -> Float[Array, " n"]:
        @jax.checkpoint
        def one(key: Array) -> Float[Array, " n"]:
            response = respond(f, ensemble, key, parameters)
            here = jax.lax.stop_gradient(response)
            cos = cosine(here, objective)
            flat = known & significance.on_floor(cos)  # where ∂d/∂r = s v, without B
            clipped = jnp.abs(cos) if significance.floor is None else jnp.maximum(cos, significance.floor)
            scale = jnp.where(known, clipped**significance.power, 1)
            # B r = r, so this is s r in value.
            return scale * jnp.where(flat, response, significance.gradient_product(here, response))

        return jnp.mean(jax.lax.map(one, ensemble.keys(bits)), axis=0)

    return mean
