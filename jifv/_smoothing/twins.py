"""Declaring the rounded twin of a function whose gradient is written by hand.

A declared function is called through `jax.jit` under a name of its own. XLA inlines the call; in the jaxpr the name is
what tells the interpreter which function it is in front of, and with which arguments that are no arrays.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.extend.core import JaxprEqn

_Function = TypeVar("_Function", bound=Callable)


class Marked(NamedTuple):
    """A call of a declared function.

    Attributes:
        name: The function's.
        rounded: Its twin, called with widths first.
        whole: Whether the function is one kink.
        tree: Structure of its arguments.
        constants: Leaves of that structure that are no arrays; `_ARRAY` where one is.
        call: The function of the arrays alone, jitted.
    """

    name: str
    rounded: Callable
    whole: bool
    tree: Any
    constants: tuple[Any, ...]
    call: Callable

    def arguments(self, arrays: list[Any]) -> tuple[tuple, dict]:
        """Put arrays into their places among the positional and keyword arguments."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is _ARRAY else leaf for leaf in self.constants]
        return jax.tree.unflatten(self.tree, leaves)

    def round(self, widths: tuple[float, ...], arrays: list[Any]) -> list[Any]:
        """Evaluate the twin, and flatten its results."""
        args, kwargs = self.arguments(arrays)
        result = self.rounded(widths[0] if self.whole else widths, *args, **kwargs)
        found, expected = (jax.tree.map(jax.typeof, tree) for tree in (result, jax.eval_shape(self.call, *arrays)))
        if _types(found) != _types(expected):
            raise ValueError(f"the rounded twin of {self.name} must return {expected}, got {found}")
        return jax.tree.leaves(result)


_ARRAY = object()
_marked: dict[str, Marked] = {}


def rounded_by(rounded: Callable, *, whole: bool = False) -> Callable[[_Function], _Function]:
    """Declare `rounded` as the function that `jifv.smooth` substitutes for another one, its twin.

    Needed only where the automatic gradient of the rounded function would be slow, that is, where the function's own is
    written by hand (`jax.custom_vjp`). Decorate after `defvjp`:

        block.defvjp(forward, backward)
        block = rounded_by(rounded_block)(block)

    Args:
        rounded: Called as `rounded(widths, *args, **kwargs)`, with what the function is called with, for results of
            the same shapes and types. `widths` is a tuple of floats, one for each kink in the function's body in the
            order of computation; a kink that has no width, because its operand was 0 throughout the calibration, has a
            tiny one. It has to converge to the function as they go to 0, and should have no kinks itself.
        whole: Whether the function is one kink. Then `rounded` gets one float instead of a tuple, and that width is
            measured on the function's first array.

    Returns:
        A decorator. The decorated function computes what it did, under `jax.jit`: arguments that are no arrays have to
        be hashable.
    """

    def decorate(function: _Function) -> _Function:
        calls: dict[Any, Marked] = {}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            leaves, tree = jax.tree.flatten((args, kwargs))
            arrays = [leaf for leaf in leaves if isinstance(leaf, (jax.Array, np.ndarray))]
            constants = tuple(_ARRAY if isinstance(leaf, (jax.Array, np.ndarray)) else leaf for leaf in leaves)
            key = tree, tuple((type(leaf), leaf) for leaf in constants)
            if key not in calls:
                calls[key] = _mark(function, rounded, whole, tree, constants)
            return calls[key].call(*arrays)

        return call  # pyright: ignore[reportReturnType]

    return decorate


def _mark(function: Any, rounded: Callable, whole: bool, tree: Any, constants: tuple[Any, ...]) -> Marked:
    # Of the module too, and the same in each process: names are part of the key of compiled programs.
    said = [leaf for leaf in constants if leaf is not _ARRAY]
    label = f"{function.__module__}.{getattr(function, '__qualname__', function.__name__)} {tree} {said}"
    name = f"{function.__name__}_kinked_{zlib.crc32(label.encode()):08x}"
    while name in _marked:
        name += "_"
    marked = Marked(function.__name__, rounded, whole, tree, constants, call=lambda: None)

    def flat(*arrays: Any) -> Any:
        args, kwargs = marked.arguments(list(arrays))
        return function(*args, **kwargs)

    flat.__name__ = flat.__qualname__ = name
    _marked[name] = marked._replace(call=jax.jit(flat))
    return _marked[name]


def marked(equation: JaxprEqn) -> Marked | None:
    """Find the declared function that an equation calls; None for any other, and for a transformation of one."""
    found = _marked.get(equation.params.get("name", ""))
    if found is None:
        return None
    # `vmap` and `grad` leave the name, and put another function in its place.
    try:
        (original,) = jax.make_jaxpr(found.call)(*(atom.aval for atom in equation.invars)).eqns
    except Exception:
        return None  # whatever the function says to shapes that it was not made for
    same = _outline(original.params["jaxpr"]) == _outline(equation.params["jaxpr"])
    return found if same else None


def _outline(closed: Any) -> tuple:
    jaxpr = closed.jaxpr
    avals = [(atom.aval.shape, atom.aval.dtype) for atom in (*jaxpr.invars, *jaxpr.outvars)]
    names = [equation.primitive.name for equation in jaxpr.eqns]
    # Of these there are more for weak types and inside of `shard_map`.
    return avals, [name for name in names if name not in ("convert_element_type", "pvary", "pcast")]


def _types(tree: Any) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
