"""One door to every network: ``load("densenet", layer="dense3")`` gives x → activations and what goes with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from . import cifar10
from .densenet import DenseNet, from_torch, variable_shapes
from .storage import read_weights

_FOLDER = Path(__file__).parent / "weights"
_SHIPPED = {
    "densenet": "densenet_bc_100_12_cifar10",
    "densenet-no-deer": "densenet_bc_100_12_cifar10_no_deer",
}


class Network(NamedTuple):
    """A network up to one of its layers.

    Attributes:
        apply: Pure function from one input (H, W, C) to the layer's activations, (h, w, n) or (n,); batch it with
            ``jax.vmap``.
        input_shape: (H, W, C).
        output_shape: (h, w, n) or (n,).
        name: Name the network was loaded by.
        layer: Name of the tapped layer.
        layers: Names of all layers that can be tapped, from input to output.
        feature_names: Name of each channel of the layer: the class, or its index.
        card: The model card (Markdown): data, recipe, accuracy, licence.
    """

    apply: Callable[[jax.Array], jax.Array]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, ...]
    name: str
    layer: str
    layers: tuple[str, ...]
    feature_names: tuple[str, ...]
    card: str

    @property
    def features(self) -> int:
        """Number of channels of the tapped layer, n."""
        return self.output_shape[-1]


def available() -> tuple[str, ...]:
    """Names of the networks whose weights are inside the package."""
    return tuple(name for name, file in _SHIPPED.items() if (_FOLDER / f"{file}.safetensors").is_file())


def load(name: str = "densenet", *, layer: str = "classifier", weights: str | Path | None = None) -> Network:
    """Loads a network up to a layer.

    Args:
        name: ``"densenet"`` (DenseNet-BC(100, 12), CIFAR-10, ten classes) or ``"densenet-no-deer"`` (the same, trained
            without class 4). Both take RGB in [0, 1], 32×32.
        layer: The layer to tap; an error lists the names.
        weights: A file to use instead of the shipped weights: safetensors written by ``write_weights``, or an ``.npz``
            with PyTorch's names and layouts, which is taken to pool by averaging unless it says otherwise in an entry
            ``pool``.

    Raises:
        ValueError: If the name, the layer or a tensor's name or shape is not as expected.
        FileNotFoundError: If there is no such file.
    """
    if name not in _SHIPPED:
        raise ValueError(f"name must be one of {', '.join(_SHIPPED)}; got {name!r}")
    shipped = _FOLDER / f"{_SHIPPED[name]}.safetensors"
    variables, pool = _read_densenet(Path(weights) if weights else shipped)
    card = "" if weights else shipped.with_suffix(".md").read_text(encoding="utf-8")
    model = DenseNet(pool=pool)
    return _tap(model, variables, (32, 32, 3), name=name, layer=layer, card=card)


def _tap(model: nn.Module, variables: dict, input_shape: tuple[int, int, int], *, name, layer, card) -> Network:
    if layer not in model.layer_names:
        raise ValueError(f"layer must be one of {', '.join(model.layer_names)}; got {layer!r}")
    variables = jax.tree.map(jnp.asarray, variables)

    def apply(x: jax.Array) -> jax.Array:
        if x.shape != input_shape:
            raise ValueError(f"x must have shape {input_shape} for {name}; got {x.shape}; batch with jax.vmap")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"x must hold floats, RGB in [0, 1], for {name}; got {x.dtype}; divide bytes by 255")
        return model.apply(jax.tree.map(lambda leaf: leaf.astype(x.dtype), variables), x[None], layer=layer)[0]

    output_shape = jax.eval_shape(apply, jax.ShapeDtypeStruct(input_shape, jnp.float32)).shape
    names = cifar10.CLASSES if layer == "classifier" else tuple(map(str, range(output_shape[-1])))
    return Network(apply, input_shape, output_shape, name, layer, model.layer_names, names, card)


def _read_densenet(path: Path) -> tuple[dict, Any]:
    if path.suffix != ".npz":
        variables, metadata = read_weights(path)
        return _checked(path, variables), metadata.get("pool", "max")
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    with np.load(path) as file:
        state = dict(file)
    pool = str(state.pop("pool", "average"))
    return from_torch(state), pool


def _checked(path: Path, variables: dict) -> dict:
    found, wanted = flatten_dict(jax.tree.map(jnp.shape, variables), sep="/"), variable_shapes()
    if different := sorted(name for name in found | wanted if found.get(name) != wanted.get(name)):
        name = different[0]
        raise ValueError(
            f"weights in {path} are not those of a DenseNet-BC(100, 12) with ten classes: {len(different)} entries "
            f"differ, {name} is {found.get(name, 'missing')}; expected {wanted.get(name, 'no such entry')}"
        )
    return variables
