"""DenseNet-BC for CIFAR (Huang et al. 2017, https://arxiv.org/abs/1608.06993) as a Flax Linen module.

The default is the paper's: depth 100, growth 12, three dense blocks of 16 bottleneck layers, reduction 0.5, 769,162
parameters. The network takes RGB in [0, 1] and standardizes it itself, by CIFAR-10's moments, so that every
parametrization feeds every network alike.
"""

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import custom_vjp_primal_tree_values
from jaxtyping import Array, Float

from jifv._layers.convolution import convolve, flipped
from jifv.models.networks.layers import (
    Conv,
    Norm,
    average_pool,
    gain_and_offset,
    max_pool,
    moments,
    running_moments,
    smooth_relu,
)
from jifv.models.networks.trained_block import TrainedLayer, trained_dense_block
from jifv.smoothing import rounded_by

CHANNEL_MEAN = (0.4914, 0.4822, 0.4465)
"""Mean of CIFAR-10's training images, RGB in [0, 1]."""
CHANNEL_STD = (0.2023, 0.1994, 0.2010)
"""Standard deviation that goes with it, the one that public checkpoints use."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""CIFAR-10's classes, in the order of the scores."""

_POOLS = {"max": max_pool, "average": average_pool}


class DenseNet(nn.Module):
    """DenseNet-BC whose layers can all be tapped by name; nothing past the tapped layer is computed.

    `layer_names` lists the taps, from input to output: `stem` (the first convolution), `dense1.0` … `dense1.15`
    (the 12 new channels of each bottleneck layer), `dense1` (their concatenation), `transition1`, the same for
    blocks 2 and 3, `features` (after the last normalization and ReLU), `pool` (its mean over positions) and
    `classifier` (class scores before the softmax).

    Attributes:
        pool: Pooling in the transitions: `"max"` (Reinbold & Westermann 2020, section 3.1) or `"average"`
            (the original).
        blocks: Number of bottleneck layers in each dense block.
        growth: Number of channels that each bottleneck layer adds.
        reduction: Fraction of the channels that a transition keeps.
        classes: Number of class scores.
    """

    pool: Literal["max", "average"] = "max"
    blocks: tuple[int, ...] = (16, 16, 16)
    growth: int = 12
    reduction: float = 0.5
    classes: int = 10

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers that can be tapped, in the order of computation."""
        names = ["stem"]
        for block, depth in enumerate(self.blocks, 1):
            names += [f"dense{block}.{index}" for index in range(depth)] + [f"dense{block}"]
            if block < len(self.blocks):
                names.append(f"transition{block}")
        return (*names, "features", "pool", "classifier")

    @property
    def title(self) -> str:
        """The network's name in the literature, with depth and growth, such as `DenseNet-BC(100, 12)`."""
        return f"DenseNet-BC({2 * sum(self.blocks) + len(self.blocks) + 1}, {self.growth})"

    @property
    def smallest(self) -> int:
        """Smallest side of an input for which every layer has a position."""
        return 2 ** (len(self.blocks) - 1)

    def kept(self, channels: int) -> int:
        """Return how many of its input channels a transition keeps."""
        return int(channels * self.reduction)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], *, layer: str = "classifier", train: bool = False
    ) -> Float[Array, "b *positions n"]:
        """Return the activations of `layer`.

        Args:
            x: RGB images in [0, 1]; the paper's networks see 32×32.
            layer: One of `layer_names`.
            train: Whether to normalize by the batch's own moments and update the running ones (collection
                `batch_stats`).

        Raises:
            ValueError: If there is no such layer, or no such pooling.
        """
        if layer not in self.layer_names:
            raise ValueError(f"layer must be one of {', '.join(self.layer_names)}, got {layer!r}")
        if self.pool not in _POOLS:
            raise ValueError(f"pool must be one of {', '.join(_POOLS)}, got {self.pool!r}")
        of_batch = train and not self.is_initializing()
        dtype = x.dtype
        x = (x - jnp.asarray(CHANNEL_MEAN, dtype)) / jnp.asarray(CHANNEL_STD, dtype)
        x = Conv(2 * self.growth, window=3, name="stem")(x)
        if layer == "stem":
            return x
        for block, depth in enumerate(self.blocks, 1):
            names = [f"dense{block}.{index}" for index in range(depth)]
            if layer in names:
                names = names[: names.index(layer) + 1]
            channel_moments = moments(x) if of_batch else None
            if self.is_initializing():
                for name in names:
                    x = jnp.concatenate([x, _Bottleneck(self.growth, name=name)(x)], -1)
            elif of_batch:
                x, channel_moments, inner = trained_dense_block(
                    x, channel_moments, [self._trained(name) for name in names]
                )
                for name, inner_moments in zip(names, inner, strict=True):
                    self._update_running(name, channel_moments, inner_moments, x.size // x.shape[-1])
            else:
                x = dense_block(x, [self._folded(name) for name in names])
            if layer in names:
                return x[..., -self.growth :]
            if layer == f"dense{block}":
                return x
            if block < len(self.blocks):
                x = nn.relu(Norm(name=f"transition{block}.norm")(x, channel_moments))
                x = Conv(self.kept(x.shape[-1]), name=f"transition{block}.conv")(x)
                x = _POOLS[self.pool](x)
                if layer == f"transition{block}":
                    return x
        x = nn.relu(Norm(name="norm")(x, channel_moments))
        if layer == "features":
            return x
        x = x.mean((1, 2))
        if layer == "pool":
            return x
        # Zero rather than random: the gradient of the cross-entropy sums to zero over the classes. So do the class
        # weights then, and the softmax's translation invariance is an exact cokernel of the class scores.
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name="classifier")(x)

    def _variables(self, collection, name):
        # Weights from a file are NumPy arrays.
        return jax.tree.map(jnp.asarray, self.variables[collection][name])

    def _trained(self, name):
        params = self._variables("params", name)
        return TrainedLayer(
            **params["norm1"],
            squeeze=params["conv1"]["kernel"][0, 0],
            inner_scale=params["norm2"]["scale"],
            inner_bias=params["norm2"]["bias"],
            kernel=params["conv2"]["kernel"],
        )

    def _update_running(self, name, outer_moments, inner_moments, count):
        running = self._variables("batch_stats", name)
        # A layer sees the channels before its own.
        outer_moments = [moment[: running["norm1"]["mean"].size] for moment in outer_moments]
        for norm, of_batch in (("norm1", outer_moments), ("norm2", inner_moments)):
            mean, var = running_moments(running[norm]["mean"], running[norm]["var"], *of_batch, count)
            running[norm] = {"mean": mean, "var": var}
        self.put_variable("batch_stats", name, running)

    def _folded(self, name):
        params, statistics = (self._variables(collection, name) for collection in ("params", "batch_stats"))
        outer, inner = (gain_and_offset(**params[norm], **statistics[norm]) for norm in ("norm1", "norm2"))
        return FoldedLayer(*outer, params["conv1"]["kernel"][0, 0] * inner[0], inner[1], params["conv2"]["kernel"])


