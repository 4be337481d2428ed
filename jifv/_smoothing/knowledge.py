"""What is known of values without computing them: signs, numbers, whether they depend on the input."""

import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jifv._smoothing.program import Atom, Facts, Node, facts_of

_NONNEGATIVE = frozenset({"abs", "cosh", "exp", "exp2", "logistic", "rsqrt", "sqrt", "square"})
# fmt: off
_KEEPS = frozenset({
    "add", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "div", "dynamic_slice", "expm1",
    "gather", "log1p", "max", "min", "mul", "pad", "pow", "reduce_max", "reduce_min", "reduce_sum", "reduce_window_sum",
    "reshape", "rev", "slice", "squeeze", "stop_gradient", "transpose",
})
# fmt: on
"""Primitives whose results are >= 0 for operands that are."""
_THROUGH = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "pcast", "pvary", "reshape", "squeeze"})
"""Primitives that change nothing but shape or type."""
_FOLDED = {"add": operator.add, "div": operator.truediv, "mul": operator.mul, "sub": operator.sub}


class Knowledge:
    """Facts about all values of a function's programs. Values are numbered in order of appearance.

    Attributes:
        facts: What is known of each.
        makers: The equation that each is from.
    """

    def __init__(self) -> None:
        self.facts: dict[int, Facts] = {}
        self.makers: dict[int, Node] = {}

    def new(self, facts: Facts) -> int:
        """Register a new value and return its number."""
        self.facts[len(self.facts)] = facts
        return len(self.facts) - 1

    def of(self, atoms: Sequence[Atom]) -> list[Facts]:
        """Look up the facts about several values."""
        return [facts_of(atom, self.facts) for atom in atoms]

    def infer(self, equation: JaxprEqn, inputs: tuple[Atom, ...], dtype: Any) -> Facts:
        """Infer the facts about a result from those about the operands."""
        name, facts = equation.primitive.name, self.of(inputs)
        active = any(fact.active for fact in facts) and jnp.issubdtype(dtype, jnp.inexact) and name != "stop_gradient"
        signs = [fact.nonnegative for fact in facts]
        nonnegative = (
            name in _NONNEGATIVE
            or (name in _KEEPS and all(signs))
            or (name == "max" and any(signs))
            or (name == "select_n" and all(signs[1:]))
            or (name == "integer_pow" and (equation.params["y"] % 2 == 0 or all(signs)))
            or (name == "mul" and inputs[0] == inputs[1])
            or (name == "sub" and self._is_variance(*inputs))
        )
        number = _folded(name, [fact.number for fact in facts]) if jnp.issubdtype(dtype, jnp.floating) else None
        nonnegative = nonnegative and _is_real(dtype) if number is None else not number < 0
        return Facts(any(fact.depends for fact in facts), active, nonnegative, number)

    def _is_variance(self, left: Atom, right: Atom) -> bool:
        """Tell whether a difference is mean(x²) − mean(x)², the variance in normalizations."""
        squared, mean = self._averaged(left), self._squared(right)
        x = None if squared is None else self._squared(squared)
        return x is not None and mean is not None and self._averaged(mean) == x

    def _averaged(self, atom: Atom) -> Atom | None:
        """Return x if `atom` is a mean of x: a sum over axes, divided or multiplied by a constant."""
        while (maker := self._maker(atom)) is not None and maker.name in _THROUGH | {"reduce_sum", "div", "mul"}:
            depending = [each for each in maker.inputs if facts_of(each, self.facts).depends]
            if len(depending) != 1:
                return None
            (atom,) = depending
            if maker.name == "reduce_sum":
                return atom
        return None

    def _squared(self, atom: Atom) -> Atom | None:
        """Return x if `atom` is x²."""
        while (maker := self._maker(atom)) is not None and maker.name in _THROUGH:
            atom = maker.inputs[0]
        if maker is None:
            return None
        square = maker.name == "square" or (maker.name == "integer_pow" and maker.equation.params["y"] == 2)
        return maker.inputs[0] if square or (maker.name == "mul" and maker.inputs[0] == maker.inputs[1]) else None

    def _maker(self, atom: Atom) -> Node | None:
        return self.makers.get(atom) if isinstance(atom, int) else None


def joined(facts: Sequence[Facts]) -> Facts:
    """Combine facts: keep what holds for every one of several values."""
    depends, active, nonnegative, numbers = zip(*facts, strict=True)
    number = numbers[0] if len(set(numbers)) == 1 else None
    return Facts(any(depends), any(active), all(nonnegative), number)


def _folded(name: str, numbers: Sequence[float | None]) -> float | None:
    """Evaluate an operation on known numbers; None if it is not one of the few that matter."""
    if None in numbers or (name == "div" and numbers[1] == 0):
        return None
    if name in _THROUGH and len(numbers) == 1:
        return numbers[0]
    return _FOLDED[name](*numbers) if name in _FOLDED else None


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
