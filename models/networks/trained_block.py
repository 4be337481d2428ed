"""A dense block that normalizes by the batch's own moments, with the gradient of every weight: the block of training.

A core works through the batch in parts that fit into its cache, forward and backward. Between two normalizations a
layer needs no more of the other parts than sums, so that each layer is two loops over the parts. All channels share one
array, and so do their gradients. The automatic gradient takes two to three times as long (benchmarks/training.py): it
writes every activation of the whole batch to memory, several times.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jifv._layers.convolution import convolve, flipped, kernel_gradient
from jifv.models.networks.layers import gain_and_offset

_POSITIONS = 1024
"""Positions of a part: the activations of one layer then take about a megabyte, the size of a core's cache."""


class TrainedLayer(NamedTuple):
    """A bottleneck layer: BN-ReLU-1×1-BN-ReLU-3×3.

    Attributes:
        scale: Factor of the first normalization.
        bias: Summand of the first normalization.
        squeeze: The 1×1 convolution.
        inner_scale: Factor of the second normalization.
        inner_bias: Summand of the second normalization.
        kernel: The 3×3 convolution.
    """

    scale: Float[Array, " c"]
    bias: Float[Array, " c"]
    squeeze: Float[Array, "c d"]
    inner_scale: Float[Array, " d"]
    inner_bias: Float[Array, " d"]
    kernel: Float[Array, "3 3 d growth"]


@jax.custom_vjp
def trained_dense_block(
    x: Float[Array, "b h w c"], moments: tuple[Float[Array, " c"], Float[Array, " c"]], layers: list[TrainedLayer]
) -> tuple[
    Float[Array, "b h w n"],
    tuple[Float[Array, " n"], Float[Array, " n"]],
    list[tuple[Float[Array, " d"], Float[Array, " d"]]],
]:
    """Append the new channels of each layer, which sees all channels before its own.

    Args:
        x: Channels at the start.
        moments: Mean and (biased) variance of each of them over batch and positions.
        layers: The layers, in order.

    Returns:
        `x` followed by the new channels; the moments of all of these; and those of the inputs of each layer's second
        normalization, which are for running averages: they pass no gradient on. Differentiable in reverse mode only.
    """
    return _forward(x, moments, layers)[0]


def _forward(x, moments, layers):
    shape, growth = x.shape[:-1], layers[0].kernel.shape[-1]
    x = _in_parts(jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, growth * len(layers)))))
    kept = []
    for layer in layers:
        x, moments, of_layer = _append(x, moments, layer)
        kept.append(of_layer)
    return (x.reshape(*shape, -1), moments, [inner for _, inner in kept]), (x, moments, kept, layers)


def _append(x, moments, layer):
    """Return x with the channels of a layer, their moments too, and what its gradient needs."""
    width, growth = len(layer.scale), layer.kernel.shape[-1]
    gain, offset = gain_and_offset(layer.scale, layer.bias, *moments)

    def squeeze(_, x):
        new = jax.nn.relu(x[..., :width] * gain + offset) @ layer.squeeze
        return None, (new, _total(new), _total(new * new))

    squeezed, totals, squares = lax.scan(squeeze, None, x)[1]
    inner = _moments(totals, squares, squeezed)
    inner_gain, inner_offset = gain_and_offset(layer.inner_scale, layer.inner_bias, *inner)

    def convolved(_, squeezed):
        new = convolve(jax.nn.relu(squeezed * inner_gain + inner_offset), layer.kernel)
        return None, (new, _total(new), _total(new * new))

    new, totals, squares = lax.scan(convolved, None, squeezed)[1]
    (mean, variance), (new_mean, new_variance) = moments, _moments(totals, squares, new)
    moments = jnp.concatenate([mean, new_mean]), jnp.concatenate([variance, new_variance])
    return x.at[..., width : width + growth].set(new), moments, (squeezed, inner)


def _backward(saved, cotangents):
    x, moments, kept, layers = saved
    gradient, of_moments, _ = cotangents
    shape, gradient = gradient.shape, gradient.reshape(x.shape)
    of_layers = []
    for layer, of_layer in zip(reversed(layers), reversed(kept), strict=True):
        gradient, of_moments, weights = _pull(x, moments, of_layer, layer, gradient, of_moments)
        of_layers.append(weights)
    return gradient.reshape(shape)[..., : len(layers[0].scale)], of_moments, of_layers[::-1]


