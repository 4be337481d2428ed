"""Evaluating a program whose ReLUs redirect the gradient that they would block."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jifv._smoothing.interpreter import as_it_is
from jifv._smoothing.program import Program
from jifv._smoothing.rounding import Rounding

_REDIRECTED = ("max", "min", "clamp", "select")
"""Kinks of one value and its bounds."""


def evaluate(program: Program, widths: Sequence[float | None], *arguments: Any) -> list[Any]:
    """Evaluate a program, rounded where there is a width, with the gradient of its ReLUs redirected.

    A function with a rounded twin is evaluated by its body, with the automatic gradient.
    """
    return _Redirecting(list(program.kinks()), widths).run(program, arguments)


class _Redirecting(Rounding):
    """Evaluates a program whose ReLUs redirect the gradient."""

    def at_kink(self, node, kink, read):
        rounded = super().at_kink if self.widths[kink] is not None else as_it_is
        results = rounded(node, kink, read)
        if node.twin is not None or kink.kind not in _REDIRECTED:
            return results
        x_atom, *bounds = kink.operands[: 3 if kink.kind == "clamp" else 2]
        x, low, high = (jnp.asarray(read(atom)) for atom in (x_atom, bounds[0], bounds[-1]))

        def site(x: Any) -> Any:
            env = {x_atom: x}
            see = lambda atom: env[atom] if isinstance(atom, int) and atom in env else read(atom)  # noqa: E731
            for each in kink.replay:
                if not each.skipped:
                    env.update(zip(each.outputs, super(_Redirecting, self).replay(each, see), strict=True))
            return rounded(node, kink, see)[0]

        slope = jax.jvp(site, (x,), (jnp.ones_like(x),))[1]
        return [redirected(results[0], x, slope, low, high)]

    def at_twin(self, node, values):
        return self.run(node.bodies[0], values)


@jax.custom_vjp
def redirected(
    y: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    slope: Float[Array, "*shape"],
    low: Float[Array, "*#shape"],
    high: Float[Array, "*#shape"],
) -> Float[Array, "*shape"]:
    """Return y, a function of x that is flat below `low` or above `high`; its gradient is a redirected one.

    Where nothing of the gradient g passes on, slope · g = 0 throughout, x gets g itself, but for those entries that it
    would push further away: g > 0 below and g < 0 above, as descent changes x by −g.
    """
    del x, slope, low, high
    return y


def _forward(y, x, slope, low, high):
    return y, (x, slope, low, high)


def _backward(kept, g):
    x, slope, low, high = kept
    blocked = ~jnp.any(slope * g != 0)
    away = ((x < low) & (g > 0)) | ((x > high) & (g < 0))
    further = jnp.where(blocked & ~away, g, 0)
    return g, further, jnp.zeros_like(slope), jnp.zeros_like(low), jnp.zeros_like(high)


redirected.defvjp(_forward, _backward)
