"""Evaluating a program, whatever becomes of its kinks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import jax.core
import jax.numpy as jnp
from jax import lax

from jifv._smoothing.program import Atom, Kink, Node, Program, bind, value_of


class Measured(NamedTuple):
    """Statistics of the values that reach a kink.

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
        """Measure the entries of one kink."""
        total, count = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
        for entry in entries:
            finite = ~jnp.isinf(entry)
            wide = jnp.where(finite, entry, 0).astype(jnp.promote_types(entry.dtype, jnp.float32))
            total, count = total + jnp.sum(jnp.square(wide)), count + jnp.sum(finite, dtype=jnp.float32)
        largest = [jnp.max(jnp.abs(jnp.asarray(each, jnp.float32)), initial=0) for each in (jump, turn, slope)]
        return cls(total.astype(jnp.float32), count, *largest)

    def over(self, axis: int = 0) -> "Measured":
        """Merge measurements along an axis."""
        largest = (each.max(axis, initial=0) for each in self[2:])
        return Measured(self.squares.sum(axis), self.count.sum(axis), *largest)

    def join(self, other: "Measured") -> "Measured":
        """Merge two measurements."""
        largest = (jnp.maximum(*pair) for pair in zip(self[2:], other[2:], strict=True))
        return Measured(self.squares + other.squares, self.count + other.count, *largest)


class Machine:
    """Common part of both evaluations.

    A loop's body is evaluated inside of `measuring`, and what that collects is a result of the loop: the interpreter is
    traced as any function, and leaves nothing traced behind.
    """

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
        """Evaluate both cases of a `select_n` at its bound: values and slopes, the case below the bound first."""
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
        """Evaluate an equation on the way from the operand of a `select_n` to its cases."""
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
        """Collect what is measured inside the `with` block. Rounding measures nothing."""
        yield {}

    def add(self, found: dict[int, Measured]) -> None:
        """Record what was measured inside a loop."""


def as_it_is(node: Node, kink: Kink, read: Callable[[Atom], Any]) -> list[Any]:
    """Evaluate a kink without rounding; a chain of maxima as one maximum of all its entries."""
    if kink.several:
        pick = jnp.maximum if kink.kind.startswith("max") else jnp.minimum
        return [reduce(pick, map(read, kink.operands))]
    return bind(node.equation, [read(atom) for atom in node.inputs])
