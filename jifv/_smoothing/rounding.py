"""Evaluating a program with its kinks rounded."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from jifv._smoothing import rounded
from jifv._smoothing.interpreter import Machine, as_it_is
from jifv._smoothing.program import Atom, Kink, Program

TINY = 1e-12
"""What the rounded twin of a function gets for a kink without a width."""


def evaluate(program: Program, widths: Sequence[float | None], *arguments: Any) -> list[Any]:
    """Evaluate a program with its kinks rounded, except those whose width is None."""
    return Rounding(list(program.kinks()), widths).run(program, arguments)


class Rounding(Machine):
    """Evaluates a program with its kinks rounded, except those whose width is None."""

    def __init__(self, kinks: list[Kink], widths: Sequence[float | None]):
        self.widths = dict(zip(kinks, widths, strict=True))

    def at_kink(self, node, kink, read):
        width = self.widths[kink]
        if node.twin is not None:
            return node.twin.round((TINY if width is None else width,), [read(atom) for atom in node.inputs])
        if width is None:
            return as_it_is(node, kink, read)
        operands = [read(atom) for atom in kink.operands]
        if kink.several:
            return [_mirrored(kink, rounded.largest, operands, width)]
        if kink.kind == "select":
            return [self.select(kink, read, width)]
        return [_ROUNDED[kink.kind](kink, node.equation.params, operands, width)]

    def select(self, kink: Kink, read: Callable[[Atom], Any], width: float) -> Any:
        """Round a `select_n`: take the chosen case, and the jump of the slope out by a bend."""
        x, bound, which, *cases = (read(atom) for atom in kink.operands)
        (low, high), (slope_low, slope_high) = self.cases(kink, read)
        # Rounding what comes before has moved the cases apart at the bound.
        cases[kink.chosen] -= high - low
        positive = which if kink.chosen == 1 else ~which
        return lax.select_n(which, *cases) + (slope_high - slope_low) * rounded.bend(x - bound, positive, width)

    def replay(self, node, read):
        if node.kink is not None:
            return self.at_kink(node, node.kink, read)
        return super().replay(node, read)

    def at_twin(self, node, values):
        widths = tuple(self.widths[kink] or TINY for kink in node.bodies[0].kinks())
        return node.twin.round(widths, values)

    def branches(self, node, values):
        index, *operands = values
        functions = [lambda *args, body=body: self.run(body, args) for body in node.bodies]
        return lax.switch(index, functions, *operands)

    def remat(self, node, values):
        params = node.equation.params
        function = jax.checkpoint(
            lambda *args: self.run(node.bodies[0], args), prevent_cse=params["prevent_cse"], policy=params["policy"]
        )
        return function(*values)


def _mirrored(kink: Kink, function: Callable, operands: Any, *options: Any) -> Any:
    """Apply the rounded maximum; for a minimum, to the negated operands, and negate the result."""
    if "max" in kink.kind:
        return function(operands, *options)
    return -function([-each for each in operands] if isinstance(operands, list) else -operands, *options)


def _in_windows(kink: Kink, params: dict[str, Any], operands: list[Any], width: float) -> Any:
    x, *start = operands
    result = _mirrored(kink, rounded.largest_in_windows, x, params, width)
    return _with_start(kink, result, start, width)


def _along(kink: Kink, params: dict[str, Any], operands: list[Any], width: float) -> Any:
    x, *start = operands
    axes = params["axes"] if "axes" in params else params["dimensions"]
    return _with_start(kink, _mirrored(kink, rounded.largest_along, x, tuple(map(int, axes)), width), start, width)


def _with_start(kink: Kink, result: Any, start: list[Any], width: float) -> Any:
    """Compare the result with the initial value that a user's own reduction begins with, if there is one."""
    for bound in start:
        result = (rounded.above if "max" in kink.kind else rounded.below)(result, bound, width)
    return result


def _bounded(function: Callable) -> Callable:
    return lambda kink, params, operands, width: function(*operands, width)


_ROUNDED: dict[str, Callable[[Kink, dict[str, Any], list[Any], float], Any]] = {
    "max": _bounded(rounded.above),
    "min": _bounded(rounded.below),
    "clamp": _bounded(rounded.between),
    "abs": _bounded(rounded.absolute),
    "reduce_max": _along,
    "reduce_min": _along,
    "reduce_window_max": _in_windows,
    "reduce_window_min": _in_windows,
}
