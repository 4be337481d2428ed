"""Evaluating a program: with its kinks rounded, or as it is while what meets the kinks is measured."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jifv._smoothing import rounded
from jifv._smoothing.program import Atom, Kink, Node, Program, bind, value_of

TINY = 1e-12
"""What the rounded twin of a function gets for a kink without a width."""


class Measured(NamedTuple):
    """What met a kink.

    Attributes:
        squares: Sum of the squares of the operand's entries that are not infinite.
        count: Number of these.
        jump: Of a `select_n`, the largest distance of its cases at the bound.
        turn: The largest difference of their slopes there.
        slope: The largest slope.
    """

    squares: Any
    count: Any
    jump: Any
    turn: Any
    slope: Any

    @classmethod
    def of(cls, entries: Sequence[Any], jump: Any = 0.0, turn: Any = 0.0, slope: Any = 0.0) -> "Measured":
        """Of the entries of one kink."""
        total, count = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
        for entry in entries:
            finite = ~jnp.isinf(entry)
            wide = jnp.where(finite, entry, 0).astype(jnp.promote_types(entry.dtype, jnp.float32))
            total, count = total + jnp.sum(jnp.square(wide)), count + jnp.sum(finite, dtype=jnp.float32)
        largest = [jnp.max(jnp.abs(jnp.asarray(each, jnp.float32)), initial=0) for each in (jump, turn, slope)]
        return cls(total.astype(jnp.float32), count, *largest)

    def over(self, axis: int = 0) -> "Measured":
        """Several measurements, along an axis, as one."""
        largest = (jnp.max(each, axis, initial=0) for each in self[2:])
        return Measured(self.squares.sum(axis), self.count.sum(axis), *largest)

    def join(self, other: "Measured") -> "Measured":
        """Two measurements as one."""
        largest = (jnp.maximum(*pair) for pair in zip(self[2:], other[2:], strict=True))
        return Measured(self.squares + other.squares, self.count + other.count, *largest)


def measure(program: Program, *arguments: Any) -> tuple[list[Any], list[Measured]]:
    """Results of a program as it is, and what meets each of its kinks, in their order."""
    machine = _Measuring(list(program.kinks()))
    results = machine.run(program, arguments)
    return results, [machine.found[number] for number in range(len(machine.numbers))]


def evaluate(program: Program, widths: Sequence[float | None], *arguments: Any) -> list[Any]:
    """Results of a program with its kinks rounded; one whose width is None is left as it is."""
    return _Rounding(list(program.kinks()), widths).run(program, arguments)


class _Machine:
    """What both evaluations share."""

    def run(self, program: Program, arguments: Sequence[Any]) -> list[Any]:
        env: dict[int, Any] = dict(program.constants)
        env.update(zip(program.inputs, arguments, strict=True))

        def read(atom: Atom) -> Any:
            return env[atom] if isinstance(atom, int) else value_of(atom)

        for node in program.nodes:
            if node.skipped:
                continue
            if node.kink is not None:
                env.update(zip(node.outputs, self.at_kink(node, node.kink, read), strict=True))
                continue
            values = [read(atom) for atom in node.inputs]
            if node.twin is not None and node.bodies:
                results = self.at_twin(node, values)
            elif node.bodies:
                results = self.control(node, values)
            else:
                results = bind(node.equation, values)
            env.update(zip(node.outputs, results, strict=True))
        return [read(atom) for atom in program.outputs]

    def control(self, node: Node, values: list[Any]) -> list[Any]:
        params = node.equation.params
        if node.name == "scan":
            return self.scan(node.bodies[0], values, params)
        if node.name == "while":
            return self.loop(node.bodies[0], values, params)
        if node.name == "cond":
            return self.branches(node, values)
        return self.remat(node, values)

    def scan(self, body: Program, values: list[Any], params: dict[str, Any]) -> list[Any]:
        first, last = params["num_consts"], params["num_consts"] + params["num_carry"]

        def step(carry: list[Any], xs: list[Any]) -> Any:
            with self.measuring() as found:
                results = self.run(body, [*values[:first], *carry, *xs])
            return results[: params["num_carry"]], (results[params["num_carry"] :], found)

        options = {name: params[name] for name in ("length", "reverse", "unroll")}
        carry, (stacked, found) = lax.scan(step, values[first:last], values[last:], **options)
        self.add({number: each.over() for number, each in found.items()})
        return [*carry, *stacked]

    def loop(self, body: Program, values: list[Any], params: dict[str, Any]) -> list[Any]:
        first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        goes_on = params["cond_jaxpr"]

        def condition(state: Any) -> Any:
            (result,) = jax.core.eval_jaxpr(goes_on.jaxpr, goes_on.consts, *values[:first], *state[0])
            return result

        def turn(carry: list[Any]) -> Any:
            with self.measuring() as found:
                results = self.run(body, [*values[first:last], *carry])
            return results, found

        def step(state: Any) -> Any:
            carry, found = turn(state[0])
            return carry, {number: state[1][number].join(each) for number, each in found.items()}

        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(turn, values[last:])[1])
        carry, found = lax.while_loop(condition, step, (values[last:], nothing))
        self.add(found)
        return carry

    def cases(self, kink: Kink, read: Callable[[Atom], Any]) -> tuple[list[Any], list[Any]]:
        """Values and slopes of the two cases of a `select_n` at its bound, that below it first."""
        x, bound, _, *cases = kink.operands

        def at(there: Any) -> list[Any]:
            env = {x: there}
            see = lambda atom: env[atom] if isinstance(atom, int) and atom in env else read(atom)  # noqa: E731
            for node in kink.replay:
                if not node.skipped:
                    env.update(zip(node.outputs, self.replay(node, see), strict=True))
            results = [see(case) for case in (cases[1 - kink.chosen], cases[kink.chosen])]
            return [jnp.zeros_like(there) + result for result in results]

        here = read(x)
        there = jnp.zeros_like(here) + jnp.asarray(read(bound), here.dtype)
        return jax.jvp(at, (there,), (jnp.ones_like(there),))

    def replay(self, node: Node, read: Callable[[Atom], Any]) -> list[Any]:
        """Results of an equation on the way from the operand of a `select_n` to its cases."""
        return bind(node.equation, [read(atom) for atom in node.inputs])

    # What the two do differently.

    def at_kink(self, node: Node, kink: Kink, read: Callable[[Atom], Any]) -> list[Any]:
        raise NotImplementedError

    def at_twin(self, node: Node, values: list[Any]) -> list[Any]:
        raise NotImplementedError

    def branches(self, node: Node, values: list[Any]) -> list[Any]:
        raise NotImplementedError

    def remat(self, node: Node, values: list[Any]) -> list[Any]:
        raise NotImplementedError

    @contextmanager
    def measuring(self) -> Iterator[dict[int, Measured]]:
        """Collects what is measured inside; the rounding measures nothing."""
        yield {}

    def add(self, found: dict[int, Measured]) -> None:
        """Takes what was measured inside of a loop."""


class _Measuring(_Machine):
    """The program as it is. Both branches of a condition are measured, whichever is taken."""

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
        return _as_it_is(node, kink, read)

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


class _Rounding(_Machine):
    """The program with its kinks rounded."""

    def __init__(self, kinks: list[Kink], widths: Sequence[float | None]):
        self.widths = dict(zip(kinks, widths, strict=True))

    def at_kink(self, node, kink, read):
        width = self.widths[kink]
        if node.twin is not None:
            return node.twin.round((TINY if width is None else width,), [read(atom) for atom in node.inputs])
        if width is None:
            return _as_it_is(node, kink, read)
        operands = [read(atom) for atom in kink.operands]
        if kink.several:
            return [_mirrored(kink, rounded.largest, operands, width)]
        if kink.kind == "select":
            return [self.select(kink, read, width)]
        return [_ROUNDED[kink.kind](kink, node.equation.params, operands, width)]

    def select(self, kink: Kink, read: Callable[[Atom], Any], width: float) -> Any:
        """The chosen case, with the jump of the slope taken out by a bend."""
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


def _as_it_is(node: Node, kink: Kink, read: Callable[[Atom], Any]) -> list[Any]:
    """The kink unrounded, a chain of maxima by one equation of its own."""
    if kink.several:
        pick = jnp.maximum if kink.kind.startswith("max") else jnp.minimum
        return [reduce(pick, map(read, kink.operands))]
    return bind(node.equation, [read(atom) for atom in node.inputs])


def _mirrored(kink: Kink, function: Callable, operands: Any, *options: Any) -> Any:
    """A function of a maximum, or, for a minimum, of its mirror image."""
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
    """The result, compared with what a reduction with an operation of the user's began with."""
    for bound in start:
        result = (rounded.above if "max" in kink.kind else rounded.below)(result, bound, width)
    return result


_ROUNDED: dict[str, Callable[[Kink, dict[str, Any], list[Any], float], Any]] = {
    "max": lambda kink, params, operands, width: rounded.above(*operands, width),
    "min": lambda kink, params, operands, width: rounded.below(*operands, width),
    "clamp": lambda kink, params, operands, width: rounded.between(*operands, width),
    "abs": lambda kink, params, operands, width: rounded.absolute(*operands, width),
    "reduce_max": _along,
    "reduce_min": _along,
    "reduce_window_max": _in_windows,
    "reduce_window_min": _in_windows,
}
