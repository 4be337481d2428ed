"""Whether a hand-written derivative jumps: that of ReLU does, that of softplus or a straight-through estimator not.

A function whose derivative does not jump has no kink, by whatever maxima it may be computed.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jifv._smoothing.program import CALLS, ORDERS, REMATS, RULES, bind, inside

_STEPS = ORDERS | {"sign", "floor", "ceil", "round", "argmax", "argmin", "sort", "top_k", "rem"}


def derivative_jumps(equation: JaxprEqn, active: Sequence[bool]) -> bool:
    """Tell from its jaxpr whether the derivative of a `custom_jvp` or `custom_vjp` function jumps.

    Args:
        equation: The call.
        active: For each argument, whether it is differentiated with respect to it.
    """
    arguments, results = ([atom.aval for atom in atoms] for atoms in (equation.invars, equation.outvars))
    chosen = [index for index, (use, aval) in enumerate(zip(active, arguments, strict=True)) if use and _is_float(aval)]

    def of_chosen(arguments: list[Any]) -> Any:
        def function(*some: Any) -> list[Any]:
            filled = list(arguments)
            for index, value in zip(chosen, some, strict=True):
                filled[index] = value
            return [result for result in bind(equation, filled) if _is_float(result)]

        return function

    def derivative(arguments: list[Any], directions: list[Any]) -> Any:
        some = [arguments[index] for index in chosen]
        if equation.primitive.name == "custom_jvp_call":
            return jax.jvp(of_chosen(arguments), some, directions)[1]
        return jax.vjp(of_chosen(arguments), *some)[1](directions)

    if equation.primitive.name == "custom_jvp_call":
        directions = [arguments[index] for index in chosen]
    else:
        directions = [aval for aval in results if _is_float(aval)]
    traced = jax.make_jaxpr(derivative)(arguments, directions)
    depends = [*active, *[False] * len(directions)]
    return any(jumps for _, jumps in _follow(traced, [(each, False) for each in depends]))


def _follow(closed: ClosedJaxpr, inputs: Sequence[tuple[bool, bool]]) -> list[tuple[bool, bool]]:
    """Find for each result whether it depends on the input, and whether it jumps."""
    nothing = (False, False)
    env = dict.fromkeys(closed.jaxpr.constvars, nothing) | dict(zip(closed.jaxpr.invars, inputs, strict=True))
    read = lambda atom: nothing if isinstance(atom, Literal) else env[atom]  # noqa: E731
    for equation in closed.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        depends, jumps = any(each for each, _ in operands), any(each for _, each in operands)
        if name in CALLS | RULES | REMATS and len(bodies := inside(equation)) == 1:
            results = _follow(bodies[0], operands)
        else:
            if name in ("eq", "ne"):
                # A value compared with itself is a search for NaN, and with a constant one for infinity.
                left, right = equation.invars
                jumps |= left is not right and all(each for each, _ in operands)
            elif depends:
                jumps |= name in _STEPS or any(_mentions_a_step(body) for body in inside(equation))
            results = [(depends, jumps)] * len(equation.outvars)
        env.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _mentions_a_step(closed: ClosedJaxpr) -> bool:
    return any(
        equation.primitive.name in _STEPS or any(_mentions_a_step(body) for body in inside(equation))
        for equation in closed.jaxpr.eqns
    )


def _is_float(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating)
