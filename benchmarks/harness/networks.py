"""The networks of the benchmarks, ours and PyTorch's, with the same weights, realizations and objectives.

PyTorch's are the modules that the tests compare ours with. Whoever builds one does not import JAX.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import pairs
from safetensors import safe_open


class Tap(NamedTuple):
    """A layer of a network: its name, the size of the network's input and the number of features."""

    layer: str
    size: int
    features: int


TAPS = {
    "densenet": Tap("dense3", 32, 342),
    "googlenet-bvlc": Tap("inception4c", 224, 512),
    "srnet": Tap("block8", 32, 64),
}


def weights(name: str, folder: str | Path) -> Path:
    """The network's file of weights; random ones, written to a folder, if they are in no cache."""
    from jifv.models import listings, write_weights
    from jifv.models.networks import googlenet

    there = {listing.name: listing.path for listing in listings() if listing.path}
    if name in there:
        return there[name]
    rng = np.random.default_rng(0)
    variables: dict = {"params": {}}
    for path, shape in googlenet.variable_shapes("bvlc").items():
        spread = (2 / np.prod(shape[:-1])) ** 0.5 if len(shape) > 1 else 0.1
        *scopes, leaf = path.split("/")
        scope = variables
        for part in scopes:
            scope = scope.setdefault(part, {})
        scope[leaf] = rng.normal(0, spread, shape).astype(np.float32)
    file = Path(folder) / f"{name}-random.safetensors"
    write_weights(file, variables, {"version": "bvlc"})
    return file


