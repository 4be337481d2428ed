"""Building blocks that the networks share: convolution, normalization, pooling. NHWC activations, HWIO kernels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def convolve(x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"]) -> Float[Array, "b h w d"]:
    """Convolution of stride 1 with zero padding that keeps the spatial size ("SAME", odd windows).

    Its gradient with respect to ``x`` is written as a forward convolution with the kernel flipped and transposed.
    That is the same number; the automatic one leaves the transposition to the convolution (a kernel in the layout
    HWOI), for which XLA's CPU backend leaves its fast path whenever the kernel is not a constant of the program, as
    in every loop: six times slower in ``lax.scan``. Differentiation is in reverse mode only.

    Raises:
        ValueError: If a side of the window is even: the flipped kernel would then need another padding.
    """
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(f"kernel must have odd sides; got a window of {kernel.shape[:2]}")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT)


def _convolve_forward(x, kernel):
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(saved, cotangent):
    x, kernel = saved
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    _, pull_kernel = jax.vjp(
        lambda k: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=_LAYOUT), kernel
    )
    return convolve(cotangent, flipped), *pull_kernel(cotangent)


convolve.defvjp(_convolve_forward, _convolve_backward)


class Conv(nn.Module):
    """Convolution without bias, He-normal initialization.

    Attributes:
        features: Number of output channels.
        window: Side length of the window, odd. 1 is computed as a matrix product over the channels.
    """

    features: int
    window: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Convolves a batch."""
        shape = (self.window, self.window, x.shape[-1], self.features)
        # Weights from a file are NumPy arrays.
        kernel = jnp.asarray(self.param("kernel", nn.initializers.he_normal(), shape))
        return x @ kernel[0, 0] if self.window == 1 else convolve(x, kernel)


def moments(x: Float[Array, "b h w c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and (biased) variance of each channel over batch and positions."""
    mean = jnp.mean(x, (0, 1, 2))
    # Rounding can make the difference negative where a channel hardly varies around a large mean.
    return mean, jnp.maximum(jnp.mean(jnp.square(x), (0, 1, 2)) - jnp.square(mean), 0)


class Norm(nn.Module):
    """Batch normalization that is told the batch's moments instead of computing them.

    A dense block normalizes the same channels again and again, each time with another scale and bias: the moments
    are those of the channel, and one computation serves all layers (and, in the backward pass, one reduction).

    Attributes:
        epsilon: Added to the variance.
        momentum: What the running moments keep at each step of training.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], batch_moments=None) -> Float[Array, "b h w c"]:
        """Normalizes with ``batch_moments`` and updates the running ones, or, without, with the running ones."""
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
        gain = scale * lax.rsqrt(variance + self.epsilon)
        return x * gain + (bias - mean * gain)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Maximum over 2×2 windows at stride 2; an odd last row or column is dropped."""
    return _windows(x).max((2, 4))


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Mean over 2×2 windows at stride 2; an odd last row or column is dropped."""
    return _windows(x).mean((2, 4))


def _windows(x):
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)
