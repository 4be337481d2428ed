"""Rounded kinks: functions without a jump in the derivative, which converge to the kinked ones as the width goes to 0.

A width is a positive float, in units of the operand. Everything is differentiable in both modes. NaN propagates, and
what is infinite without rounding is infinite with it.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def ramp(x: Float[Array, "*shape"], width: float) -> Float[Array, "*shape"]:
    """Round max(x, 0): 0 up to 0, x² / (2·width) up to `width`, then x − width / 2."""
    return jnp.square(jnp.clip(x, 0, width)) / (2 * width) + jnp.maximum(x - width, 0)


# The automatic derivatives are the same numbers by twice the operations.
@ramp.defjvp
def _ramp_jvp(width, primals, tangents):
    (x,), (dx,) = primals, tangents
    return ramp(x, width), jnp.clip(x / width, 0, 1) * dx


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def cap(x: Float[Array, "*shape"], width: float) -> Float[Array, "*shape"]:
    """Round min(x, 0) to x − `ramp`(x): x up to 0, then x − x² / (2·width) up to `width`, then width / 2."""
    return jnp.minimum(x, width) - jnp.square(jnp.clip(x, 0, width)) / (2 * width)


@cap.defjvp
def _cap_jvp(width, primals, tangents):
    (x,), (dx,) = primals, tangents
    return cap(x, width), (1 - jnp.clip(x / width, 0, 1)) * dx


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def absolute(x: Float[Array, "*shape"], width: float) -> Float[Array, "*shape"]:
    """Round |x| to ramp(x) + ramp(−x): x² / (2·width) up to `width` on either side, then |x| − width / 2."""
    size = jnp.abs(x)
    return jnp.square(jnp.minimum(size, width)) / (2 * width) + jnp.maximum(size - width, 0)


@absolute.defjvp
def _absolute_jvp(width, primals, tangents):
    (x,), (dx,) = primals, tangents
    return absolute(x, width), jnp.clip(x / width, -1, 1) * dx


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def bend(x: Float[Array, "*shape"], positive: Bool[Array, "*shape"], width: float) -> Float[Array, "*shape"]:
    """Compute ramp(x) − max(x, 0), which takes a jump of 1 at x = 0 out of a slope and leaves a shift of −width / 2.

    `positive` marks where the slope after the jump holds; at x = 0 itself that is a matter of convention.
    """
    inside = jnp.clip(x, 0, width)
    return jnp.square(inside) / (2 * width) - jnp.where(positive, inside, 0)


@bend.defjvp
def _bend_jvp(width, primals, tangents):
    (x, positive), (dx, _) = primals, tangents
    return bend(x, positive, width), (jnp.clip(x / width, 0, 1) - positive) * dx


def above(x: Float[Array, "*shape"], bound: Any, width: float) -> Float[Array, "*shape"]:
    """Round max(x, bound) to bound + ramp(x − bound)."""
    return _shifted(ramp, jnp.maximum, x, bound, width)


def below(x: Float[Array, "*shape"], bound: Any, width: float) -> Float[Array, "*shape"]:
    """Round min(x, bound) to bound + cap(x − bound), which exceeds the bound by width / 2.

    The slope changes above the bound, not below it, so that ReLU6 rounds values in [0, 6] exactly as ReLU does.
    """
    return _shifted(cap, jnp.minimum, x, bound, width)


def between(x: Float[Array, "*shape"], low: Any, high: Any, width: float) -> Float[Array, "*shape"]:
    """Round clamp(low, x, high): the rounded maximum with `low`, then the rounded minimum of that with `high`."""
    return below(above(x, low, width), high, width)


def _shifted(rounded: Callable, exact: Callable, x: Any, bound: Any, width: float) -> Any:
    # Where the bound is infinite there is no kink.
    if not isinstance(bound, jax.Array):
        if np.isfinite(bound).all():
            return bound + rounded(x - bound, width) if np.any(bound) else rounded(x, width)
        if np.isinf(bound).all():
            return exact(x, bound)
    finite = jnp.isfinite(bound)
    shift = jnp.where(finite, bound, 0)
    return jnp.where(finite, shift + rounded(x - shift, width), exact(x, bound))


def largest(entries: Sequence[Float[Array, "*shape"]], width: float) -> Float[Array, "*shape"]:
    """Round the maximum of several arrays: width · log(mean(exp(entry / width))) over the entries that are not −∞."""
    return _normalized(*_exponential_sum(entries, width), sum(map(_counted, entries)), width)


def largest_along(x: Float[Array, "..."], axes: tuple[int, ...], width: float) -> Float[Array, "..."]:
    """Round the maximum over axes of one array, as `largest` does, and drop these axes."""
    highest, total = _exponential_sum_along(x, axes, width)
    return _normalized(lax.squeeze(highest, axes), lax.squeeze(total, axes), _counted(x).sum(axes), width)


def largest_in_windows(x: Float[Array, "..."], windows: dict[str, Any], width: float) -> Float[Array, "..."]:
    """Round the maximum in windows, as `largest` does. Windows are those of `lax.reduce_window`, padded with −∞.

    It goes axis by axis over shifted slices: XLA's CPU backend takes many times longer for the gradient of
    `lax.reduce_window`. The counts follow the same path, and the mean is taken at the end.

    Args:
        x: Any number of axes.
        windows: The parameters of the primitive: `window_dimensions`, `window_strides`, `padding`,
            `base_dilation` and `window_dilation`.
        width: The width.
    """
    count = _counted(x)
    axes = zip(
        *(windows[name] for name in ("window_dimensions", "window_strides", "padding", "base_dilation")),
        windows["window_dilation"],
        strict=True,
    )
    for axis, (size, stride, (before, after), spread, dilation) in enumerate(axes):
        if (size, stride, before, after, spread) == (1, 1, 0, 0, 1):
            continue
        sides = [(0, 0, 0)] * x.ndim
        sides[axis] = (before, after, spread - 1)
        x, count = (lax.pad(each, np.asarray(fill, each.dtype), sides) for each, fill in ((x, -np.inf), (count, 0)))
        last = x.shape[axis] - (size - 1) * dilation
        if last == dilation == 1:  # the whole axis, which may be long
            x = _logarithm(*_exponential_sum_along(x, (axis,), width), width)
            count = count.sum(axis, keepdims=True)
            continue
        starts = [dilation * i for i in range(size)]
        entries = [lax.slice_in_dim(x, start, start + last, stride, axis) for start in starts]
        x = _logarithm(*_exponential_sum(entries, width), width) if size > 1 else entries[0]
        count = reduce(jnp.add, [lax.slice_in_dim(count, start, start + last, stride, axis) for start in starts])
    return x - width * jnp.log(jnp.maximum(count, 1))


def _exponential_sum(entries, width):
    """Return the largest entry, and the sum of exp((entry − largest) / width) over all entries."""
    highest = lax.stop_gradient(_finite(reduce(jnp.maximum, entries)))
    return highest, sum(jnp.exp((entry - highest) / width) for entry in entries)


def _exponential_sum_along(x, axes, width):
    highest = lax.stop_gradient(_finite(jnp.max(x, axes, keepdims=True)))
    return highest, jnp.exp((x - highest) / width).sum(axes, keepdims=True)


def _normalized(highest, total, count, width):
    # Without an entry there is a total of 0 and a result of −∞, whose derivative is to be 0 and not NaN.
    safe = jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, -jnp.inf, highest + width * jnp.log(safe / jnp.maximum(count, 1)))


def _logarithm(highest, total, width):
    return _normalized(highest, total, 1, width)


def _finite(highest):
    """Replace infinities by 0, because −∞ − (−∞) is NaN."""
    return jnp.where(jnp.isinf(highest), 0, highest)


def _counted(entry):
    return (entry > -jnp.inf).astype(entry.dtype)
