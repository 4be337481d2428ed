"""Building blocks of the networks: normalization, pooling, and convolution with weights. NHWC activations.

Gradients written by hand equal the automatic ones and are faster. Functions with such a gradient are differentiable in
reverse mode only.
"""

from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jifv.models.networks.convolution import convolve, strided_convolve
from jifv.smoothing import rounded_by


class Conv(nn.Module):
    """Convolution with zero padding of half a window, He-normal initialization.

    At stride 1 it keeps the spatial size.

    Attributes:
        features: Number of output channels.
        window: Side length of the window, odd. A window of 1 at stride 1 is a matrix product over the channels.
        use_bias: Whether to add a bias, initially zero.
        stride: Distance between two windows.
        kernel_init: Initializer of the kernel (window, window, c, d).
    """

    features: int
    window: int = 1
    use_bias: bool = False
    stride: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b p q d"]:
        """Convolve a batch."""
        shape = (self.window, self.window, x.shape[-1], self.features)
        # Weights from a file are NumPy arrays.
        kernel = jnp.asarray(self.param("kernel", self.kernel_init, shape))
        if self.stride > 1:
            x = strided_convolve(x, kernel, self.stride)
        else:
            x = x @ kernel[0, 0] if self.window == 1 else convolve(x, kernel)
        return x + self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else x


def moments(x: Float[Array, "b h w c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Return the mean and the (biased) variance of each channel over batch and positions."""
    mean = jnp.mean(x, (0, 1, 2))
    # Rounding can make the difference negative if a channel hardly varies around a large mean.
    return mean, jnp.maximum(jnp.mean(jnp.square(x), (0, 1, 2)) - jnp.square(mean), 0)


class Norm(nn.Module):
    """Batch normalization that is given the batch's moments instead of computing them.

    A dense block normalizes the same channels many times, each time with another scale and bias. The moments belong to
    the channel, so one computation serves all layers (and one reduction, in the backward pass).

    Attributes:
        epsilon: Summand of the variance.
        momentum: Weight of the old running moments in each training step.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], batch_moments=None) -> Float[Array, "b h w c"]:
        """Normalize by `batch_moments` and update the running moments; by the running moments if there are none."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_variance = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if batch_moments is None:
            mean, variance = running_mean.value, running_variance.value
        else:
            mean, variance = batch_moments
            if not self.is_initializing():
                count = x.size // channels
                unbiased = variance * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_variance.value = keep * running_variance.value + (1 - keep) * unbiased
        gain, offset = gain_and_offset(scale, bias, mean, variance, self.epsilon)
        return x * gain + offset


def gain_and_offset(scale, bias, mean, var, epsilon=1e-5):
    """Return gain and offset, both (c,), such that x · gain + offset is the normalization by these moments."""
    gain = scale * lax.rsqrt(var + epsilon)
    return gain, bias - mean * gain


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


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Take the maximum over 2×2 windows at stride 2; an odd last row or column is dropped."""
    return _windows(x).max((2, 4))


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Take the mean over 2×2 windows at stride 2; an odd last row or column is dropped."""
    return _windows(x).mean((2, 4))


def _windows(x):
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def smooth_relu(x: Float[Array, "*shape"], width: float | Float[Array, ""]) -> Float[Array, "*shape"]:
    """Apply a ReLU with a rounded kink: 0 up to 0, x² / (2·width) up to `width`, then x − width / 2."""
    return jnp.square(jnp.clip(x, 0, width)) / (2 * width) + jnp.maximum(x - width, 0)


def max_pool_ceil(
    x: Float[Array, "b h w c"], window: int = 3, stride: int = 2, padding: int = 0
) -> Float[Array, "b p q c"]:
    """Take the maximum over windows that may hang over the edge ("ceil mode"), so that a window covers every entry.

    There are as many windows as in Caffe and PyTorch, ⌈(size + 2·padding − window) / stride⌉ + 1 per side, without
    those that begin beyond the input. Among equal entries the first, row by row, takes the whole gradient, as in
    PyTorch.

    The maximum is taken along the rows, then along the columns. The gradient consists of sums and selections of shifted
    slices: XLA's CPU backend takes 30 to 90 times longer for the automatic gradient of `lax.reduce_window`, a
    select-and-scatter. Differentiable in reverse mode only.

    Args:
        x: Activations.
        window: Side length of the windows.
        stride: Distance between two windows, at most `window`.
        padding: Width of the margin of −∞ on every side, at most half of `window`.

    Raises:
        ValueError: If stride or padding are outside these ranges, or `x` is too small for a single window.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"stride must be between 1 and the window, {window}, got {stride}")
    if not 0 <= padding <= window // 2:
        raise ValueError(f"padding must be between 0 and half of the window, {window}, got {padding}")
    if (smallest := window - stride + 1 - 2 * padding) > min(x.shape[1:3]):
        raise ValueError(f"x must have sides of at least {smallest} for this window and stride, got {x.shape[1:3]}")
    return _max_pool_ceil(x, window, stride, padding)


def _smooth_max_pool_ceil(width, x, window, stride, padding):
    # s·log(mean(exp(x/s))) over the entries that are in the input.
    for axis in (2, 1):
        x = _smooth_max_along(x, axis, window, stride, padding, width)
    return x


@rounded_by(_smooth_max_pool_ceil, whole=True)
def _max_pool_ceil(x, window, stride, padding):
    for axis in (2, 1):
        x = _max_along(x, axis, window, stride, padding)
    return x


def _smooth_max_along(x, axis, window, stride, padding, width):
    entries = _entries(x, axis, window, stride, padding)
    inside = _entries(jnp.zeros((1,) * axis + (x.shape[axis],) + (1,) * (3 - axis)), axis, window, stride, padding)
    count = sum((entry == 0).astype(x.dtype) for entry in inside)
    return width * (jax.nn.logsumexp(jnp.stack(entries) / width, axis=0) - jnp.log(count))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_along(x, axis, window, stride, padding):
    return reduce(jnp.maximum, _entries(x, axis, window, stride, padding))


def _max_forward(x, axis, window, stride, padding):
    largest = _max_along(x, axis, window, stride, padding)
    return largest, (x, largest)


def _max_backward(axis, window, stride, padding, saved, cotangent):
    x, largest = saved
    *entries, _ = _entries(x, axis, window, stride, padding)
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
    return (lax.slice_in_dim(gradient, padding, padding + x.shape[axis], axis=axis),)


_max_along.defvjp(_max_forward, _max_backward)


def _entries(x, axis, window, stride, padding):
    """Return the first, second, … entry of every window along `axis`, a list as long as the window."""
    size = x.shape[axis]
    count = -(-(size + 2 * padding - window) // stride) + 1
    if (count - 1) * stride >= size + padding:
        count -= 1
    x = _padded(x, axis, padding, (count - 1) * stride + window - padding - size, -jnp.inf)
    return [lax.slice_in_dim(x, i, i + (count - 1) * stride + 1, stride, axis) for i in range(window)]


def _padded(x, axis, before, after, value):
    sides = [(0, 0, 0)] * x.ndim
    sides[axis] = (before, after, 0)
    return lax.pad(x, np.asarray(value, x.dtype), sides)