def inputs(name: str, batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Realizations p, of shape (batch, size, size, 3), and objectives v, (batch, n)."""
    rng = np.random.default_rng(batch)
    p = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
    v = np.abs(rng.normal(size=(batch, TAPS[name].features))).astype(np.float32)
    return p, v / np.linalg.norm(v, axis=1, keepdims=True)


def complement_of_ones(features: int) -> np.ndarray:
    """An orthonormal basis of what a softmax sees of its scores: all but their common shift."""
    return np.linalg.svd(np.ones((1, features)))[2][1:].T.astype(np.float32)


def ours(name: str, path: str | Path, size: int) -> Callable:
    """f of one sample: p in pixels, for SRNet the geometry with a fixed mask, and max-mean of the layer."""
    import jifv
    from jifv.models import load

    network = load(name, layer=TAPS[name].layer, weights=path, input_size=size)
    phi = jifv.geometry((size, size)) if name == "srnet" else jifv.pixels((size, size, 3))
    return jifv.compose(phi.apply, network.apply, jifv.max_mean(3, 2))


def cores_as_devices(devices: int) -> Any:
    """A mesh of so many devices, each a core of the CPU; None for one. JAX must not have started."""
    import jax

    if devices == 1:
        return None
    jax.config.update("jax_num_cpu_devices", devices)
    if jax.default_backend() != "cpu":
        raise pairs.Unavailable("the cores of a CPU are no devices beside an accelerator")
    import jifv

    return jifv.sample_mesh()


def theirs(name: str, path: str | Path, *, channels_last: bool = False) -> tuple[Callable, Callable]:
    """The same in PyTorch.

    Returns:
        f of a batch, p of shape (b, 3, H, W) to r (b, n), and the function that makes p of NumPy's (b, H, W, 3).
    """
    import torch
    from torch.nn.functional import max_pool2d

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # our default is float32
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = torch_network(name, path).eval().requires_grad_(False).to(device, memory_format=layout)
    activations = _ACTIVATIONS[name](network)
    phi = _geometry if name == "srnet" else torch.sigmoid

    def f(p: Any) -> Any:
        x = phi(p).contiguous(memory_format=layout)
        return max_pool2d(activations(x), 3, 2).mean((2, 3))

    def parameters(p: np.ndarray) -> Any:
        return torch.from_numpy(p).to(device).permute(0, 3, 1, 2).contiguous(memory_format=layout)

    return f, parameters


def torch_network(name: str, path: str | Path) -> Any:
    """PyTorch's module with the weights in a file of ours."""
    import torch

    tests = str(Path(__file__).resolve().parent.parent.parent / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if name == "densenet":
        from support.torch_densenet import TorchDenseNet

        network = TorchDenseNet(metadata.get("pool", "max"))
    elif name == "srnet":
        from support.torch_srnet import TorchSRNet

        network = TorchSRNet()
    else:
        from support.torch_googlenet import TorchGoogLeNet

        network = TorchGoogLeNet("bvlc")
    state = {}
    for key, value in arrays.items():
        value = value.transpose(_TO_TORCH.get(value.ndim, (0,)))
        state[torch_name(name, key)] = torch.from_numpy(np.ascontiguousarray(value))
    network.load_state_dict(state)
    return network


_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
"""Axes of Flax's kernels in PyTorch's order, by their number: HWIO → OIHW, and those of the classifier."""

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}


def torch_name(network: str, name: str) -> str:
    """``batch_stats/dense1.0/norm1/mean`` → ``block1.layer.0.bn1.running_mean``, and the like for each network."""
    module, leaf = name.split("/", 1)[1].rsplit("/", 1)
    if module == "classifier":
        module = "fc"
    elif network == "densenet":
        module = re.sub(r"^norm$", "bn1", re.sub(r"^stem$", "conv1", module))
        module = re.sub(r"^transition(\d)\.(\w+)$", r"trans\1.\g<2>1", module)
        module = re.sub(r"^dense(\d)\.(\d+)/", r"block\1.layer.\2.", module).replace("norm", "bn")
    elif network == "srnet":
        module = re.sub(r"^block(\d+)/", lambda match: f"blocks.{int(match[1]) - 1}.", module)
    else:
        block, _, branch = module.partition("/")
        module = ".".join([block, *([_BRANCHES[branch]] if branch else []), "conv"])
    return f"{module}.{_LEAVES[leaf]}"


# Up to the tapped layer, and nothing past it.


def _dense3(network: Any) -> Callable:
    def activations(x: Any) -> Any:
        x = network.conv1((x - network.shift) / network.scale)
        return network.block3(network.trans2(network.block2(network.trans1(network.block1(x)))))

    return activations


def _inception4c(network: Any) -> Callable:
    def activations(x: Any) -> Any:
        x = network.norm1(network.maxpool1(network.conv1(network.preprocess(x))))
        x = network.maxpool2(network.norm2(network.conv3(network.conv2(x))))
        x = network.maxpool3(network.inception3b(network.inception3a(x)))
        return network.inception4c(network.inception4b(network.inception4a(x)))

    return activations


def _blocks(network: Any) -> Callable:
    from torch.nn.functional import conv2d

    count = int(TAPS["srnet"].layer.removeprefix("block"))

    # The first frame of a sequence has none before it: the channels for it are left out, as ours does.
    kernel = network.conv1.weight[:, :5].clone()

    def activations(x: Any) -> Any:
        return network.blocks[:count](conv2d(x, kernel, network.conv1.bias, padding=1).relu())

    return activations


_ACTIVATIONS = {"densenet": _dense3, "googlenet-bvlc": _inception4c, "srnet": _blocks}


def _geometry(p: Any) -> Any:
    """`jifv.geometry` with a fixed mask, (b, 3, H, W) to (b, 5, H, W)."""
    import torch

    epsilon = torch.finfo(p.dtype).eps
    azimuth, polar, depth = p.unbind(1)
    radius, z = (
        torch.sin(torch.pi / 2 * (epsilon + (1 - 2 * epsilon) * torch.sigmoid(sign * polar))) for sign in (1, -1)
    )
    frame = [torch.ones_like(depth), radius * azimuth.cos(), radius * azimuth.sin(), z, torch.sigmoid(depth)]
    return torch.stack(frame, 1)
