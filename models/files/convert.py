"""Convert third-party weight files to variables of our networks; the tensor names identify the source.

`formats.read` returns the tensors under the file's own names. `googlenet_from_torchvision`, `googlenet_from_caffe`,
`googlenet_from_npz` and `densenet_from_torch` turn them into variables. `convert` does both.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jifv.models.files.formats import read
from jifv.models.networks import densenet, googlenet

Tensors = dict[str, np.ndarray]


class Converted(NamedTuple):
    """A network read from a third-party file.

    Attributes:
        name: `"googlenet"` (torchvision's), `"googlenet-bvlc"` or `"densenet"`.
        variables: Variables for the module's `apply`, in float32.
        metadata: The file's name (`file`) and `sha256`, the network's `version` and `licence`; for a DenseNet, its
            `pool` and its `architecture`, such as "DenseNet-BC(100, 12), 10 classes".
    """

    name: str
    variables: dict
    metadata: dict[str, str]

    def __repr__(self) -> str:
        return f"Converted({self.name}, {self.metadata})"


def convert(path: str | Path) -> Converted:
    """Read a weight file of any supported format and network.

    Formats: torch.save (`.pth`, `.pth.tar`; read without PyTorch and without running anything in the file), ONNX,
    Caffe's `.caffemodel`, and `.npz` with one kernel per layer (HWIO) or with PyTorch's names. Networks: GoogLeNet in
    both versions, and DenseNet-BC of any depth, growth, reduction and number of classes, as the shapes say. A DenseNet
    is assumed to use average pooling unless the file has an entry `pool`, and it standardizes its input by CIFAR-10's
    moments. A scope that prefixes every name is dropped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format or the network is not recognised, the file is damaged, or a tensor is missing,
            unknown, misshapen or not finite; the message names it.
        ImportError: If the file needs the package onnx, which is not installed.
    """
    path = Path(path)
    tensors = read(path)
    recognised = ((source, name) for source in _SOURCES for name in tensors if name.endswith(source.anchor))
    source, name = next(recognised, (None, ""))
    if source is None:
        raise ValueError(
            f"{path} holds no supported network (GoogLeNet of torchvision or BVLC, DenseNet-BC): its {len(tensors)} "
            f"tensors have other names, such as {', '.join(sorted(tensors)[:3])}"
        )
    scope = name.removesuffix(source.anchor)
    tensors = {name.removeprefix(scope): tensor for name, tensor in tensors.items()}
    metadata = dict(source.metadata)
    if "pool" in metadata:
        metadata["pool"] = str(tensors.pop("pool", metadata["pool"]))
    variables = source.build(tensors)
    arrays: dict[str, np.ndarray] = flatten_dict(variables, sep="/")  # pyright: ignore[reportAssignmentType]
    if source.network == "densenet":
        model = densenet.from_shapes({name: leaf.shape for name, leaf in arrays.items()})
        metadata["architecture"] = f"{model.title}, {model.classes} classes"
    for name, leaf in arrays.items():
        if not np.isfinite(leaf).all():
            raise ValueError(f"weights in {path} must be finite, got NaN or infinity in {name}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Converted(source.network, variables, {**metadata, "file": path.name, "sha256": digest})


# From tensors to variables.


def googlenet_from_torchvision(tensors: Tensors) -> dict:
    """Convert torchvision's state to GoogLeNet, version `"torchvision"`.

    Args:
        tensors: Names such as `inception4c.branch2.1.bn.running_mean`, kernels OIHW. The auxiliary heads `aux1` and
            `aux2` are ignored.

    Raises:
        ValueError: If a tensor is missing, left over or misshapen; the message names it.
    """
    return _googlenet("torchvision", tensors, _torchvision_name, _OIHW, ignored=("aux1.", "aux2."))


def googlenet_from_caffe(tensors: Tensors) -> dict:
    """Convert the tensors of a Caffe or ONNX file to GoogLeNet, version `"bvlc"`.

    Args:
        tensors: Names such as `inception_4c/3x3_reduce_w_0` (kernel, OIHW) and `…_b_0` (bias). The auxiliary heads
            `loss1` and `loss2` are ignored.

    Raises:
        ValueError: If a tensor is missing, left over or misshapen; the message names it.
    """
    return _googlenet("bvlc", tensors, _caffe_name, _OIHW, ignored=("loss1/", "loss2/"))


def googlenet_from_npz(tensors: Tensors) -> dict:
    """Convert one kernel and one bias per layer, as in JavaScript ports of Caffe, to GoogLeNet, version `"bvlc"`.

    Args:
        tensors: Names such as `inception_4c.3x3_reduce.kernel` (HWIO) and `….bias`. The auxiliary heads `loss1`
            and `loss2` are ignored.

    Raises:
        ValueError: If a tensor is missing, left over or misshapen; the message names it.
    """
    return _googlenet("bvlc", tensors, _npz_name, {}, ignored=("loss1.", "loss2."))


def densenet_from_torch(tensors: Mapping[str, Any]) -> dict:
    """Convert the state of the PyTorch DenseNet-BC behind the public CIFAR checkpoints.

    Args:
        tensors: Names such as `block1.layer.0.bn1.weight`, `trans1.conv1.weight` and `fc.bias`, kernels OIHW, of any
            depth, growth, reduction and number of classes: NumPy arrays or anything that `np.asarray` takes.
            `densenet.from_shapes` returns the network.

    Raises:
        ValueError: If a tensor is missing, unknown or misshapen; the message names it.
    """
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    shapes = {}
    for name, array in arrays.items():
        axes = _OIHW.get(array.ndim, range(array.ndim))
        shapes[_densenet_flax_name(name)] = tuple(array.shape[axis] for axis in axes)
    model = densenet.from_shapes(shapes)
    return _fill(model.title, densenet.variable_shapes(model), arrays, _densenet_name, _OIHW)


_OIHW = {4: (2, 3, 1, 0), 2: (1, 0)}
"""Transposition of PyTorch's and Caffe's kernels to Flax's layout, by rank: OIHW → HWIO, and the classifier's."""


def _googlenet(version: Literal["bvlc", "torchvision"], *arguments, **options) -> dict:
    return _fill(f"GoogLeNet ({version})", googlenet.variable_shapes(version), *arguments, **options)


def _fill(
    title: str,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Tensors,
    name_of: Callable[[str], str],
    layout: Mapping[int, tuple[int, ...]],
    ignored: tuple[str, ...] = (),
) -> dict:
    sources = {name: name_of(name) for name in shapes}
    left_over = {name for name in tensors if not name.startswith(ignored) and not name.endswith("num_batches_tracked")}
    if missing := set(sources.values()) - tensors.keys():
        raise ValueError(f"{title} has missing tensors: {_some(missing)}")
    if left_over := left_over - set(sources.values()):
        raise ValueError(f"{title} has unknown tensors: {_some(left_over)}")
    arrays = {}
    for name, shape in shapes.items():
        value = np.asarray(tensors[sources[name]], np.float32)
        axes = layout.get(len(shape), range(len(shape)))
        expected = tuple(shape[axis] for axis in np.argsort(axes))
        if value.shape != expected:
            raise ValueError(f"{sources[name]} must have shape {expected} in {title}, got {value.shape}")
        arrays[name] = np.ascontiguousarray(value.transpose(axes))
    return unflatten_dict(arrays, sep="/")


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


_TORCHVISION_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
_TORCHVISION_LEAVES = {
    "norm/scale": "bn.weight",
    "norm/bias": "bn.bias",
    "norm/mean": "bn.running_mean",
    "norm/var": "bn.running_var",
    "kernel": "conv.weight",
}


def _torchvision_name(name: str) -> str:
    """`batch_stats/inception4c/3x3/norm/mean` → `inception4c.branch2.1.bn.running_mean`."""
    module, *rest = name.split("/")[1:]
    if module == "classifier":
        return {"kernel": "fc.weight", "bias": "fc.bias"}[rest[0]]
    if module.startswith("inception"):
        module = f"{module}.{_TORCHVISION_BRANCHES[rest.pop(0)]}"
    return f"{module}.{_TORCHVISION_LEAVES['/'.join(rest)]}"


_BVLC_MODULES = {
    "conv1": "conv1/7x7_s2",
    "conv2": "conv2/3x3_reduce",
    "conv3": "conv2/3x3",
    "classifier": "loss3/classifier",
}


def _bvlc_name(name: str) -> tuple[str, str]:
    """`params/inception4c/3x3/kernel` → `("inception_4c/3x3", "kernel")`."""
    module, leaf = name.removeprefix("params/").rsplit("/", 1)
    return _BVLC_MODULES.get(module, module.replace("inception", "inception_")), leaf


def _caffe_name(name: str) -> str:
    module, leaf = _bvlc_name(name)
    return f"{module}_{leaf[0].replace('k', 'w')}_0"


def _npz_name(name: str) -> str:
    module, leaf = _bvlc_name(name)
    return f"{module.replace('/', '.')}.{leaf}"


_DENSENET_LEAVES = {
    "bn.weight": ("params", "scale"),
    "bn.bias": ("params", "bias"),
    "bn.running_mean": ("batch_stats", "mean"),
    "bn.running_var": ("batch_stats", "var"),
    "conv.weight": ("params", "kernel"),
    "fc.weight": ("params", "kernel"),
    "fc.bias": ("params", "bias"),
}


def _densenet_flax_name(name: str) -> str:
    """`block1.layer.0.bn1.running_mean` → `batch_stats/dense1.0/norm1/mean`; unknown names stay as they are."""
    match = re.fullmatch(r"(?:block(\d+)\.layer\.(\d+)\.|trans(\d+)\.)?(bn|conv|fc)(\d?)\.(\w+)", name)
    if match is None:
        return name
    block, index, transition, kind, number, leaf = match.groups()
    if f"{kind}.{leaf}" not in _DENSENET_LEAVES:
        return name
    collection, leaf = _DENSENET_LEAVES[f"{kind}.{leaf}"]
    word = {"bn": "norm", "conv": "conv", "fc": "classifier"}[kind]
    if block:
        module = f"dense{block}.{index}/{word}{number}"
    elif transition:
        module = f"transition{transition}.{word}"
    else:
        module = "stem" if kind == "conv" else word
    return f"{collection}/{module}/{leaf}"


def _densenet_name(name: str) -> str:
    """`batch_stats/dense1.0/norm1/mean` → `block1.layer.0.bn1.running_mean`, the inverse of `_densenet_flax_name`."""
    collection, *modules, leaf = name.split("/")
    module = re.sub(r"^dense(\d+)\.", r"block\1.layer.", re.sub(r"^transition", "trans", ".".join(modules)))
    module = {"stem": "conv1", "norm": "bn1", "classifier": "fc"}.get(module, module)
    module = re.sub(r"^(trans\d+)\.(norm|conv)$", r"\1.\g<2>1", module).replace("norm", "bn")
    kind = re.sub(r"\d", "", module.rpartition(".")[2])
    leaves = {target: key[len(kind) + 1 :] for key, target in _DENSENET_LEAVES.items() if key.startswith(f"{kind}.")}
    return f"{module}.{leaves[collection, leaf]}"


class _Source(NamedTuple):
    """A naming scheme: the network it belongs to, the tensor that identifies it, and how to convert it."""

    network: str
    anchor: str
    build: Callable[[Tensors], dict]
    metadata: dict[str, str]


_TORCHVISION = {"version": "torchvision", "licence": "BSD-3-Clause (torchvision)"}
_BVLC = {"version": "bvlc", "licence": "unrestricted use (BVLC)"}
_SOURCES = (
    _Source("googlenet", "inception3a.branch1.conv.weight", googlenet_from_torchvision, _TORCHVISION),
    _Source("googlenet-bvlc", "conv1/7x7_s2_w_0", googlenet_from_caffe, _BVLC),
    _Source("googlenet-bvlc", "conv1.7x7_s2.kernel", googlenet_from_npz, _BVLC),
    _Source("densenet", "block1.layer.0.bn1.weight", densenet_from_torch, {"pool": "average"}),
)


# Model cards.


CARDS = {
    "googlenet": """# GoogLeNet, torchvision's version, ImageNet

Szegedy et al. 2014 (https://arxiv.org/abs/1409.4842) with batch normalization and a 3×3 convolution in the branch named
5×5. Input: RGB in [0, 1], 224×224 or another size; the network does its own preprocessing.

- Accuracy: **69.8%** top-1, 89.5% top-5 on ImageNet's validation images, centre crop, as torchvision reports.
- Data: ImageNet (ILSVRC 2012), 1,000 classes.
- Source: torchvision, googlenet-1378be20.pth
- Licence: BSD-3-Clause (torchvision). Whether the training data imply further terms is left to the user.
""",
    "googlenet-bvlc": """# GoogLeNet, BVLC's version, ImageNet

Szegedy et al. 2014 (https://arxiv.org/abs/1409.4842), trained by Sergio Guadarrama with Caffe: local response
normalization, biases, 5×5 convolutions. Input: RGB in [0, 1], 224×224 or another size; the network does its own
preprocessing.

- Accuracy: **68.7%** top-1, 88.9% top-5 on ImageNet's validation images, centre crop, as BVLC reports.
- Data: ImageNet (ILSVRC 2012), 1,000 classes.
- Source: BVLC, bvlc_googlenet.caffemodel, and copies of it as ONNX and npz
- Licence: unrestricted use (BVLC); a copy may add its own terms.
""",
    "densenet": """# {architecture}

Huang et al. 2017 (https://arxiv.org/abs/1608.06993), {pool} pooling in the transitions. Input: RGB in [0, 1], 32×32;
the network standardizes it by CIFAR-10's moments.

- Accuracy: unknown.
- Data: unknown.
- Source: a third-party checkpoint
- Licence: that of the file.
""",
}
"""Model cards of the networks that are converted rather than trained here, before the line about the file."""


def card(converted: Converted) -> str:
    """Return the model card (Markdown) of a converted network."""
    metadata = converted.metadata
    origin = f", from {metadata['url']}" if "url" in metadata else ""
    known = CARDS[converted.name].format_map({"architecture": "DenseNet-BC", "pool": "average"} | metadata)
    return f"{known}- Converted from {metadata['file']}{origin}, sha256 {metadata['sha256']}.\n"