class FoldedLayer(NamedTuple):
    """A bottleneck layer with known moments: 3×3(ReLU(ReLU(x · gain + offset) · squeeze + bias)).

    Attributes:
        gain: Factor of the first normalization.
        offset: Summand of the first normalization.
        squeeze: The 1×1 convolution, times the gain of the second normalization.
        bias: Summand of the second normalization.
        kernel: The 3×3 convolution.
    """

    gain: Float[Array, " c"]
    offset: Float[Array, " c"]
    squeeze: Float[Array, "c d"]
    bias: Float[Array, " d"]
    kernel: Float[Array, "3 3 d growth"]


@jax.custom_vjp
def dense_block(x: Float[Array, "b h w c"], layers: list[FoldedLayer]) -> Float[Array, "b h w n"]:
    """Return `x` followed by the new channels of each layer, which sees all channels before its own.

    All channels share one array, and so do their gradients. If each layer concatenated them anew, the copies would
    dominate memory, and at a batch size of 8 a CPU would spend more time on allocating them than on the convolutions.
    Differentiable in reverse mode only.
    """
    return _grow(x, layers)[0]


def _grow(x, layers):
    start, growth = x.shape[-1], layers[0].kernel.shape[-1]
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, growth * len(layers))))
    active = []
    for width, layer in zip(range(start, x.shape[-1], growth), layers, strict=True):
        inner = nn.relu(x[..., :width] * layer.gain + layer.offset) @ layer.squeeze + layer.bias
        active.append(inner > 0)
        x = x.at[..., width : width + growth].set(convolve(nn.relu(inner), layer.kernel))
    return x, active


