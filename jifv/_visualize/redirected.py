"""The gradient that wakes dead features: that of redirected ReLUs, in the first steps of Adam alone."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jifv._visualize.gradient import evaluate, norm
from jifv._visualize.state import State
from jifv.redirection import redirect
from jifv.response import Response
from jifv.significance import Objective, Significance

_NOTHING = 1e-6
"""Which part of the largest response is none: what rounding leaves of a maximum that is rounded axis by axis."""
_LINEAR = Significance(power=0, floor=None)


def wake(
    f: Response,
    state: State,
    response: Float[Array, "batch n"],
    gradient: Float[Array, "batch *p"],
    *,
    precision: str,
) -> Float[Array, "batch *p"]:
    """Add to the gradient of the loss −d what dead features would add if their ReLUs let it pass.

    A feature is dead in a sample where its response is 0, and matters if d wants more of it. Where the whole gradient
    of a sample is 0, all features are dead. Where none is, the gradient stays as it is, and nothing is compiled.

    Args:
        f: Response function.
        state: The state at which the others were computed.
        response: r.
        gradient: That of −d.
        precision: As for `gradient`.
    """
    wanted, any_ = _dead_part(response, gradient, state.objectives, state.active, significance=state.significance)
    if not bool(any_):  # waits for the device
        return gradient
    _, _, further = evaluate(
        redirect(f),
        _LINEAR,
        precision,
        state.parameters,
        wanted,
        active=state.active,
        transformations=state.transformations,
        step=state.step,
    )
    return gradient + further


@partial(jax.jit, static_argnames="significance")
def _dead_part(
    response: Array, gradient: Array, objectives: Array, active: Array, *, significance: Objective
) -> tuple[Float[Array, "batch n"], Bool[Array, ""]]:
    """Return ∂d/∂r where features are dead, and whether there is any."""
    slope = jax.vmap(jax.grad(significance))(response, objectives)
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    silent = jnp.abs(response) <= _NOTHING * jnp.max(jnp.abs(response), axis=1, keepdims=True)
    silent &= slope > _NOTHING * jnp.max(slope, axis=1, keepdims=True)
    flat = norm(gradient) == 0
    wanted = jnp.where((silent | flat[:, None]) & active[:, None], slope, 0)
    return wanted, jnp.any(wanted != 0)
