"""Checks of arguments, raised before anything is compiled.

Shapes are known while tracing, values are not: a check of values is skipped for an array being traced.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike

_BEYOND = 1e-3
"""How far rounding may take values beyond their range."""


def concrete(x: Any) -> bool:
    """Tell whether `x` has values, that is, is not being traced by `jit`, `vmap` or `grad`."""
    return not isinstance(x, Tracer)


def check_range(name: str, x: Any, low: float, high: float, remedy: str) -> None:
    """Raise if values are beyond [low, high] by more than resampling or a matrix of colours rounds.

    Sees through `vmap` and `grad` outside of `jit`, as far as JAX's tracers show what is inside; else it does nothing.

    Args:
        name: Name of the argument.
        x: An array, perhaps being traced.
        low: Least value.
        high: Largest value.
        remedy: What the message ends with.

    Raises:
        ValueError: A value is outside, or NaN.
    """
    while isinstance(x, Tracer):
        x = getattr(x, "val", getattr(x, "primal", None))
    if isinstance(x, (np.ndarray, jax.Array)) and x.size:
        least, most = np.min(x), np.max(x)  # NaN if any entry is
        if not (least >= low - _BEYOND and most <= high + _BEYOND):
            raise ValueError(f"{name} must have values in [{low}, {high}], got {least:.4g} to {most:.4g}{remedy}")


def check_positive(name: str, value: Any) -> None:
    """Raise unless `value` is a positive integer (Python's or NumPy's; a bool is not one).

    Raises:
        TypeError: `value` is not an integer.
        ValueError: `value` is zero or negative.
    """
    _check_integer(name, value, "a positive integer", least=1)


def check_count(name: str, value: Any) -> None:
    """Raise unless `value` is an integer >= 0, as `check_positive`.

    Raises:
        TypeError: `value` is not an integer.
        ValueError: `value` is negative.
    """
    _check_integer(name, value, "an integer >= 0", least=0)


def check_nonnegative(name: str, value: Any) -> None:
    """Raise unless `value` is one finite real number >= 0.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is negative, infinite, NaN or not a scalar.
    """
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, got shape {np.shape(value)}")
    if not concrete(value):
        return
    try:
        if isinstance(value, str):
            raise TypeError
        number = float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number >= 0, got {value!r}") from None
    if not (np.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be finite and >= 0, got {number}")


def check_fraction(name: str, value: Any, *, below_one: bool = False) -> None:
    """Raise unless `value` is one real number in [0, 1], or in [0, 1) if `below_one`.

    Raises:
        TypeError: `value` is not a real number.
        ValueError: `value` is outside the interval, NaN or not a scalar.
    """
    check_nonnegative(name, value)
    if concrete(value) and (value > 1 or (below_one and value == 1)):
        raise ValueError(f"{name} must be {'below' if below_one else 'at most'} 1, got {value}")


def check_array(name: str, value: Any) -> None:
    """Raise unless `value` is an array of numbers: NumPy's, JAX's, or one being traced.

    Raises:
        TypeError: It is something else, such as a list.
    """
    if not hasattr(value, "dtype") or not hasattr(value, "ndim"):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    if not any(jnp.issubdtype(value.dtype, kind) for kind in (np.number, np.bool_)):
        raise TypeError(f"{name} must be an array of numbers, got {value.dtype}")


def as_array(name: str, value: Any) -> jax.Array:
    """Return JAX's array of an array of numbers; see `check_array`."""
    check_array(name, value)
    # jnp.asarray would compile a program for each shape of NumPy's.
    return jax.device_put(value) if isinstance(value, np.ndarray) else jnp.asarray(value)


def check_floats(name: str, array: Any) -> None:
    """Raise unless an array, also one being traced, holds real floating-point numbers.

    Raises:
        TypeError: It holds integers, truth values, complex numbers or no numbers.
    """
    if not jnp.issubdtype(_dtype(array), jnp.floating):
        raise TypeError(f"{name} must hold real floating-point numbers, got {_dtype(array)}")


def check_real(name: str, array: Any) -> None:
    """Raise unless an array, also one being traced, holds real numbers; integers count as such.

    Raises:
        TypeError: It holds truth values, complex numbers or no numbers.
    """
    if not any(jnp.issubdtype(_dtype(array), kind) for kind in (jnp.floating, jnp.integer)):
        kind = "complex numbers" if jnp.issubdtype(_dtype(array), jnp.complexfloating) else _dtype(array)
        raise TypeError(f"{name} must be real, got {kind}")


def check_objectives(objectives: ArrayLike, features: int) -> None:
    """Raise unless `objectives`, of shape (*batch, n), are finite and nonzero with n = `features`.

    The length of an objective and the signs of its entries are free.

    Raises:
        TypeError: The objectives are complex, or no numbers.
        ValueError: The last axis is not `features`, an entry is NaN or infinite, or an objective is zero.
    """
    shape = np.shape(objectives)
    if not shape or shape[-1] != features:
        raise ValueError(f"objectives must have a last axis of {features} features, got shape {shape}")
    check_real("objectives", objectives)
    if not concrete(objectives):
        return
    # NumPy and not jnp: inside a jit even an operation on a constant gives a tracer.
    values = np.asarray(objectives)
    if not np.isfinite(values).all():
        raise ValueError("objectives must be finite, got NaN or infinite entries")
    if not np.any(values, axis=-1).all():
        raise ValueError("objectives must be nonzero, got one with all entries 0")


def _dtype(array: Any) -> Any:
    return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype


def _check_integer(name: str, value: Any, right: str, *, least: int) -> None:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {right}, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