def _dense_forward(x, layers):
    trained = _trained(layers)
    x, layers = custom_vjp_primal_tree_values((x, layers))
    grown, active = _grow(x, layers)
    return grown, (grown, active, layers, x if trained else None)


def _dense_backward(saved, cotangent):
    grown, active, layers, trained_at = saved
    gradient = cotangent
    for layer, inner_active in zip(reversed(layers), reversed(active), strict=True):
        width, growth = len(layer.gain), layer.kernel.shape[-1]
        inner = convolve(gradient[..., width : width + growth], flipped(layer.kernel))
        outer = (inner * inner_active) @ (layer.squeeze.T * layer.gain)
        outer_active = grown[..., :width] * layer.gain + layer.offset > 0
        # A product instead of `where`, which would keep the update from being vectorized on CPUs without AVX-512: the
        # Jacobian would take twice as long.
        gradient = gradient.at[..., :width].add(outer * outer_active)
    return gradient[..., : len(layers[0].gain)], _weight_gradient(_grow, trained_at, layers, cotangent)


def _trained(layers):
    """Tell whether a weight is differentiated; `layers` are as `symbolic_zeros` hands them over."""
    return any(leaf.perturbed for leaf in jax.tree.leaves(layers))


def _weight_gradient(grow, x, layers, cotangent):
    """Return the automatic gradient of the weights, or none where no x was kept for it: it takes seconds to trace."""
    if x is None:
        return None
    _, pull = jax.vjp(lambda layers: grow(x, layers)[0], layers)
    return pull(cotangent)[0]


dense_block.defvjp(_dense_forward, _dense_backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rounded_dense_block(
    widths: tuple[float, ...], x: Float[Array, "b h w c"], layers: list[FoldedLayer]
) -> Float[Array, "b h w n"]:
    """`dense_block` with its ReLUs rounded over two widths per layer, the outer one's and the inner one's."""
    return _grow_rounded(widths, x, layers)[0]


def _grow_rounded(widths, x, layers):
    start, growth = x.shape[-1], layers[0].kernel.shape[-1]
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, growth * len(layers))))
    slopes = []
    for index, layer in enumerate(layers):
        width, outer, inner = start + growth * index, *widths[2 * index : 2 * index + 2]
        squeezed = smooth_relu(x[..., :width] * layer.gain + layer.offset, outer) @ layer.squeeze + layer.bias
        slopes.append(jnp.clip(squeezed / inner, 0, 1))
        x = x.at[..., width : width + growth].set(convolve(smooth_relu(squeezed, inner), layer.kernel))
    return x, slopes


def _rounded_forward(widths, x, layers):
    trained = _trained(layers)
    x, layers = custom_vjp_primal_tree_values((x, layers))
    grown, slopes = _grow_rounded(widths, x, layers)
    return grown, (grown, slopes, layers, x if trained else None)


def _rounded_backward(widths, saved, cotangent):
    grown, slopes, layers, trained_at = saved
    gradient = cotangent
    for layer, outer, slope in zip(reversed(layers), widths[-2::-2], reversed(slopes), strict=True):
        width, growth = len(layer.gain), layer.kernel.shape[-1]
        inner = convolve(gradient[..., width : width + growth], flipped(layer.kernel)) * slope
        outer_slope = jnp.clip((grown[..., :width] * layer.gain + layer.offset) / outer, 0, 1)
        gradient = gradient.at[..., :width].add(inner @ (layer.squeeze.T * layer.gain) * outer_slope)
    grow = partial(_grow_rounded, widths)
    return gradient[..., : len(layers[0].gain)], _weight_gradient(grow, trained_at, layers, cotangent)


rounded_dense_block.defvjp(_rounded_forward, _rounded_backward, symbolic_zeros=True)
dense_block = rounded_by(rounded_dense_block)(dense_block)


class _Bottleneck(nn.Module):
    """BN-ReLU-1×1(4·growth)-BN-ReLU-3×3(growth), as it is initialized: it runs as part of a dense block."""

    growth: int

    @nn.compact
    def __call__(self, x):
        x = Conv(4 * self.growth, name="conv1")(nn.relu(Norm(name="norm1")(x)))
        x = nn.relu(Norm(name="norm2")(x))
        return Conv(self.growth, window=3, name="conv2")(x)


