"""SRNet, the super-resolution network for isosurfaces of Weiss et al. 2019 (https://arxiv.org/abs/1906.06520).

A generator in the manner of EnhanceNet: 32×32 in, 128×128 out, any other size likewise. The channels of a frame are
mask, normal and depth; the output has ambient occlusion as well (see `frames`).
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from jifv._layers.convolution import convolve
from jifv.models.networks.frames import INPUT_CHANNELS, OUTPUT_CHANNELS
from jifv.models.networks.layers import Conv

SCALE = 4
"""Pixels of the output along a side of one pixel of the input."""

# Where the source names no initialization, PyTorch's default: a uniform distribution of variance 1/(3·fan-in).
_DEFAULT_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_RESIDUAL_INIT = nn.initializers.orthogonal(2**0.5)


class SRNet(nn.Module):
    """SRNet whose layers can all be tapped by name; nothing past the tapped layer is computed.

    The layers are: convolution and ReLU; residual blocks; bilinear upscaling, convolution and ReLU, twice; convolution
    and ReLU; convolution. The bilinearly upscaled frame is added to the first five channels of the output. All windows
    are 3×3 with zero padding. The default has 911,046 parameters.

    `layer_names` lists the taps, from input to output: `conv1`, `up1`, `up2` and `conv` are convolutions after their
    ReLU, `block1` … `block10` are the residual blocks (which end without a ReLU), `output` is the frame.

    Attributes:
        blocks: Number of residual blocks.
        features: Number of channels of every layer except the output.
    """

    blocks: int = 10
    features: int = 64

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers that can be tapped, in the order of computation."""
        return ("conv1", *(f"block{index}" for index in range(1, self.blocks + 1)), "up1", "up2", "conv", "output")

    @property
    def smallest(self) -> int:
        """Smallest side of an input for which every layer has a position."""
        return 1

    @nn.compact
    def __call__(
        self,
        frame: Float[Array, "b h w 5"],
        previous: Float[Array, "b 4*h 4*w 6"] | None = None,
        *,
        layer: str = "output",
    ) -> Float[Array, "b y x n"]:
        """Return the activations of `layer`.

        Args:
            frame: Low-resolution frames, `INPUT_CHANNELS`.
            previous: The output for the previous frame, warped to this one, `OUTPUT_CHANNELS`. None for the first frame
                of a sequence: equivalent to an array of zeros, but cheaper.
            layer: One of `layer_names`.

        Returns:
            `features` channels; for `output` the high-resolution frame (b, 4h, 4w, 6), `OUTPUT_CHANNELS`. This is the
            network's raw estimate: it is not clipped, and its normals are not normalized.

        Raises:
            ValueError: If there is no such layer.
        """
        if layer not in self.layer_names:
            raise ValueError(f"layer must be one of {', '.join(self.layer_names)}, got {layer!r}")
        conv = lambda name: Conv(self.features, window=3, use_bias=True, kernel_init=_DEFAULT_INIT, name=name)  # noqa: E731
        x = nn.relu(_FirstConv(self.features, name="conv1")(frame, previous))
        if layer == "conv1":
            return x
        for index in range(1, self.blocks + 1):
            x = _ResidualBlock(name=f"block{index}")(x)
            if layer == f"block{index}":
                return x
        for name in ("up1", "up2"):
            x = nn.relu(conv(name)(upscale(x, 2)))
            if layer == name:
                return x
        x = nn.relu(conv("conv")(x))
        if layer == "conv":
            return x
        x = Conv(len(OUTPUT_CHANNELS), window=3, use_bias=True, kernel_init=_DEFAULT_INIT, name="output")(x)
        return x.at[..., : len(INPUT_CHANNELS)].add(upscale(frame, SCALE))


class _FirstConv(nn.Module):
    """Convolution of the frame's 5 channels and the 96 channels of the folded previous one."""

    features: int

    @nn.compact
    def __call__(self, frame, previous):
        channels = len(INPUT_CHANNELS) + len(OUTPUT_CHANNELS) * SCALE**2
        kernel = jnp.asarray(self.param("kernel", _DEFAULT_INIT, (3, 3, channels, self.features)))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if previous is None:
            return convolve(frame, kernel[:, :, : len(INPUT_CHANNELS)]) + bias
        return convolve(jnp.concatenate([frame, fold(previous)], -1), kernel) + bias


class _ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), without a ReLU after the sum."""

    @nn.compact
    def __call__(self, x):
        conv = lambda name: Conv(x.shape[-1], window=3, use_bias=True, kernel_init=_RESIDUAL_INIT, name=name)  # noqa: E731
        return x + conv("conv2")(nn.relu(conv("conv1")(x)))


def upscale(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b {factor}*h {factor}*w c"]:
    """Upscale bilinearly, with pixel centres at half-integers (PyTorch's `align_corners=False`)."""
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, factor * height, factor * width, channels), "linear", antialias=False)


def fold(x: Float[Array, "b y x c"]) -> Float[Array, "b y//4 x//4 16*c"]:
    """Fold blocks of 4×4 pixels into channels, in the order of PyTorch's `pixel_unshuffle`.

    Channel c at row i and column j of a block becomes channel 16c + 4i + j.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // SCALE, SCALE, width // SCALE, SCALE, channels)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // SCALE, width // SCALE, channels * SCALE**2)


@cache
def variable_shapes() -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each variable of the default `SRNet` by its name, such as `params/block8/conv1/kernel`."""
    variables = jax.eval_shape(SRNet().init, jax.random.key(0), jnp.zeros((1, 8, 8, 5)))
    shapes: dict = flatten_dict(jax.tree.map(jnp.shape, variables), sep="/")
    return MappingProxyType(shapes)
