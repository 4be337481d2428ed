"""A warning where an equal function is passed anew: JAX compiles once per function object, so it compiles again."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any

_KEPT = 64

# Keeping a function keeps what its closure holds, so that an identity in a key cannot come to mean another object.
_known: OrderedDict[Hashable, Callable] = OrderedDict()


class RecompilationWarning(UserWarning):
    """A function that equals an earlier one is another object, so it is compiled again."""


def warn_if_anew(name: str, function: Callable) -> None:
    """Warn if `function` has the code and the closure of one that was passed before, but is another object.

    A `lambda` in a loop does that, and a composition that is made again from the same parts.
    """
    key = _key(function)
    earlier = _known.setdefault(key, function)
    _known.move_to_end(key)
    if len(_known) > _KEPT:
        _known.popitem(last=False)
    if earlier is not function:
        _known[key] = function
        label = getattr(function, "__qualname__", repr(function))
        warnings.warn(
            f"{name} ({label}) equals a function that was passed before, but is another object, so it compiles again; "
            "make it once and pass the same object",
            RecompilationWarning,
            stacklevel=3,
        )


def _key(value: Any) -> Hashable:
    """Return what decides whether two functions are equal: code, defaults and closures, and so on within these."""
    if isinstance(value, FunctionType):
        cells = tuple(_key(cell.cell_contents) for cell in value.__closure__ or ())
        return (value.__code__, tuple(map(_key, value.__defaults__ or ())), cells)
    if isinstance(value, (int, float, str, bytes, type(None))):
        return value
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    return id(value)
