"""Load any network: `load("densenet", layer="dense3")` returns x → activations and what belongs to it."""

import operator
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jifv._core.check import check_nonnegative, check_range
from jifv._core.files import check_digest
from jifv.models.files import cache
from jifv.models.files.convert import CARDS, convert
from jifv.models.files.storage import digest, read_weights
from jifv.models.networks import densenet, frames, googlenet, srnet
from jifv.parametrize import fourier, geometry, pixels
from jifv.smoothing import smooth

_SHIPPED = Path(__file__).parent / "weights"

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each variable of a network by its name."""


class Network(NamedTuple):
    """A network up to one of its layers.

    Attributes:
        apply: Pure function from one input (H, W, C) to the layer's activations, (h, w, n) or (n,); batch it with
            `jax.vmap`. Raises `ValueError` for values outside the network's range, such as an image of 0 to 255, unless
            they are being traced by `jax.jit`.
        input_shape: (H, W, C).
        output_shape: (h, w, n) or (n,).
        name: Name that the network was loaded by.
        layer: Name of the tapped layer.
        layers: Names of all layers that can be tapped, from input to output.
        feature_names: Name of each channel of the layer: its index or, in the last layer, the class or quantity.
            GoogLeNet has indices there too, in the order of ILSVRC-2012. Ten scores of a DenseNet-BC are assumed to be
            CIFAR-10's unless the file's metadata lists `classes`, separated by commas.
        card: The model card (Markdown): data, recipe, accuracy, licence.
        digest: SHA-256 of the weights and the smoothing, independent of the file format.
        crop: Side of the central window of a photograph that the network is meant to see, over its shorter side; see
            `load_picture`.
    """

    apply: Callable[[jax.Array], jax.Array]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, ...]
    name: str
    layer: str
    layers: tuple[str, ...]
    feature_names: tuple[str, ...]
    card: str
    digest: str
    crop: float = 1.0

    def __repr__(self) -> str:
        return f"Network({self.name}, {self.layer}, {self.input_shape} -> {self.output_shape})"

    @property
    def features(self) -> int:
        """Number of channels of the tapped layer, n."""
        return self.output_shape[-1]

    def typical_inputs(self) -> jax.Array:
        """Draw four random inputs with the spectrum of natural images, (4, H, W, C): what `jifv.smooth` measures on."""
        return _typical_inputs(self.input_shape)


class Listing(NamedTuple):
    """What is known about a network without loading it.

    Attributes:
        name: Name to load it by.
        path: File of its weights; None if it is not there yet.
        missing: How to get the file, if it is not there.
        source: Where the weights come from.
        licence: Licence of the weights.
        accuracy: Accuracy, as the model card states it.
    """

    name: str
    path: Path | None
    missing: str
    source: str
    licence: str
    accuracy: str


def available() -> tuple[str, ...]:
    """Return the names of the networks whose weights are there: in the package or in the cache folder."""
    return tuple(listing.name for listing in listings() if listing.path)


def listings() -> tuple[Listing, ...]:
    """List all networks that have a name, whether or not their weights are there."""
    return tuple(_listing(name, entry) for name, entry in _ENTRIES.items())


def load(
    name: str = "densenet",
    *,
    layer: str | None = None,
    weights: str | Path | None = None,
    input_size: int | tuple[int, int] | None = None,
    smoothing: float = 0.0,
) -> Network:
    """Load a network up to a layer.

    Args:
        name: `"densenet"` (DenseNet-BC(100, 12), CIFAR-10, ten classes) or `"densenet-no-deer"` (the same, trained
            without class 4), RGB in [0, 1], 32×32, and either of them for a file `weights` with a DenseNet-BC of any
            depth, growth, reduction and number of classes; `"googlenet"` (torchvision's) or `"googlenet-bvlc"`
            (Caffe's), ImageNet, RGB in [0, 1], 224×224, which `jifv models fetch` or `convert` puts into the cache
            folder; `"srnet"`, frames of 5 channels (see `SRNet`), 32×32.
        layer: The layer to tap, by default the last one. The error for an unknown layer lists all of them.
        weights: Another file to load: safetensors written by `write_weights`, or anything that `convert` reads.
        input_size: Side, or height and width, of the input, if not the size above. All networks are convolutional up to
            a mean over positions, so any size works for which every layer has a position.
        smoothing: Round off the kinks of ReLU and max pooling by `jifv.smooth`, with this width and the network's
            `typical_inputs`; 0 is the network itself. The aggregation has kinks, too: smooth both at once by
            `jifv.smooth(lambda x: aggregate(network.apply(x)), network.typical_inputs())`.

    Raises:
        ValueError: If the name, the layer, the size, the smoothing, or a tensor's name or shape is wrong, or if the
            file is damaged.
        FileNotFoundError: If the weights are not there; the message says how to get them.
    """
    kind, path, model, variables, metadata = _opened(name, weights)
    size = _size(model, kind, name, input_size)
    card = "" if weights else _card(path)
    check_nonnegative("smoothing", smoothing)
    tapped: str = model.layer_names[-1] if layer is None else layer
    if tapped not in model.layer_names:
        raise ValueError(f"layer must be one of {', '.join(model.layer_names)}, got {layer!r}")
    apply = _tap(model, variables, (*size, kind.channels), kind, name=name, layer=tapped)
    output_shape = jax.eval_shape(apply, jax.ShapeDtypeStruct((*size, kind.channels), jnp.float32)).shape
    if smoothing:
        metadata = {**metadata, "smoothing": repr(float(smoothing))}
        apply = smooth(apply, _typical_inputs((*size, kind.channels)), float(smoothing))
    names = tuple(metadata["classes"].split(",")) if "classes" in metadata else kind.outputs
    if tapped != model.layer_names[-1] or len(names) != output_shape[-1]:
        names = tuple(map(str, range(output_shape[-1])))
    return Network(
        apply=apply,
        input_shape=(*size, kind.channels),
        output_shape=output_shape,
        name=name,
        layer=tapped,
        layers=model.layer_names,
        feature_names=names,
        card=card,
        digest=digest(variables, metadata.get("pool", "") + metadata.get("smoothing", "")),
        crop=kind.crop,
    )


def layer_shapes(
    name: str = "densenet", *, weights: str | Path | None = None, input_size: int | tuple[int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shape of the output of every layer that can be tapped, from input to output; channels come last.

    It takes seconds, as the network is traced up to each of them. See `load` for the arguments and errors.
    """
    kind, _, model, variables, _ = _opened(name, weights)
    shape = (*_size(model, kind, name, input_size), kind.channels)
    taps = partial(_tap, model, jax.device_put(variables), shape, kind, name=name)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return {layer: jax.eval_shape(taps(layer=layer), x).shape for layer in model.layer_names}


class _Kind(NamedTuple):
    """An architecture: everything about a network except the values of its weights.

    `module` makes the network from a file's shapes and metadata; `shapes` returns the shapes that its weights must
    have. `size` is the side of an input, whose values are between `least` and 1. `outputs` names the channels of the
    last layer, if there are equally many. `crop` is that of `Network`.
    """

    title: str
    module: Callable[[Shapes, Mapping[str, str]], Any]
    shapes: Callable[[Any], Shapes]
    size: int
    channels: int
    content: str
    least: int = 0
    outputs: tuple[str, ...] = ()
    crop: float = 1.0


def _googlenet(version) -> _Kind:
    def module(shapes, metadata):
        return googlenet.GoogLeNet(version)

    def shapes(model):
        return googlenet.variable_shapes(version)

    return _Kind(f"a GoogLeNet ({version})", module, shapes, 224, 3, "RGB in [0, 1]", crop=224 / 256)


_DENSENET = _Kind(
    title="a DenseNet-BC",
    module=lambda shapes, metadata: densenet.from_shapes(shapes, metadata.get("pool", "max")),  # pyright: ignore[reportArgumentType]
    shapes=densenet.variable_shapes,
    size=32,
    channels=3,
    content="RGB in [0, 1]",
    outputs=densenet.CLASSES,
)
_SRNET = _Kind(
    title="an SRNet",
    module=lambda shapes, metadata: srnet.SRNet(),
    shapes=lambda model: srnet.variable_shapes(),
    size=32,
    channels=len(frames.INPUT_CHANNELS),
    content="mask in [-1, 1], normal and depth",
    least=-1,
    outputs=frames.OUTPUT_CHANNELS,
)


class _Entry(NamedTuple):
    """A network by its name.

    `shipped` is its file in the package, None if it is converted to the cache. `digest` is the `Network.digest` of the
    shipped weights, so that damage is noticed; files in the cache contain their own.
    """

    kind: _Kind
    shipped: str | None
    missing: str
    digest: str = ""


_ENTRIES = {
    "densenet": _Entry(
        _DENSENET,
        "densenet_bc_100_12_cifar10",
        "train it with `python -m jifv.models.training.densenet`",
        "5609cf76542eb6ace0982ca48793524c70feb7f4395ec04fb53a84b64af15e82",
    ),
    "densenet-no-deer": _Entry(
        _DENSENET,
        "densenet_bc_100_12_cifar10_no_deer",
        "train it with `python -m jifv.models.training.densenet`",
        "0308b42637faca757b85cb752bd25511a8874c3ebd8af57582ab9819badf5f8b",
    ),
    "googlenet": _Entry(
        _googlenet("torchvision"),
        None,
        "run `jifv models fetch googlenet`, or `jifv models convert googlenet --from googlenet-1378be20.pth`",
    ),
    "googlenet-bvlc": _Entry(
        _googlenet("bvlc"),
        None,
        "run `jifv models convert googlenet-bvlc --from FILE` with BVLC's .caffemodel or a copy of it, .onnx or .npz",
    ),
    "srnet": _Entry(
        _SRNET,
        "srnet",
        "train it with `python -m jifv.models.training.srnet`",
        "efa07ff0fb5beaffc5ffff01aeeda584232deb432c21a1ea61f2924f535d4d0b",
    ),
}


def _listing(name: str, entry: _Entry) -> Listing:
    path = _SHIPPED / f"{entry.shipped}.safetensors" if entry.shipped else cache.cached(name)
    there = path.is_file()
    card = _card(path) if there else "" if entry.shipped else CARDS[name]
    return Listing(
        name,
        path if there else None,
        missing="" if there else entry.missing,
        source=_said(card, "Source") or "this project",
        licence=_said(card, "Licence"),
        accuracy=_said(card, "Accuracy"),
    )


def _found(name: str) -> Path:
    there = {listing.name: listing.path for listing in listings() if listing.path}
    if name in there:
        return there[name]
    other = {"googlenet": "googlenet-bvlc", "googlenet-bvlc": "googlenet"}.get(name)
    instead = f"; {other} is there" if other in there else ""
    raise FileNotFoundError(f"no weights of {name} here: {_ENTRIES[name].missing}{instead}")


def _card(path: Path) -> str:
    card = path.with_suffix(".md")
    return card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""


def _said(card: str, subject: str) -> str:
    """Return what follows `- Subject:` in a model card."""
    line = re.search(rf"^- {subject}: (.*)$", card, re.MULTILINE)
    return line[1].replace("**", "") if line else ""


def _size(model: Any, kind: _Kind, name: str, size: Any) -> tuple[int, int]:
    sides = size if isinstance(size, tuple) else (kind.size if size is None else size,) * 2
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        raise TypeError(f"input_size must be an integer or a pair (height, width), got {size!r}") from None
    if min(height, width) < model.smallest:
        raise ValueError(f"input_size must be at least {model.smallest} for {name}, got {size!r}")
    return height, width


def _opened(name: str, weights: str | Path | None) -> tuple[_Kind, Path, Any, dict, Mapping[str, str]]:
    """Find, read and check the weights of a network."""
    if name not in _ENTRIES:
        raise ValueError(f"name must be one of {', '.join(_ENTRIES)}, got {name!r}")
    kind = _ENTRIES[name].kind
    path = Path(weights) if weights else _found(name)
    model, variables, metadata = _read(path, name, kind)
    if not weights and _ENTRIES[name].digest:
        check_digest(path, digest(variables, metadata.get("pool", "")), _ENTRIES[name].digest)
    return kind, path, model, variables, metadata


def _read(path: Path, name: str, kind: _Kind) -> tuple[Any, dict, Mapping[str, str]]:
    """Return the network in a file, its variables and their metadata."""
    if path.suffix != ".safetensors":
        converted = convert(path)
        if _ENTRIES[converted.name].kind is not kind:
            raise ValueError(f"weights in {path} are those of {converted.name}: load them by that name, not by {name}")
        variables, metadata = converted.variables, converted.metadata
    else:
        variables, metadata = read_weights(path)
    found: Any = flatten_dict(jax.tree.map(np.shape, variables), sep="/")
    model = kind.module(found, metadata)
    wanted = kind.shapes(model)
    if different := sorted(key for key in found | wanted if found.get(key) != wanted.get(key)):
        key = different[0]
        if key not in found:
            what = f"{key} of shape {wanted[key]} is missing"
        elif key not in wanted:
            what = f"{key} is unknown"
        else:
            what = f"{key} must have shape {wanted[key]}, got {found[key]}"
        count = f"{len(different)} of {len(wanted)} entries differ"
        raise ValueError(f"weights in {path} are not those of {kind.title}: {what} ({count})")
    return model, variables, metadata


def _tap(
    model: Any, variables: dict, input_shape: tuple[int, int, int], kind: _Kind, *, name: str, layer: str
) -> Callable[[jax.Array], jax.Array]:
    variables = jax.device_put(variables)  # jnp.asarray would compile a program for each shape

    def apply(x: jax.Array) -> jax.Array:
        if x.shape != input_shape:
            raise ValueError(f"x must have shape {input_shape} for {name}, got {x.shape}; use jax.vmap for a batch")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"x must hold floats, {kind.content}, for {name}, got {x.dtype}; divide bytes by 255")
        check_range("x", x, kind.least, 1, f" for {name}, which takes {kind.content}")
        return model.apply(jax.tree.map(lambda leaf: leaf.astype(x.dtype), variables), x[None], layer=layer)[0]

    return apply


def _typical_inputs(shape: tuple[int, int, int]) -> jax.Array:
    phi = fourier(shape, decay=1.0, std=1.0)
    images = jax.vmap(lambda key: phi.apply(phi.init(key)))(jax.random.split(jax.random.key(0), 4))
    if not frames.is_frame(shape[2]):
        return images
    # A frame whose azimuth, polar angle, depth and mask vary as the colours of a natural image do. `pixels` keeps the
    # parameters of black and white finite.
    surface, colours = geometry(shape[:2], mask="continuous"), pixels((*shape[:2], 4))
    return jax.vmap(lambda image: surface.apply(colours.invert(image[..., :4])))(images)
