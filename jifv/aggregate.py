"""Aggregations A: map the activations of a layer, of shape (h, w, n), to one value per feature, of shape (n,).

Every function takes one sample; use `jax.vmap` for a batch.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jifv._core.check import check_array, check_floats, check_positive
from jifv._smoothing.twins import rounded_by

Aggregation: TypeAlias = Callable[[Float[Array, "..."]], Float[Array, " n"]]


def max_mean(window: int = 3, stride: int = 2) -> Aggregation:
    """Max-pool over positions without padding, then average what is left. The default of the method.

    Args:
        window: Side of the square window.
        stride: Step of the window in both directions. Positions that no whole window reaches are ignored.

    Returns:
        The aggregation. Where the maximum is attained more than once its gradient is shared.

    Raises:
        TypeError: `window` or `stride` is not an integer; later, activations are no floats.
        ValueError: `window` or `stride` is not positive; later, activations are not of shape (h, w, n) or the window
            does not fit them.
    """
    check_positive("window", window)
    check_positive("stride", stride)

    def aggregate(activations: Float[Array, "h w n"]) -> Float[Array, " n"]:
        _check_positions(activations)
        if min(activations.shape[:2]) < window:
            raise ValueError(f"window must fit the layer, got {window} for {activations.shape[:2]} positions")
        return jnp.mean(_pool(activations, window, stride), axis=(0, 1))

    return aggregate


def _smooth_pool(width, activations, window, stride):
    # One axis after the other is the same as both at once, because the mean of means is the mean.
    for axis in (0, 1):
        exponents = jnp.stack(_shifted(activations, axis, window, stride)) / width
        activations = width * (jax.nn.logsumexp(exponents, axis=0) - math.log(window))
    return activations


@rounded_by(_smooth_pool, whole=True)
def _pool(activations, window, stride):
    for axis in (0, 1):
        activations = reduce(jnp.maximum, _shifted(activations, axis, window, stride))
    return activations


def _shifted(activations, axis, window, stride):
    # A maximum of shifted slices, one axis at a time, instead of `lax.reduce_window`, whose gradient
    # (select-and-scatter) is 5 to 25 times slower on CPUs.
    last = (activations.shape[axis] - window) // stride * stride + 1
    return [lax.slice_in_dim(activations, i, i + last, stride, axis) for i in range(window)]


def mean(activations: Float[Array, "h w n"]) -> Float[Array, " n"]:
    """Average over all positions.

    Raises:
        TypeError: `activations` does not hold floats.
        ValueError: `activations` is not of shape (h, w, n).
    """
    _check_positions(activations)
    return jnp.mean(activations, axis=(0, 1))


def pick(activations: Float[Array, "h w n"]) -> Float[Array, " n"]:
    """Take the value at the centre, position (h // 2, w // 2).

    Raises:
        TypeError: `activations` does not hold floats.
        ValueError: `activations` is not of shape (h, w, n).
    """
    _check_positions(activations)
    height, width, _ = activations.shape
    return activations[height // 2, width // 2]


def identity(activations: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the activations themselves, for a layer without positions such as class scores.

    Raises:
        TypeError: `activations` does not hold floats.
        ValueError: `activations` is not of shape (n,).
    """
    check_array("activations", activations)
    if activations.ndim != 1 or activations.size == 0:
        raise ValueError(f"activations must have shape (n,), got {activations.shape}")
    check_floats("activations", activations)
    return activations


def first(count: int, aggregation: Aggregation) -> Aggregation:
    """Restrict `aggregation` to the first `count` features (channels); the others are never aggregated.

    Raises:
        TypeError: `count` is not an integer.
        ValueError: `count` is not positive; later, it exceeds the number of features.
    """
    check_positive("count", count)

    def aggregate(activations: Float[Array, "*positions n"]) -> Float[Array, " count"]:
        check_array("activations", activations)
        if activations.ndim == 0 or activations.shape[-1] < count:
            raise ValueError(f"count must not exceed the features, got {count} for shape {activations.shape}")
        return aggregation(activations[..., :count])

    return aggregate


def _check_positions(activations: Array) -> None:
    check_array("activations", activations)
    if activations.ndim != 3 or activations.size == 0:
        raise ValueError(f"activations must have shape (h, w, n), got {activations.shape}")
    check_floats("activations", activations)