def variable_shapes(model: DenseNet | None = None) -> dict[str, tuple[int, ...]]:
    """Return the shape of each variable of a network (default: the default `DenseNet`), without tracing it.

    Names are paths in the tree of variables, such as `params/dense1.0/conv1/kernel`.
    """
    model = model or DenseNet()
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        shapes[f"params/{name}/scale"] = shapes[f"params/{name}/bias"] = (channels,)
        shapes[f"batch_stats/{name}/mean"] = shapes[f"batch_stats/{name}/var"] = (channels,)

    growth, channels = model.growth, 2 * model.growth
    shapes["params/stem/kernel"] = (3, 3, 3, channels)
    for block, depth in enumerate(model.blocks, 1):
        for index in range(depth):
            name = f"dense{block}.{index}"
            norm(f"{name}/norm1", channels)
            shapes[f"params/{name}/conv1/kernel"] = (1, 1, channels, 4 * growth)
            norm(f"{name}/norm2", 4 * growth)
            shapes[f"params/{name}/conv2/kernel"] = (3, 3, 4 * growth, growth)
            channels += growth
        if block < len(model.blocks):
            norm(f"transition{block}.norm", channels)
            shapes[f"params/transition{block}.conv/kernel"] = (1, 1, channels, model.kept(channels))
            channels = model.kept(channels)
    norm("norm", channels)
    shapes["params/classifier/kernel"] = (channels, model.classes)
    shapes["params/classifier/bias"] = (model.classes,)
    return shapes


def from_shapes(shapes: Mapping[str, tuple[int, ...]], pool: Literal["max", "average"] = "max") -> DenseNet:
    """Return the DenseNet-BC whose variables have these shapes, or the closest one.

    Each number is the one that most tensors agree on. So a tensor that is missing, unknown or misshapen does not change
    the network, and a comparison with `variable_shapes` finds it.

    Args:
        shapes: Shape of each variable by its name, as `variable_shapes` has them.
        pool: Pooling in the transitions, which the shapes do not reveal.
    """
    depths: dict[int, int] = {}
    for name in shapes:
        found = re.match(r"params/dense(\d{1,4})\.(\d{1,4})/", name)
        # Each layer has ten tensors, so a number above the count of tensors can only be a wrong name.
        if found and max(map(int, found.groups())) <= len(shapes):
            block, index = map(int, found.groups())
            depths[block] = max(depths.get(block, 0), index + 1)
    if not depths:
        return DenseNet(pool=pool)
    blocks = tuple(depths.get(block, 1) for block in range(1, max(depths) + 1))
    growth = _agreed(shapes, [(r"params/dense\d+\.\d+/conv2/kernel", 3)], 12)
    classes = _agreed(shapes, [("params/classifier/bias", 0), ("params/classifier/kernel", 1)], 10)
    channels, low, high = 2 * growth, 0.0, np.inf
    for block, depth in enumerate(blocks[:-1], 1):
        channels += depth * growth
        following = rf"dense{block + 1}\.0"
        places = [(rf"(params|batch_stats)/{following}/norm1/.*", 0), (f"params/{following}/conv1/kernel", 2)]
        kept = _agreed(shapes, [*places, (rf"params/transition{block}\.conv/kernel", 3)], channels // 2)
        # The number of kept channels is rounded down: any reduction in [kept / channels, (kept + 1) / channels) fits.
        low, high = max(low, kept / channels), min(high, (kept + 1) / channels)
        channels = kept
    reduction = next((simple for simple in (0.5, 1.0) if low <= simple < high), (low + high) / 2)
    return DenseNet(pool=pool, blocks=blocks, growth=growth, reduction=reduction, classes=classes)


def _agreed(shapes: Mapping[str, tuple[int, ...]], places: list[tuple[str, int]], default: int) -> int:
    """Return the most frequent size along given axes of the tensors that match given patterns; ties go to the first."""
    votes = Counter(
        shape[axis]
        for pattern, axis in places
        for name, shape in shapes.items()
        if axis < len(shape) and re.fullmatch(pattern, name)
    )
    return max(votes.most_common(1)[0][0], 1) if votes else default
