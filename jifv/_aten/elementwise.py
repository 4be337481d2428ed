"""Operations on every entry by itself: arithmetic, comparisons, activation functions."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jifv._aten.tensor import Tensor, elementwise


def _add(x: Any, y: Any, alpha: float = 1) -> Tensor:
    return elementwise(lambda x, y: x + (y if alpha == 1 else alpha * y), x, y)


def _subtract(x: Any, y: Any, alpha: float = 1) -> Tensor:
    return elementwise(lambda x, y: x - (y if alpha == 1 else alpha * y), x, y)


def _subtract_from(x: Any, y: Any, alpha: float = 1) -> Tensor:
    return _subtract(y, x, alpha)


def _divide(x: Any, y: Any, rounding_mode: str | None = None) -> Tensor:
    function = {None: jnp.divide, "floor": jnp.floor_divide, "trunc": lambda x, y: jnp.trunc(x / y)}[rounding_mode]
    return elementwise(function, x, y)


def _power(x: Any, y: Any) -> Tensor:
    special = {2: jnp.square, 0.5: jnp.sqrt, -0.5: lax.rsqrt, 1: lambda x: x}
    # A third of the time of the general power; local response normalization has it.
    special[0.75] = lambda x: jnp.sqrt(x) * jnp.sqrt(jnp.sqrt(x))
    if isinstance(y, (int, float)) and y in special:
        return elementwise(special[y], x)
    return elementwise(jnp.power, x, y)


def _clamp(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    if low is not None:
        x = elementwise(jnp.maximum, x, low)
    return x if high is None else elementwise(jnp.minimum, x, high)


def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    def function(x: Any) -> Any:
        # The exponential of a large number would be infinite, and its gradient NaN although it is not chosen.
        negative = alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale)
        return scale * jnp.where(x > 0, x, negative)

    return elementwise(function, x)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    def exact(x: Any) -> Any:
        return x * (lax.erf(x * math.sqrt(0.5)) + 1) / 2

    return elementwise(partial(jax.nn.gelu, approximate=True) if approximate == "tanh" else exact, x)


def _leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return elementwise(lambda x: jnp.where(x > 0, x, slope * x), x)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return elementwise(lambda x, slope: jnp.where(x > 0, x, slope * x), x, slope)


def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    return elementwise(lambda x: jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta), x)


def _hard_sigmoid(x: Any) -> Any:
    return jnp.minimum(jnp.maximum(x + 3, 0), 6) / 6


def _each(function: Callable) -> Callable:
    """Return an operation of a function of arrays."""
    return partial(elementwise, function)


def _cast(x: Tensor, dtype: Any = None, **unused: Any) -> Tensor:
    return x if dtype is None or x.array.dtype == dtype else Tensor(x.array.astype(dtype), x.order)


def _same(x: Tensor, *unused: Any, **options: Any) -> Tensor:
    return x


ELEMENTWISE: dict[str, Callable] = {
    "_prelu_kernel": _prelu,
    "_to_copy": _cast,
    "abs": _each(jnp.abs),
    "add.Scalar": _add,
    "add.Tensor": _add,
    "alias": _same,
    "bitwise_and.Tensor": _each(jnp.bitwise_and),
    "bitwise_not": _each(jnp.bitwise_not),
    "bitwise_or.Tensor": _each(jnp.bitwise_or),
    "ceil": _each(jnp.ceil),
    "clamp": _clamp,
    "clone": _same,
    "cos": _each(jnp.cos),
    "detach": _same,
    "div.Scalar": _divide,
    "div.Tensor": _divide,
    "div.Tensor_mode": _divide,
    "elu": _elu,
    "eq.Scalar": _each(jnp.equal),
    "eq.Tensor": _each(jnp.equal),
    "erf": _each(lax.erf),
    "exp": _each(jnp.exp),
    "expm1": _each(jnp.expm1),
    "floor": _each(jnp.floor),
    "ge.Scalar": _each(jnp.greater_equal),
    "ge.Tensor": _each(jnp.greater_equal),
    "gelu": _gelu,
    "gt.Scalar": _each(jnp.greater),
    "gt.Tensor": _each(jnp.greater),
    "hardsigmoid": _each(_hard_sigmoid),
    "hardswish": _each(lambda x: x * _hard_sigmoid(x)),
    "hardtanh": partial(_clamp),
    "le.Scalar": _each(jnp.less_equal),
    "le.Tensor": _each(jnp.less_equal),
    "leaky_relu": _leaky_relu,
    "lift_fresh_copy": _same,
    "log": _each(jnp.log),
    "log1p": _each(jnp.log1p),
    "logical_and": _each(jnp.logical_and),
    "logical_not": _each(jnp.logical_not),
    "logical_or": _each(jnp.logical_or),
    "lt.Scalar": _each(jnp.less),
    "lt.Tensor": _each(jnp.less),
    "maximum": _each(jnp.maximum),
    "minimum": _each(jnp.minimum),
    "mul.Scalar": _each(jnp.multiply),
    "mul.Tensor": _each(jnp.multiply),
    "ne.Scalar": _each(jnp.not_equal),
    "ne.Tensor": _each(jnp.not_equal),
    "neg": _each(jnp.negative),
    "pow.Scalar": _power,
    "pow.Tensor_Scalar": _power,
    "pow.Tensor_Tensor": _power,
    "reciprocal": _each(jnp.reciprocal),
    "relu": _each(jax.nn.relu),
    "rsqrt": _each(lax.rsqrt),
    "rsub.Scalar": _subtract_from,
    "sigmoid": _each(jax.nn.sigmoid),
    "sign": _each(jnp.sign),
    "silu": _each(jax.nn.silu),
    "sin": _each(jnp.sin),
    "softplus": _softplus,
    "sqrt": _each(jnp.sqrt),
    "sub.Scalar": _subtract,
    "sub.Tensor": _subtract,
    "tanh": _each(jnp.tanh),
    "where.self": _each(jnp.where),
}
"""By the names of PyTorch's operators."""
