"""Programs: jaxprs without calls, whose values are numbered and whose equations know the kink that they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, JaxprEqn, Literal

Atom: TypeAlias = int | Literal | float
"""A value: its index among all values, or the constant that it is."""

CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "custom_vmap_call"})
RULES = frozenset({"custom_jvp_call", "custom_vjp_call"})
REMATS = frozenset({"remat", "remat2", "checkpoint"})
CONTROL = frozenset({"scan", "while", "cond"}) | REMATS
ORDERS = frozenset({"lt", "le", "gt", "ge"})
MAXIMA = frozenset({"max", "min", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min"})
WITHOUT_ROUNDED = {
    **dict.fromkeys(
        ("sign", "floor", "ceil", "round", "rem", "nextafter", "argmax", "argmin"), "it is a step function"
    ),
    **dict.fromkeys(("sort", "top_k", "approx_top_k", "cummax", "cummin", "scatter_max", "scatter_min"), "it orders"),
    **dict.fromkeys(("pmax", "pmin", "reduce_precision"), "it has no rounded version"),
    **dict.fromkeys(("select_and_scatter_add", "select_and_gather_add"), "it is the gradient of a maximum"),
}
"""Primitives that are not smooth and that nobody rounds, with the reason that the report gives."""
CANDIDATES = MAXIMA | WITHOUT_ROUNDED.keys() | {"clamp", "abs", "select_n", "reduce_window", "reduce"} | ORDERS
# fmt: off
ELEMENTWISE = ORDERS | {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "clamp",
    "convert_element_type", "copy", "cos", "cosh", "div", "eq", "erf", "erfc", "exp", "exp2", "expm1", "integer_pow",
    "is_finite", "log", "log1p", "logistic", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "rsqrt", "select_n",
    "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh",
}
# fmt: on
"""Primitives of which an entry depends on the same entry of their operands only."""


class Facts(NamedTuple):
    """What is known of a value without computing it.

    Attributes:
        depends: Whether it depends on the function's input.
        active: Whether it has a derivative with respect to it, as far as `stop_gradient` and types tell.
        nonnegative: Whether it is >= 0 whatever the input is.
        number: The one number that all its entries are known to be.
    """

    depends: bool = False
    active: bool = False
    nonnegative: bool = False
    number: float | None = None


@dataclass(eq=False)
class Kink:
    """A place where the derivative jumps.

    Attributes:
        kind: As the report has it.
        shape: Of the operand whose size the width is relative to.
        source: Line of the function that it is in.
        operands: The values it combines: entries of a maximum, or operand and bound.
        guard: The bound, if the operand is nonnegative by construction: a small one only keeps a division finite.
        chosen: Of a `select_n`, the index of the case where the operand is above the bound.
        replay: The equations of a `select_n` from its operand to its cases.
    """

    kind: str
    shape: tuple[int, ...]
    source: str
    operands: tuple[Atom, ...]
    guard: float | None = None
    chosen: int = 0
    replay: "tuple[Node, ...]" = ()

    @property
    def several(self) -> bool:
        """Whether it is the largest or smallest of several arrays."""
        return self.kind.endswith(" of several")


@dataclass(eq=False)
class Node:
    """An equation.

    Attributes:
        equation: As JAX traced it.
        inputs: Its operands.
        outputs: Numbers of its results.
        bodies: Programs of a loop, of branches, of what is rematerialized, or of a function with a rounded twin.
        twin: That twin, see `twins.Marked`.
        kink: What is to be rounded here.
        skipped: Whether nobody needs the results, or a later node computes them as well.
        remarks: What the report is to say of it, if it matters.
        callers: The calls that it was inside of, from the innermost outwards.
    """

    equation: JaxprEqn
    inputs: tuple[Atom, ...]
    outputs: tuple[int, ...]
    bodies: "tuple[Program, ...]" = ()
    twin: Any = None
    kink: Kink | None = None
    skipped: bool = False
    remarks: "tuple[Note, ...]" = ()
    callers: tuple[JaxprEqn, ...] = ()

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name

    @property
    def source(self) -> str:
        """Line of the user's code that it comes from."""
        return source_of((self.equation, *self.callers))

    @property
    def read(self) -> list[int]:
        """Operands that are not constants."""
        return [atom for atom in self.inputs if isinstance(atom, int)]


class Note(NamedTuple):
    """A line of the report about something that is not rounded."""

    kind: str
    shape: tuple[int, ...]
    reason: str
    source: str