def _pull(x, moments, kept, layer, gradient, of_moments):
    """Return the gradients of the channels before a layer, of their moments, and of its weights.

    Args:
        x: All channels, in parts.
        moments: Their moments.
        kept: What `_append` kept of the layer.
        layer: The layer.
        gradient: Gradient of all channels, in parts; complete for those of this layer, but for their moments.
        of_moments: Gradient of the moments up to those of this layer.
    """
    width, growth = len(layer.scale), layer.kernel.shape[-1]
    own = slice(width, width + growth)
    squeezed, inner = kept
    (mean, variance), (of_mean, of_variance) = moments, of_moments
    (gain, offset), pull = jax.vjp(gain_and_offset, layer.scale, layer.bias, mean[:width], variance[:width])
    (inner_gain, inner_offset), inner_pull = jax.vjp(gain_and_offset, layer.inner_scale, layer.inner_bias, *inner)
    own_moments = _moments_gradient(of_mean[own], of_variance[own], mean[own], x)

    def through_kernel(_, parts):
        x, gradient, squeezed = parts
        of_new = gradient[..., own] + own_moments(x[..., own])
        inner = squeezed * inner_gain + inner_offset
        of_inner = convolve(of_new, flipped(layer.kernel)) * (inner > 0)
        of_kernel = kernel_gradient(jax.nn.relu(inner), of_new, layer.kernel.shape[:2])
        return None, (of_inner, of_kernel, _total(of_inner * squeezed), _total(of_inner))

    of_inner, *sums = lax.scan(through_kernel, None, (x, gradient, squeezed))[1]
    of_kernel, of_gain, of_offset = (of_parts.sum(0) for of_parts in sums)
    of_inner_scale, of_inner_bias, of_inner_mean, of_inner_variance = inner_pull((of_gain, of_offset))
    inner_moments = _moments_gradient(of_inner_mean, of_inner_variance, inner[0], squeezed)

    def through_squeeze(gradient, parts):
        part, x, squeezed, of_inner = parts
        of_squeezed = of_inner * inner_gain + inner_moments(squeezed)
        x = x[..., :width]
        outer = x * gain + offset
        of_outer = (of_squeezed @ layer.squeeze.T) * (outer > 0)
        of_squeeze = jnp.tensordot(jax.nn.relu(outer), of_squeezed, ((0, 1, 2), (0, 1, 2)))
        gradient = gradient.at[part, ..., :width].add(of_outer * gain)
        return gradient, (of_squeeze, _total(of_outer * x), _total(of_outer))

    gradient, sums = lax.scan(through_squeeze, gradient, (jnp.arange(len(x)), x, squeezed, of_inner))
    of_squeeze, of_gain, of_offset = (of_parts.sum(0) for of_parts in sums)
    of_scale, of_bias, more_of_mean, more_of_variance = pull((of_gain, of_offset))
    of_moments = of_mean[:width] + more_of_mean, of_variance[:width] + more_of_variance
    weights = TrainedLayer(of_scale, of_bias, of_squeeze, of_inner_scale, of_inner_bias, of_kernel)
    return gradient, of_moments, weights


trained_dense_block.defvjp(_forward, _backward)


def _in_parts(x):
    """Return x as (parts, b / parts, h, w, c).

    Where there are several devices, a batch is split over them already, and a GPU wants all at once: one part.
    """
    batch, height, width, _ = x.shape
    parts = 1
    if jax.device_count() == 1 and jax.default_backend() == "cpu":
        parts = next(
            n
            for n in range(1, batch + 1)
            if n == batch or (batch % n == 0 and batch // n * height * width <= _POSITIONS)
        )
    return x.reshape(parts, batch // parts, height, width, -1)


def _total(x):
    return x.sum((0, 1, 2))


def _moments(totals, squares, x):
    """Return the moments of the channels of x from each part's sums."""
    count = x.size // x.shape[-1]
    mean = totals.sum(0) / count
    # As in `layers.moments`: rounding can make the difference negative.
    return mean, jnp.maximum(squares.sum(0) / count - jnp.square(mean), 0)


def _moments_gradient(of_mean, of_variance, mean, x):
    """Return the gradient with respect to x through the moments of its channels, as a function of a part of x."""
    count = x.size // x.shape[-1]
    slope = 2 * of_variance / count
    level = of_mean / count - slope * mean
    return lambda part: slope * part + level
