"""Responses that optimization cannot change: told, and not optimized without a word."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal
from jaxtyping import Array, Float

from jifv._core.caller import warn_caller
from jifv._visualize.gradient import evaluate_state
from jifv._visualize.state import State
from jifv.response import Response

_CALLS = ("jit", "pjit")


class FlatResponseWarning(UserWarning):
    """No sample has a gradient, so that none can be optimized."""


def check_dependence(f: Response, parameters: jax.ShapeDtypeStruct) -> None:
    """Raise if the response is the same for all parameters, as far as its jaxpr tells.

    Args:
        f: Response function.
        parameters: Shape and dtype of one sample's p.

    Raises:
        ValueError: r does not depend on p, or only through `stop_gradient`.
    """
    # `jax.eval_shape` has traced f already, and `trace` finds that again.
    if not any(_depending(jax.jit(f).trace(parameters).jaxpr.jaxpr, [True])):
        raise ValueError("f must depend on its parameters, got a response that no gradient reaches")


def warn_if_flat(f: Response, before: State, now: State) -> None:
    """Warn if the gradient of d was exactly zero for every sample of a batch.

    Args:
        f: Response function.
        before: The state at the start.
        now: The state after some steps. Samples that have moved had a gradient.
    """
    if bool(_moved(before.parameters, now.parameters)) or not bool(now.finite.all()):
        return
    _, _, gradient = evaluate_state(f, before)
    if not bool(jnp.any(gradient)):
        warn_caller(
            f"f ({getattr(f, '__qualname__', repr(f))}) has a gradient of exactly 0 for all {len(gradient)} samples, "
            "so they stay where they are: its response does not depend on the parameters there, or all features of the "
            "objectives are dead. A start of more contrast (std) may help, and so may Settings(redirected_steps=16)",
            FlatResponseWarning,
        )


@jax.jit
def _moved(before: Float[Array, "batch *p"], now: Float[Array, "batch *p"]) -> Array:
    return jnp.any(before != now)


def _depending(jaxpr: Jaxpr, inputs: list[bool]) -> list[bool]:
    """Tell which results depend on the inputs that are marked, with a derivative."""
    marks: dict[Any, bool] = dict(zip(jaxpr.invars, inputs, strict=True))

    def marked(atom: Any) -> bool:
        return not isinstance(atom, Literal) and marks.get(atom, False)

    for equation in jaxpr.eqns:
        reads = [marked(atom) for atom in equation.invars]
        if equation.primitive.name in _CALLS:
            results = _depending(equation.params["jaxpr"].jaxpr, reads)
        else:
            results = [any(reads) and equation.primitive.name != "stop_gradient"] * len(equation.outvars)
        marks.update(zip(equation.outvars, results, strict=True))
    return [marked(atom) for atom in jaxpr.outvars]