@dataclass(eq=False)
class Program:
    """Equations in their order, with what goes in and comes out.

    Attributes:
        inputs: Numbers of the arguments.
        constants: Values that are known, by their number.
        nodes: The equations.
        outputs: The results.
        facts: What is known of each value, of other programs' too.
        notes: What is not smooth and not rounded.
    """

    inputs: tuple[int, ...]
    constants: dict[int, Any]
    nodes: list[Node]
    outputs: tuple[Atom, ...]
    facts: dict[int, Facts]
    notes: "list[Note]" = field(default_factory=list)

    def kinks(self) -> Iterator[Kink]:
        """Iterate over all kinks in the order of computation, including those of nested programs."""
        for node in self.nodes:
            if node.kink is not None:
                yield node.kink
            for body in node.bodies:
                yield from body.kinks()

    def all_notes(self) -> Iterator[Note]:
        """Iterate over all notes, including those of nested programs."""
        yield from self.notes
        for node in self.nodes:
            for body in node.bodies:
                yield from body.all_notes()


def facts_of(atom: Atom, facts: dict[int, Facts]) -> Facts:
    """Look up the facts about a value."""
    if isinstance(atom, Literal):
        return known(atom.val)
    return facts[atom] if isinstance(atom, int) else known(atom)


def known(value: Any) -> Facts:
    """Determine the facts about a constant. Only scalars are read, because arrays are on a device."""
    if np.size(value) != 1 or not isinstance(value, (bool, int, float, np.generic, np.ndarray, jax.Array)):
        return Facts()
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return Facts()
    number = np.asarray(value).item()
    if isinstance(number, complex):
        return Facts()
    return Facts(nonnegative=not number < 0, number=float(number))  # NaN is not negative


def value_of(literal: Literal | float) -> Any:
    """Return a constant in its own type.

    It may have been the argument of a call that is inlined now, and would take the type of its neighbours there.
    """
    if not isinstance(literal, Literal):
        return literal
    aval: Any = literal.aval
    value = literal.val
    if isinstance(value, (bool, int, float, complex)) and not getattr(aval, "weak_type", False):
        return np.asarray(value, aval.dtype)
    return value


def closed(jaxpr: Any) -> ClosedJaxpr:
    """Close a jaxpr: an open one has no constants."""
    return jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, ())


def inside(equation: JaxprEqn) -> list[ClosedJaxpr]:
    """List all jaxprs among the parameters of an equation."""
    found = []
    for value in equation.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns"):
                found.append(closed(part))
    return found


def may_have_kinks(jaxpr: ClosedJaxpr, known: dict[int, bool]) -> bool:
    """Tell whether a jaxpr contains a primitive that may be a kink, at any depth; `known` caches the answers."""
    key = id(jaxpr.jaxpr)
    if key not in known:
        known[key] = any(
            equation.primitive.name in CANDIDATES or any(may_have_kinks(each, known) for each in inside(equation))
            for equation in jaxpr.jaxpr.eqns
        )
    return known[key]


_DEBUG_INFO = DebugInfo("smooth", "an equation", None, None)


def bind(equation: JaxprEqn, values: list[Any]) -> list[Any]:
    """Evaluate one equation as JAX would. Where it has literals, `values` repeats them."""
    variables = [atom for atom in equation.invars if not isinstance(atom, Literal)]
    arguments = [value for atom, value in zip(equation.invars, values, strict=True) if not isinstance(atom, Literal)]
    # `jax.core.eval_jaxpr` is the public way to bind a primitive with the equation's context and place in the source.
    # How parameters such as those of custom_vjp are turned into arguments of `bind` changes from version to version.
    single = Jaxpr((), variables, equation.outvars, [equation], equation.effects, _DEBUG_INFO)
    return jax.core.eval_jaxpr(single, (), *arguments)


def source_of(equations: Iterable[JaxprEqn]) -> str:
    """Find the line of the user's code that an equation comes from.

    Args:
        equations: The equation, followed by the calls around it from the inside out, for equations that come from JAX
            itself or from a framework.
    """
    for equation in equations:
        frames = source_info_util.summarize(equation.source_info, _FRAMES).split("\n")
        for frame in reversed(frames):
            if frame and not any(part in frame for part in _WRAPPERS):
                return frame
    return ""


_FRAMES = 8
_WRAPPERS = (f"{Path(__file__).parent}", "/jaxtyping/", "<@beartype")
"""What wraps functions: this package's calls of declared ones, and checks of types."""
