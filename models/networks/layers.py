"""Building blocks of the networks: convolution with weights, batch normalization, 2×2 pooling. NHWC activations."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jifv._layers.convolution import convolve, strided_convolve


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
    """

    epsilon: float = 1e-5

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
                new = running_moments(running_mean.value, running_variance.value, mean, variance, x.size // channels)
                running_mean.value, running_variance.value = new
        gain, offset = gain_and_offset(scale, bias, mean, variance, self.epsilon)
        return x * gain + offset


def running_moments(mean, var, batch_mean, batch_var, count: int, keep: float = 0.9):
    """Return running moments after a batch with (biased) moments over `count` positions; `keep` weighs the old ones."""
    unbiased = batch_var * (count / max(count - 1, 1))
    return keep * mean + (1 - keep) * batch_mean, keep * var + (1 - keep) * unbiased


def gain_and_offset(scale, bias, mean, var, epsilon=1e-5):
    """Return gain and offset, both (c,), such that x · gain + offset is the normalization by these moments."""
    gain = scale * lax.rsqrt(var + epsilon)
    return gain, bias - mean * gain


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
