"""GoogLeNet (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842) for ImageNet as a Flax Linen module.

There are two public versions of one graph: `"bvlc"` is Caffe's `bvlc_googlenet`, `"torchvision"` is PyTorch's
(`googlenet-1378be20.pth`). Both take RGB in [0, 1] and do their own preprocessing, so that every parametrization
feeds every network alike. The auxiliary classifiers, which only training needs, are left out.
"""

from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from jifv._layers.windows import local_response_norm, max_pool_ceil
from jifv.models.networks.layers import Conv, Norm

CAFFE_MEAN = (104.0, 117.0, 123.0)
"""Mean that the bvlc version subtracts from blue, green and red in [0, 255]."""
SMALLEST = 32
"""Smallest side of an input for which every layer has a position."""

_STEM = ("conv1", "pool1", "norm1", "conv2", "conv3", "norm2", "pool2")
_WIDTHS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """GoogLeNet whose layers can all be tapped by name; nothing past the tapped layer is computed.

    `layer_names` lists the taps, from input to output: `conv1`, `pool1`, `norm1`, `conv2`, `conv3`,
    `norm2`, `pool2`, `inception3a`, `inception3b`, `pool3`, `inception4a` … `inception4e`, `pool4`,
    `inception5a`, `inception5b`, `pool` (the mean over positions) and `classifier` (class scores before the
    softmax, in the order of ILSVRC-2012). Convolutions and inception modules are tapped after their ReLU; the local
    response normalizations `norm1` and `norm2` exist in the bvlc version only.

    Attributes:
        version: `"bvlc"` has convolutions with bias, local response normalization, 3×3 pools and a 5×5 branch.
            `"torchvision"` has batch normalization by the running statistics (ε 1e-3) instead of biases, 2×2 windows in
            `pool4`, and 3×3 windows in the branch named 5×5.
    """

    version: Literal["bvlc", "torchvision"] = "bvlc"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers that can be tapped, in the order of computation."""
        stem = [name for name in _STEM if self.version == "bvlc" or not name.startswith("norm")]
        three, four, five = ([name for name in _WIDTHS if name.startswith(f"inception{stage}")] for stage in "345")
        return (*stem, *three, "pool3", *four, "pool4", *five, "pool", "classifier")

    @property
    def smallest(self) -> int:
        """Smallest side of an input for which every layer has a position."""
        return SMALLEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, layer: str = "classifier") -> Float[Array, "b *positions n"]:
        """Return the activations of `layer`.

        Args:
            x: RGB images in [0, 1]; the network was trained on 224×224. Any size from 32×32 works.
            layer: One of `layer_names`.

        Raises:
            ValueError: If there is no such layer or version, or the images are too small.
        """
        if self.version not in ("bvlc", "torchvision"):
            raise ValueError(f"version must be 'bvlc' or 'torchvision', got {self.version!r}")
        if layer not in self.layer_names:
            raise ValueError(f"layer must be one of {', '.join(self.layer_names)}, got {layer!r}")
        if min(x.shape[1:3]) < SMALLEST:
            raise ValueError(f"x must have sides of at least {SMALLEST} pixels, got {x.shape[1]}×{x.shape[2]}")
        x = self._preprocess(x)
        for name in self.layer_names[: self.layer_names.index(layer) + 1]:
            x = self._layer(name)(x)
        return x

    def _preprocess(self, x):
        if self.version == "bvlc":
            return 255 * x[..., ::-1] - jnp.asarray(CAFFE_MEAN, x.dtype)
        # torchvision's loader standardizes by ImageNet's moments. Its `transform_input` replaces them by a mean and a
        # standard deviation of 0.5. Together they are (x − 0.5) / 0.5.
        return 2 * x - 1

    def _layer(self, name):
        unit = partial(_Unit, batch_norm=self.version == "torchvision", name=name)
        pool = max_pool_ceil
        match name:
            case "conv1":
                return unit(64, window=7, stride=2)
            case "conv2":
                return unit(64)
            case "conv3":
                return unit(192, window=3)
            case "norm1" | "norm2":
                return local_response_norm
            case "pool4" if self.version == "torchvision":
                return partial(pool, window=2)
            case "pool1" | "pool2" | "pool3" | "pool4":
                return pool
            case "pool":
                return partial(jnp.mean, axis=(1, 2))
            case "classifier":
                return nn.Dense(1000, name=name)
        return _Inception(_WIDTHS[name], self.version, name=name)


class _Unit(nn.Module):
    """Convolution and ReLU, with a bias or a batch normalization in between."""

    features: int
    window: int = 1
    stride: int = 1
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x):
        convolution = Conv(self.features, self.window, use_bias=not self.batch_norm, stride=self.stride)
        nn.share_scope(self, convolution)
        x = convolution(x)
        x = Norm(epsilon=1e-3, name="norm")(x) if self.batch_norm else x
        return nn.relu(x)


class _Inception(nn.Module):
    """Four branches side by side, concatenated: 1×1, 3×3, 5×5 and pooling."""

    widths: tuple[int, ...]
    version: str

    @nn.compact
    def __call__(self, x):
        unit = partial(_Unit, batch_norm=self.version == "torchvision")
        pooled = max_pool_ceil(x, stride=1, padding=1)
        one, reduce3, three, reduce5, five, projection = self.widths
        return jnp.concatenate(
            [
                unit(one, name="1x1")(x),
                unit(three, window=3, name="3x3")(unit(reduce3, name="3x3_reduce")(x)),
                unit(five, window=5 if self.version == "bvlc" else 3, name="5x5")(unit(reduce5, name="5x5_reduce")(x)),
                unit(projection, name="pool_proj")(pooled),
            ],
            -1,
        )


@cache
def variable_shapes(version: Literal["bvlc", "torchvision"] = "bvlc") -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each variable of `GoogLeNet` by its name, such as `params/conv1/kernel`."""
    x = jnp.zeros((1, SMALLEST, SMALLEST, 3))
    variables = jax.eval_shape(GoogLeNet(version).init, jax.random.key(0), x)
    shapes: dict = flatten_dict(jax.tree.map(jnp.shape, variables), sep="/")
    return MappingProxyType(shapes)
