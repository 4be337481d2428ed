"""Evaluating a program as it is, and measuring what meets its kinks."""

from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp

from jifv._smoothing.interpreter import Machine, Measured, as_it_is
from jifv._smoothing.program import Kink, Program, bind


def measure(program: Program, *arguments: Any) -> tuple[list[Any], list[Measured]]:
    """Evaluate a program as it is.

    Returns:
        Its results, and a measurement for each of its kinks, in their order.
    """
    machine = _Measuring(list(program.kinks()))
    results = machine.run(program, arguments)
    return results, [machine.found[number] for number in range(len(machine.numbers))]


class _Measuring(Machine):
    """Evaluates a program as it is. Measures both branches of a condition, whichever is taken."""

    def __init__(self, kinks: list[Kink]) -> None:
        self.numbers = {kink: number for number, kink in enumerate(kinks)}
        self.found: dict[int, Measured] = {}

    def at_kink(self, node, kink, read):
        meeting = ()
        if kink.kind == "select":
            (low, high), (slope_low, slope_high) = self.cases(kink, read)
            slope = jnp.maximum(jnp.abs(slope_low), jnp.abs(slope_high))
            meeting = high - low, slope_high - slope_low, slope
        entries = kink.operands if kink.several else kink.operands[:1]
        self.add({self.numbers[kink]: Measured.of([read(atom) for atom in entries], *meeting)})
        return as_it_is(node, kink, read)

    def at_twin(self, node, values):
        return self.run(node.bodies[0], values)

    def branches(self, node, values):
        for body in node.bodies:
            self.run(body, values[1:])
        return bind(node.equation, values)

    def remat(self, node, values):
        return self.run(node.bodies[0], values)

    @contextmanager
    def measuring(self):
        outside, self.found = self.found, {}
        try:
            yield self.found
        finally:
            self.found = outside

    def add(self, found):
        for number, each in found.items():
            self.found[number] = self.found[number].join(each) if number in self.found else each
