"""Networks N of other frameworks, up to a layer: functions of one image (H, W, C).

What is a function already, of JAX, Flax, Equinox or Haiku, is a network as it is. `from_torch` makes one of a module of
PyTorch, `from_keras` of a model of Keras 3.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jifv._aten.export import OUTPUT, export
from jifv._aten.graph import loads
from jifv._aten.tapped import FORMAT, Tokens, digest_of_file
from jifv._aten.tapped import TorchNetwork as TorchNetwork
from jifv._core.check import check_floats
from jifv._core.files import check_digest, read_safetensors


def from_torch(
    module: Any,
    example: Any,
    *,
    layer: str | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    resize: int | tuple[int, int] | None = None,
    tokens: Tokens = "patches",
) -> TorchNetwork:
    """Make a JAX function of a module of PyTorch, up to a layer.

    The module is exported (`torch.export`), and its operations are evaluated by JAX, with channels last. PyTorch is
    needed here only: the result is plain data, see `TorchNetwork.save`. What the module computes is fixed at the shape
    of the example; of branches in Python it has those that this shape takes.

    Args:
        module: A `torch.nn.Module` in inference mode (`eval()`) that takes a batch of images (b, C, H, W).
        example: An image (H, W, C), or (1, C, H, W) as PyTorch has it, or either shape. The values do not matter.
        layer: The layer to tap: the output of the submodule of this name, as `module.named_modules()` has them. By
            default that of the module itself. `layers()` of the result lists all.
        mean: What to subtract from images in [0, 1], one number or one for each channel.
        std: What to divide them by then.
        resize: Side, or height and width, that the module wants, if not those of `example`: images are scaled to it,
            bilinearly, with a low-pass filter where they shrink.
        tokens: What comes out of a layer of tokens (t, n), as transformers have them. `"patches"`: the patches on their
            grid, (h, w, n), as if the layer were a convolution's; tokens before them, such as that of the class, are no
            positions and left out. `"all"`: every token as a position of one column, (t, 1, n), for the aggregation
            `mean`. An index: that token alone, (n,), for `identity`; 0 is the class token where there is one.

    Returns:
        The network, a function of one image.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: `module` is not a module of PyTorch.
        ValueError: It is in training; there is no such layer, or its activations are not those of one image; or another
            argument does not fit.
        NotImplementedError: The layer takes an operation that is not known, see docs/networks.md. The message names it,
            and the submodule that it is in.
    """
    image = _image_shape(example)
    sides = image[:2] if resize is None else (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"resize must be a positive side, or height and width, got {resize!r}")
    means, deviations = _channels("mean", mean, image[2]), _channels("std", std, image[2])
    if not all(deviations):
        raise ValueError(f"std must not be 0, got {std!r}")
    graph, weights = export(module, (1, image[2], *sides))
    return TorchNetwork(graph, weights, OUTPUT if layer is None else layer, image, means, deviations, tokens)


def load(path: str | Path, *, layer: str | None = None, tokens: Tokens | None = None) -> TorchNetwork:
    """Read a network that `TorchNetwork.save` has written. PyTorch is not needed.

    Args:
        path: The file.
        layer: Another layer than that of the network that was saved.
        tokens: What comes out of a layer of tokens, if something else.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or none of a network, or there is no such layer.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no network at {path}")
    weights, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} must be a network of jifv, got format {metadata.get('format')!r}")
    try:
        graph = loads(metadata["graph"])
        saved = {name: json.loads(metadata[name]) for name in ("layer", "input_shape", "mean", "std", "tokens")}
        saved |= {name: tuple(saved[name]) for name in ("input_shape", "mean", "std")}
        expected = metadata["digest"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be a network of jifv, got metadata that is not: {error}") from error
    check_digest(path, digest_of_file(weights, metadata), expected)
    saved |= {name: value for name, value in (("layer", layer), ("tokens", tokens)) if value is not None}
    return TorchNetwork(graph, weights, **saved)


@dataclass(frozen=True, eq=False, repr=False)
class KerasNetwork:
    """A network of Keras up to a layer, made by `from_keras`: call it with one image, batch it with `jax.vmap`.

    Attributes:
        model: The model, up to the layer.
        whole: The whole model.
        layer: Name of the tapped layer.
        variables: Values of the trainable and the other variables of `model`.
    """

    model: Any
    whole: Any
    layer: str
    variables: tuple[list[np.ndarray], list[np.ndarray]]

    def __call__(self, x: Float[Array | np.ndarray, "h w c"]) -> Float[Array, "*positions n"]:
        """Return the layer's activations for one image: (h, w, n), or (n,); tokens are positions, (t, 1, n).

        Raises:
            TypeError: `x` does not hold floats.
            ValueError: `x` is no image.
        """
        if x.ndim != 3:
            raise ValueError(f"x must have shape (H, W, C), got {x.shape}; use jax.vmap for a batch")
        check_floats("x", x)
        activations, _ = self.model.stateless_call(*self.variables, jnp.asarray(x)[None], training=False)
        return activations[0][:, None] if activations.ndim == 3 else activations[0]

    def __repr__(self) -> str:
        return f"KerasNetwork({self.whole.name!r}, {self.layer!r})"

    def layers(self) -> tuple[str, ...]:
        """List the layers that can be tapped, in the order of computation."""
        return tuple(layer.name for layer in self.whole.layers)

    def tap(self, layer: str) -> "KerasNetwork":
        """Return the same network up to another layer.

        Raises:
            ValueError: There is no such layer.
        """
        return from_keras(self.whole, layer=layer)


def from_keras(model: Any, *, layer: str | None = None) -> KerasNetwork:
    """Make a pure function of a model of Keras 3 on its JAX backend, up to a layer.

    Args:
        model: A functional or sequential `keras.Model` of images (b, H, W, C), built. It is called for inference.
        layer: Name of the layer to tap, as `model.layers` have them; by default the last one.

    Returns:
        The network, a function of one image.

    Raises:
        ImportError: Keras is not installed.
        TypeError: `model` is not a model of Keras.
        ValueError: Keras has another backend, the model is not built of layers with one output each, or it has no such
            layer.
    """
    import keras  # pyright: ignore[reportMissingImports]

    if keras.backend.backend() != "jax":
        backend = keras.backend.backend()
        raise ValueError(f"KERAS_BACKEND must be jax before keras is imported, got {backend}")
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}")
    names = [each.name for each in model.layers]
    tapped: str = names[-1] if layer is None else layer
    if tapped not in names:
        raise ValueError(f"layer must be one of {', '.join(names)}, got {layer!r}")
    try:
        part = keras.Model(model.inputs, model.get_layer(tapped).output)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"model must be functional or sequential, and built, got {model.name!r}: {error}") from error
    # A copy: Keras may go on training.
    trainable, others = (
        [np.array(variable.value) for variable in variables]
        for variables in (part.trainable_variables, part.non_trainable_variables)
    )
    return KerasNetwork(part, model, tapped, (trainable, others))


def _image_shape(example: Any) -> tuple[int, int, int]:
    shape = tuple(getattr(example, "shape", example))
    if len(shape) == 4 and shape[0] == 1:
        shape = (*shape[2:], shape[1])
    if len(shape) != 3 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in shape):
        raise ValueError(f"example must be an image (H, W, C) or (1, C, H, W), or its shape, got {shape}")
    return shape


def _channels(name: str, value: Any, channels: int) -> tuple[float, ...]:
    numbers = np.asarray(value, float)
    if numbers.shape not in ((), (channels,)) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be a finite number or one for each of {channels} channels, got {value!r}")
    return tuple(np.broadcast_to(numbers, channels).tolist())
