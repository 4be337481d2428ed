"""Functions over windows: pooling, and local response normalization. NHWC activations.

Gradients written by hand equal the automatic ones and are faster. Functions with such a gradient are differentiable in
reverse mode only.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jifv._smoothing.twins import rounded_by


def max_pool_ceil(
    x: Float[Array, "b h w c"], window: int = 3, stride: int = 2, padding: int = 0
) -> Float[Array, "b p q c"]:
    """Take the maximum over windows that may hang over the edge ("ceil mode"), so that a window covers every entry.

    There are as many windows as in Caffe and PyTorch, ⌈(size + 2·padding − window) / stride⌉ + 1 per side, without
    those that begin beyond the input. See `max_pool` for the rest.
    """
    return max_pool(x, (window, window), (stride, stride), (padding, padding), ceil=True)


def max_pool(
    x: Float[Array, "b h w c"],
    windows: tuple[int, int],
    strides: tuple[int, int],
    paddings: tuple[int, int],
    *,
    ceil: bool = False,
) -> Float[Array, "b p q c"]:
    """Take the maximum over windows.

    Among equal entries the first, row by row, takes the whole gradient, as in PyTorch.
    The maximum is taken along the rows, then along the columns. The gradient consists of sums and selections of shifted
    slices: XLA's CPU backend takes 30 to 90 times longer for the automatic gradient of `lax.reduce_window`, a
    select-and-scatter. Differentiable in reverse mode only.

    Args:
        x: Activations.
        windows: Height and width of the windows.
        strides: Distance between two windows, at most the window, down and across.
        paddings: Width of the margin of −∞ above and below, and on the left and right; at most half of the window.
        ceil: Whether windows may hang over the edge, so that one covers every entry; otherwise those that do not fit
            are dropped.

    Raises:
        ValueError: If strides or paddings are outside these ranges, or `x` is too small for a single window.
    """
    for window, stride, padding, side in zip(windows, strides, paddings, x.shape[1:3], strict=True):
        if not 1 <= stride <= window:
            raise ValueError(f"stride must be between 1 and the window, {window}, got {stride}")
        if not 0 <= padding <= window // 2:
            raise ValueError(f"padding must be between 0 and half of the window, {window}, got {padding}")
        smallest = window - 2 * padding - (stride - 1 if ceil else 0)
        if smallest > side:
            raise ValueError(f"x must have sides of at least {smallest} for this window and stride, got {x.shape[1:3]}")
    return _max_pool(x, windows, strides, paddings, ceil)


def _smooth_max_pool(width, x, windows, strides, paddings, ceil):
    # s·log(mean(exp(x/s))) over the entries that are in the input.
    for axis in (2, 1):
        x = _smooth_max_along(x, axis, windows[axis - 1], strides[axis - 1], paddings[axis - 1], ceil, width)
    return x


@rounded_by(_smooth_max_pool, whole=True)
def _max_pool(x, windows, strides, paddings, ceil):
    for axis in (2, 1):
        x = _max_along(x, axis, windows[axis - 1], strides[axis - 1], paddings[axis - 1], ceil)
    return x


def _smooth_max_along(x, axis, window, stride, padding, ceil, width):
    entries = _entries(x, axis, window, stride, padding, ceil)
    positions = jnp.zeros((1,) * axis + (x.shape[axis],) + (1,) * (3 - axis))
    inside = _entries(positions, axis, window, stride, padding, ceil)
    count = sum((entry == 0).astype(x.dtype) for entry in inside)
    return width * (jax.nn.logsumexp(jnp.stack(entries) / width, axis=0) - jnp.log(count))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _max_along(x, axis, window, stride, padding, ceil):
    return reduce(jnp.maximum, _entries(x, axis, window, stride, padding, ceil))


def _max_forward(x, axis, window, stride, padding, ceil):
    largest = _max_along(x, axis, window, stride, padding, ceil)
    return largest, (x, largest)


def _max_backward(axis, window, stride, padding, ceil, saved, cotangent):
    x, largest = saved
    *entries, _ = _entries(x, axis, window, stride, padding, ceil)
    shares, left = [], cotangent
    for entry in entries:
        shares.append(jnp.where(entry == largest, left, 0))
        left = jnp.where(entry == largest, 0, left)
    shares.append(left)

    # Entry stride·q + r of window m is entry stride·(m + q) + r of x: a sum of shifted shares for each phase r.
    shifts = -(-window // stride)
    phases = [
        sum(_padded(share, axis, q, shifts - 1 - q, 0) for q, share in enumerate(shares[phase::stride]))
        for phase in range(stride)
    ]
    gradient = jnp.stack(phases, axis + 1).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    # Entries behind the last window have no gradient.
    return (_padded(gradient, axis, -padding, padding + x.shape[axis] - gradient.shape[axis], 0),)


_max_along.defvjp(_max_forward, _max_backward)


def _entries(x, axis, window, stride, padding, ceil):
    """Return the first, second, … entry of every window along `axis`, a list as long as the window."""
    size = x.shape[axis]
    count = (size + 2 * padding - window) // stride + 1
    if ceil and count * stride < size + padding and (count - 1) * stride + window < size + 2 * padding:
        count += 1
    x = _padded(x, axis, padding, (count - 1) * stride + window - padding - size, -jnp.inf)
    return [lax.slice_in_dim(x, i, i + (count - 1) * stride + 1, stride, axis) for i in range(window)]


def _padded(x, axis, before, after, value):
    """Extend an axis on both sides, or shorten it where a number is negative."""
    sides = [(0, 0, 0)] * x.ndim
    sides[axis] = (before, after, 0)
    return lax.pad(x, np.asarray(value, x.dtype), sides)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def local_response_norm(
    x: Float[Array, "b h w c"], window: int = 5, alpha: float = 1e-4, offset: float = 1.0
) -> Float[Array, "b h w c"]:
    """Return x / (offset + alpha / window · Σ x²)^¾, summed over a window of channels (Krizhevsky et al. 2012, 3.3).

    `alpha` is divided by the window, as in Caffe and PyTorch. Differentiable in reverse mode only.

    Args:
        x: Activations.
        window: Number of channels in the sum, odd: the channel itself and equally many on either side, zeros beyond.
        alpha: Weight of the sum.
        offset: The constant k of the paper.

    Raises:
        ValueError: If the window is even.
    """
    return _response_norm_forward(x, window, alpha, offset)[0]


def _response_norm_forward(x, window, alpha, offset):
    if window % 2 == 0:
        raise ValueError(f"window must be odd, got {window}")
    scale = offset + alpha / window * _sum_over_channels(jnp.square(x), window)
    return x * _power(scale), (x, scale)


def _response_norm_backward(window, alpha, offset, saved, cotangent):
    x, scale = saved
    direct = cotangent * _power(scale)
    return (direct - 1.5 * alpha / window * x * _sum_over_channels(direct * x / scale, window),)


local_response_norm.defvjp(_response_norm_forward, _response_norm_backward)


def _power(scale):
    """Return `scale` to the power −¾ by two roots, in a third of the time of the general power."""
    root = lax.rsqrt(scale)
    return root * jnp.sqrt(root)


def _sum_over_channels(x, window):
    padded = _padded(x, 3, window // 2, window // 2, 0)
    return sum(padded[..., i : i + x.shape[3]] for i in range(window))
