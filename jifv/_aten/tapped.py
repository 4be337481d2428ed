"""A network of PyTorch up to one of its layers, as a function."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors.numpy import save

from jifv._aten.graph import Graph, Node, dumps
from jifv._aten.interpreter import check_known, evaluate
from jifv._aten.positions import feature_axis, patch_grid
from jifv._core.check import check_floats, check_range
from jifv._core.files import digest, replace_durably

Tokens: TypeAlias = Literal["patches", "all"] | int
"""What comes out of a layer of tokens: the patches on their grid, all tokens, or one of them."""

FORMAT = "jifv.network 2"
"""Of the files that `TorchNetwork.save` writes."""


def digest_of_file(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Compute the SHA-256 of all that `TorchNetwork.save` writes, without the digest itself."""
    return digest(arrays, json.dumps({name: metadata[name] for name in sorted(metadata) if name != "digest"}))


@dataclass(frozen=True, eq=False, repr=False)
class TorchNetwork:
    """A network of PyTorch up to a layer, made by `from_torch`: call it with one image, batch it with `jax.vmap`.

    It is hashed by its identity. Its weights become constants of the compiled program.

    Attributes:
        graph: All operations of the network.
        weights: By their names in PyTorch, with `weights.` in front.
        layer: Name of the tapped layer.
        input_shape: (H, W, C) of an image.
        mean: What is subtracted from each channel.
        std: What each channel is then divided by.
        tokens: What comes out of a layer of tokens.
    """

    graph: Graph
    weights: Mapping[str, np.ndarray]
    layer: str
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokens: Tokens

    def __post_init__(self) -> None:
        if self.layer not in self.graph.layers:
            raise ValueError(f"layer must be one of {', '.join(self.graph.layers)}, got {self.layer!r}")
        if self.tokens not in ("patches", "all") and not isinstance(self.tokens, int):
            raise ValueError(f"tokens must be 'patches', 'all' or an index, got {self.tokens!r}")
        check_known(self._nodes)
        # What is not known in this form is an error here.
        jax.eval_shape(self, jax.ShapeDtypeStruct(self.input_shape, jnp.float32))

    def __call__(self, x: Float[Array | np.ndarray, "h w c"]) -> Float[Array, "*positions n"]:
        """Return the layer's activations for one image: (h, w, n), or (n,) for a layer without positions.

        Raises:
            TypeError: `x` does not hold floats.
            ValueError: `x` does not have the shape `input_shape`, or leaves [0, 1], for which `mean` and `std` are (not
                checked without them, or where values are not known).
        """
        if x.shape != self.input_shape:
            raise ValueError(f"x must have shape {self.input_shape}, got {x.shape}; use jax.vmap for a batch")
        check_floats("x", x)
        if any(self.mean) or any(each != 1 for each in self.std):
            check_range("x", x, 0, 1, " for mean and std; divide bytes by 255")
        image = jnp.asarray(x)
        _, channels, height, width = self.graph.input_shape
        if image.shape[:2] != (height, width):
            image = jax.image.resize(image, (height, width, channels), "linear")
        if any(self.mean):
            image = image - np.asarray(self.mean, image.dtype)
        if any(each != 1 for each in self.std):
            image = image / np.asarray(self.std, image.dtype)
        return self._arranged(evaluate(self.graph, self._nodes, self.weights, image[None]))

    def __repr__(self) -> str:
        return f"TorchNetwork({self.layer!r}, {self.input_shape} -> {self.output_shape})"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(h, w, n) or (n,)."""
        return self._shape(self.layer, self.tokens)

    def layers(self) -> dict[str, tuple[int, ...]]:
        """List the layers that can be tapped, in the order of computation, with the shapes of their activations.

        A module that is called twice is listed as `relu#1` and `relu#2`, one with two results as `block[0]` and
        `block[1]`, and the result of the network itself as `output`. Layers of tokens that are no patches have the
        shape that they have with `tokens="all"`.
        """
        shapes = {}
        for name in self.graph.layers:
            try:
                shapes[name] = self._shape(name, self.tokens)
            except ValueError:
                try:
                    shapes[name] = self._shape(name, "all")
                except ValueError:
                    continue  # not of one image, like windows of attention
        return shapes

    def tap(self, layer: str, *, tokens: Tokens | None = None) -> "TorchNetwork":
        """Return the same network up to another layer.

        Raises:
            ValueError: There is no such layer, or it has no such tokens.
            NotImplementedError: An operation on the way is not known.
        """
        return replace(self, layer=layer, tokens=self.tokens if tokens is None else tokens)

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors: its weights, and its graph and preprocessing as JSON, with a digest of all.

        Raises:
            OSError: The file cannot be written; what was there before stays.
        """
        metadata = {name: json.dumps(getattr(self, name)) for name in ("layer", "input_shape", "mean", "std", "tokens")}
        metadata |= {"format": FORMAT, "graph": dumps(self.graph)}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.weights.items()}
        replace_durably(path, save(arrays, metadata | {"digest": digest_of_file(arrays, metadata)}))

    @cached_property
    def _nodes(self) -> tuple[Node, ...]:
        return self.graph.needed(self.graph.layers[self.layer])

    @cached_property
    def _node_shapes(self) -> dict[str, tuple[int, ...]]:
        return {node.name: node.shape or () for node in self.graph.nodes}

    def _arranged(self, activations: Any) -> Array:
        """Return a result with its positions first and its features last, without the axis of the batch."""
        name = self.graph.layers[self.layer]
        shape = self._shape(self.layer, self.tokens)
        rank = len(activations.order)
        if rank == 4:
            axis = feature_axis(self.graph, name)
            return jnp.asarray(activations.arranged([0, *({1, 2, 3} - {axis}), axis]))[0]
        array = jnp.asarray(activations.plain)[0]
        if rank == 2:
            return array
        if self.tokens == "all":
            return array[:, None]
        if self.tokens == "patches":
            return array[-shape[0] * shape[1] :].reshape(shape)
        return array[self.tokens]

    def _shape(self, layer: str, tokens: Tokens) -> tuple[int, ...]:
        """Return the shape of a layer's activations."""
        name = self.graph.layers[layer]
        shape = self._node_shapes[name]
        if not 2 <= len(shape) <= 4 or shape[0] != 1:
            raise ValueError(f"layer must have activations of one image, got {layer!r} of shape {shape}")
        if len(shape) == 4:
            axis = feature_axis(self.graph, name)
            return (*(shape[dim] for dim in (1, 2, 3) if dim != axis), shape[axis])
        if len(shape) == 2:
            return shape[1:]
        _, count, features = shape
        if tokens == "all":
            return (count, 1, features)
        if tokens == "patches":
            grid = patch_grid(self.graph, name, count)
            if grid is None:
                what = f"layer {layer!r}, whose {count} tokens are no grid of patches"
                raise ValueError(f"tokens must be 'all' or an index for {what}, got 'patches'")
            return (*grid, features)
        if not -count <= tokens < count:
            raise ValueError(f"tokens must be an index of the {count} tokens of layer {layer!r}, got {tokens}")
        return (features,)
