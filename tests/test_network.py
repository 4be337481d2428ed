"""Networks of PyTorch, one for each family: values, gradients and Jacobians are PyTorch's, at every layer."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jifv
from jifv._aten.export import export
from jifv.network import from_torch

torch = pytest.importorskip("torch", reason="the networks are PyTorch's")

from support import torch_families  # noqa: E402

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
OWN = ["vgg", "densenet", "mobilenetv3", "efficientnet", "inception", "transformer"]
HUGGING_FACE = ["resnet", "convnext", "vit", "swin"]
SIZES = {"inception": 40}
# A sixth in the gradient of PyTorch's hard sigmoid is one of float32.
PRECISION = {"mobilenetv3": 1e-7}
LONG = {"vgg", "efficientnet"}  # to compile; the others have their layers
QUICKLY = {"xla_backend_optimization_level": 0}


@cache
def both(name):
    """A module and what is made of it."""
    if name in OWN:
        module = torch_families.random_network(name)
    else:
        module = hugging_face(name, **torch_families.SMALL_CONFIGURATIONS[name])
    return module, brought_over(module, SIZES.get(name, 32))


def hugging_face(name, **configuration):
    pytest.importorskip("transformers", reason="the network is one of Hugging Face's")
    return torch_families.hugging_face(name, **configuration)


def brought_over(module, size):
    return from_torch(module, (size, size, 3), mean=MEAN, std=STD)


def image(network, dtype=np.float32):
    return np.random.default_rng(0).uniform(0, 1, network.input_shape).astype(dtype)


def standardized(x):
    mean, std = (np.asarray(part, x.dtype) for part in (MEAN, STD))
    return torch.from_numpy((x - mean) / std).permute(2, 0, 1)[None]


def theirs(module, x):
    """Class scores and their Jacobian with respect to the image, in PyTorch."""
    x = torch.from_numpy(x).requires_grad_()
    mean, std = (torch.tensor(part, dtype=x.dtype) for part in (MEAN, STD))
    scores = module(((x - mean) / std).permute(2, 0, 1)[None])
    scores = getattr(scores, "logits", scores)[0]
    rows = [torch.autograd.grad(score, x, retain_graph=True)[0].numpy() for score in scores]
    return scores.detach().numpy(), np.stack(rows)


def ours(network, x):
    """The same here, and a gradient."""

    def run(x):
        scores, pull = jax.vjp(network, x)
        return scores, jax.vmap(pull)(jnp.eye(len(scores)))[0], pull(jnp.arange(1.0, len(scores) + 1))[0]

    return jax.jit(run, compiler_options=(jifv.compiler_options() or {}) | QUICKLY)(x)


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def check(module, network, dtype, tolerance):
    x = image(network, dtype)
    module = module.double() if dtype == np.float64 else module.float()
    scores, jacobian = theirs(module, x)
    module.float()
    found = ours(network, x)
    assert found[0].dtype == dtype
    gradient = np.tensordot(np.arange(1.0, len(scores) + 1), jacobian, 1)
    for one, other in zip(found, (scores, jacobian, gradient), strict=True):
        assert relative(one, other) < tolerance


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in OWN + HUGGING_FACE]
)
def test_family_in_float64(name, x64):
    check(*both(name), np.float64, PRECISION.get(name, 1e-10))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in OWN + HUGGING_FACE])
def test_family_in_float32(name):
    check(*both(name), np.float32, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*torch_families.FULL, *HUGGING_FACE])
def test_networks_of_the_papers(name):
    """At their full depth and width, in both precisions."""
    if name in torch_families.FULL:
        module = torch_families.random_network(name, builders=torch_families.FULL)
    else:
        module = hugging_face(name, classes=10, **torch_families.FULL_CONFIGURATIONS[name])
    network = brought_over(module, 128 if name == "swin" else 64)  # windows of four patches in all four stages
    check(module, network, np.float32, 1e-5)
    with jax.enable_x64(True):
        check(module, network, np.float64, PRECISION.get(name, 1e-10))


@pytest.mark.parametrize(("beta", "size", "count"), [(0.75, 3, 1), (0.5, 3, 0), (0.75, 4, 0)])
def test_response_normalization_is_one_operation_where_it_is_ours(beta, size, count, x64):
    part = torch.nn.LocalResponseNorm(size, alpha=0.3, beta=beta, k=2).eval()
    network = from_torch(part, (3, 4, 7))
    assert [node.operation for node in network.graph.nodes].count("local_response_norm") == count
    x = image(network, np.float64)
    expected = part(torch.from_numpy(x).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(network(x), expected, rtol=1e-10)


# Layers.


def outputs(module, x):
    """The results of all calls of all submodules, in order."""
    seen = []

    def hook(name):
        return lambda part, inputs, result: seen.append((name, part, result))

    hooks = [part.register_forward_hook(hook(name)) for name, part in module.named_modules() if name]
    with torch.no_grad():
        result = module(standardized(x))
    for each in hooks:
        each.remove()
    results = []
    for name, part, given in [*seen, ("output", module, result)]:
        tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(given) if isinstance(leaf, torch.Tensor)]
        # Windows are parts of an image.
        results += [(name, part, tensor.numpy()[0] if len(tensor) == 1 else None) for tensor in tensors]
    return results


def positions_first(part, array):
    last = part._get_name() in ("Linear", "GELUActivation") or "LayerNorm" in part._get_name()
    return array if array.ndim < 3 or last else array.transpose(1, 2, 0)


SOME = {
    "efficientnet": ["features.0.2", "features.1.block.6.fc1", "features.2", "classifier.0"],
    "vit": ["vit.embeddings.patch_embeddings.projection", "vit.layers.0.mlp.fc1", "vit.layers.0.dropout#2", "vit"],
    "convnext": ["convnext.encoder.stages.0.layers.0." + part for part in ("dwconv", "layernorm", "pwconv1", "act")],
    "swin": ["swin.encoder.layers.0.blocks.1", "swin.encoder.layers.0[1]", "swin[1]"],
}


@pytest.mark.parametrize("name", [*SOME, "resnet"])
def test_layers(name):
    """All are listed, and some are compared."""
    module, network = both(name)
    x = image(network)
    network = network.tap(network.layer, tokens="all")
    expected = [each for each in outputs(module, x) if each[2] is not None]
    assert [re.sub(r"[#\[].*", "", layer) for layer in network.layers()] == [path for path, _, _ in expected]
    expected = {
        layer: array[:, None] if array.ndim == 2 else positions_first(part, array)
        for layer, (_, part, array) in zip(network.layers(), expected, strict=True)
    }
    assert network.layers() == {layer: array.shape for layer, array in expected.items()}
    taps = {layer: network.tap(layer) for layer in SOME.get(name, [])}
    found = jax.jit(lambda x: {layer: tap(x) for layer, tap in taps.items()}, compiler_options=QUICKLY)(x)
    for layer, array in found.items():
        assert array.shape == taps[layer].output_shape
        np.testing.assert_allclose(array, expected[layer], rtol=1e-4, atol=1e-5 * np.abs(array).max())


def test_what_works_in_place_does_not_change_the_layer_before():
    part = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(inplace=True)).eval()
    network = from_torch(part, (6, 5, 3), layer="0")
    x = np.random.default_rng(0).uniform(0, 1, (6, 5, 3)).astype(np.float32)
    assert (network(x) < 0).any()
    np.testing.assert_array_equal(network.tap("1")(x), np.maximum(network(x), 0))


def test_tokens():
    _, network = both("vit")
    x = image(network)
    everything = network.tap("vit.layers.0", tokens="all")(x)
    patches = network.tap("vit.layers.0")
    assert everything.shape == (1 + 4 * 4, 1, 12)
    assert patches.output_shape == (4, 4, 12)
    # 32×32 in patches of 8×8, row by row, behind the token of the class.
    np.testing.assert_array_equal(patches(x), everything[1:, 0].reshape(4, 4, 12))
    np.testing.assert_array_equal(network.tap("vit.layers.0", tokens=0)(x), everything[0, 0])
    with pytest.raises(ValueError, match=r"tokens must be an index of the 17 tokens of layer 'vit.layers.0', got 17"):
        network.tap("vit.layers.0", tokens=17)
    assert (jifv.mean(everything) != jifv.mean(patches(x))).any()


def test_tokens_that_are_no_patches():
    class Words(torch.nn.Module):
        def forward(self, x):
            return x.flatten(2)

    network = from_torch(Words().eval(), (2, 3, 5), tokens="all")
    assert network.output_shape == (5, 1, 6)
    assert network.layers() == {"output": (5, 1, 6)}
    with pytest.raises(ValueError, match=r"tokens must be 'all' or an index .* 5 tokens are no grid .* got 'patches'"):
        network.tap("output", tokens="patches")


# Images.


def test_resize_and_channels():
    torch.manual_seed(0)
    part = torch.nn.Conv2d(3, 2, 3, stride=2).eval()
    network = from_torch(part, (1, 3, 20, 15), resize=(9, 8), mean=0.5, std=MEAN)
    assert network.input_shape == (20, 15, 3)
    x = image(network)
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(x).permute(2, 0, 1)[None], (9, 8), mode="bilinear", antialias=True
    )
    expected = part((scaled - 0.5) / torch.tensor(MEAN)[:, None, None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(network(x), expected.detach(), rtol=1e-4, atol=1e-5)
    batch = jax.vmap(network)(jnp.stack([x, x[::-1]]))
    np.testing.assert_allclose(batch[0], network(x), rtol=1e-5, atol=1e-6)


def test_weights_are_copies():
    part = torch.nn.Conv2d(3, 2, 1).eval()
    network = from_torch(part, torch.zeros(1, 3, 4, 4))
    before = network(np.ones((4, 4, 3), np.float32))
    with torch.no_grad():
        part.weight.zero_()
    np.testing.assert_array_equal(network(np.ones((4, 4, 3), np.float32)), before)


def test_half_precision_is_computed_in_that_of_the_image():
    part = torch.nn.Conv2d(3, 2, 1).to(torch.bfloat16).eval()
    network = from_torch(part, (4, 4, 3))
    found = network(np.ones((4, 4, 3), np.float32))
    np.testing.assert_allclose(found, part.float()(torch.ones(1, 3, 4, 4))[0].permute(1, 2, 0).detach(), rtol=1e-5)


# Errors.


class Sorted(torch.nn.Module):
    def forward(self, x):
        return torch.sort(x, dim=1).values


def test_unknown_operation_is_named_with_its_module():
    part = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(Sorted()), torch.nn.ReLU()).eval()
    with pytest.raises(NotImplementedError, match=r"operations that jifv does not know: sort in module '1.0'$"):
        from_torch(part, (4, 4, 3))
    assert from_torch(part, (4, 4, 3), layer="0").layers().keys() == {"0", "1.0", "1", "2", "output"}


def test_form_of_an_operation_that_is_not_known():
    part = torch.nn.Sequential(torch.nn.MaxPool2d(2, dilation=2)).eval()
    with pytest.raises(NotImplementedError, match=r"without gaps.* \(max_pool2d_with_indices in module '0'\)"):
        from_torch(part, (6, 6, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "2"}, "layer must be one of 0, 1, output, got '2'"),
        ({"example": (4, 4)}, r"example must be an image \(H, W, C\) or \(1, C, H, W\), or its shape, got \(4, 4\)"),
        ({"example": (2, 3, 4, 4)}, "example must be an image"),
        ({"mean": (1, 2)}, r"mean must be a finite number or one for each of 3 channels, got \(1, 2\)"),
        ({"std": 0}, "std must not be 0, got 0"),
        ({"tokens": "class"}, "tokens must be 'patches', 'all' or an index, got 'class'"),
        ({"resize": (4, 0)}, r"resize must be a positive side, or height and width, got \(4, 0\)"),
    ],
)
def test_wrong_arguments(options, message, unchecked):
    part = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.ReLU()).eval()
    with pytest.raises(ValueError, match=message):
        from_torch(part, **{"example": (4, 4, 3)} | options)


def test_wrong_modules():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got function"):
        from_torch(lambda x: x, (4, 4, 3))
    part = torch.nn.Sequential(torch.nn.Dropout()).eval()
    part[0].train()
    with pytest.raises(ValueError, match=r"module must be in inference mode, got 0 in training: call eval\(\)"):
        from_torch(part, (4, 4, 3))
    assert not part[0]._forward_hooks


def test_wrong_images(unchecked):
    network = from_torch(torch.nn.ReLU().eval(), (4, 4, 3))
    with pytest.raises(ValueError, match=r"x must have shape \(4, 4, 3\), got \(1, 4, 4, 3\); use jax.vmap"):
        network(np.zeros((1, 4, 4, 3), np.float32))
    with pytest.raises(TypeError, match="x must hold real floating-point numbers, got int"):
        network(np.zeros((4, 4, 3), int))


def test_layers_of_several_images_are_not_listed():
    class Windows(torch.nn.Module):
        def forward(self, x):
            return self.relu(x.reshape(4, -1, 3)).sum((0, 1))[None]

        def __init__(self):
            super().__init__()
            self.relu = torch.nn.ReLU()

    network = from_torch(Windows().eval(), (4, 4, 3))
    assert network.layers() == {"output": (3,)}
    with pytest.raises(ValueError, match=r"layer must have activations of one image, got 'relu' of shape \(4, 4, 3\)"):
        network.tap("relu")


def test_hooks_are_gone():
    part = torch.nn.Sequential(torch.nn.ReLU()).eval()
    export(part, (1, 3, 4, 4))
    assert not part[0]._forward_hooks
