"""A warning where an equal function is passed anew: JAX compiles once per function object, so it compiles again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from types import CellType, FunctionType
from typing import Any

from jifv._core.caller import warn_caller

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
        warn_caller(
            f"{name} ({label}) equals a function that was passed before, but is another object, so it compiles again; "
            "make it once and pass the same object",
            RecompilationWarning,
        )


def _key(value: Any, around: tuple[int, ...] = ()) -> Hashable:
    """Return what decides whether two functions are equal: their code, defaults and closures, and so on within these.

    Of a dataclass that is called like a function, such as a composition, its fields.

    `around` are the functions that this one was found in, in which a recursive function finds itself again.
    """
    if isinstance(value, FunctionType):
        if id(value) in around:
            return around.index(id(value))
        around = (*around, id(value))
        defaults = (*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items()))
        cells = tuple(_key(_content(cell), around) for cell in value.__closure__ or ())
        return (value.__code__, _key(defaults, around), cells)
    # Of dataclasses only those that are hashed by identity: of others JAX finds what it compiled for an equal one.
    if is_dataclass(value) and type(value).__eq__ is object.__eq__ and id(value) not in around:
        parts = (getattr(value, field.name, None) for field in fields(value))
        return (type(value), *(_key(part, (*around, id(value))) for part in parts))
    if isinstance(value, (int, float, str, bytes, type(None))):
        return value
    if isinstance(value, tuple):
        return tuple(_key(item, around) for item in value)
    return id(value)


def _content(cell: CellType) -> Any:
    """Return what a variable of a closure holds; None while it holds nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
